package jsonedit_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/internal/jsonscan"
)

func set(key, value string) jsonedit.Edit { return jsonedit.Edit{Key: key, Value: []byte(value)} }

func TestObject(t *testing.T) {
	drop := jsonedit.Edit{Key: "b"}
	for _, tt := range []struct {
		in, out string
		edits   []jsonedit.Edit
	}{
		{`{"a":1, "b":2, "c":3}`, `{"a":1, "b":9, "c":3}`, []jsonedit.Edit{set("b", "9")}},
		{`{"a":1, "b":2, "c":3}`, `{"a":1 , "c":3}`, []jsonedit.Edit{drop}},
		{`{"b":2, "c":3}`, `{ "c":3}`, []jsonedit.Edit{drop}},
		{`{"a":1,"b":2}`, `{"a":1}`, []jsonedit.Edit{drop}},
		{`{"a":1,"b":2,"b":3}`, `{"a":1}`, []jsonedit.Edit{drop}},
		{`{"b":2}`, `{}`, []jsonedit.Edit{drop}},
		{`{"b":2}`, `{"x":1}`, []jsonedit.Edit{drop, set("x", "1")}},
		{`{}`, `{"x":1}`, []jsonedit.Edit{set("x", "1")}},
		{` { } `, ` { "x":1} `, []jsonedit.Edit{drop, set("x", "1")}},
		{"\xef\xbb\xbf{\"a\":1}\n", "\xef\xbb\xbf{\"a\":1,\"x\":[]}\n", []jsonedit.Edit{set("x", "[]")}},
		// Of equal members the first one's place is taken, and no other is left.
		{`{"b":1,"a":1e400,"b":2, "\u0062" : 3 ,"z":0}`, `{"b":9,"a":1e400  ,"z":0}`, []jsonedit.Edit{set("b", "9")}},
		{`{"\u0062" : 1}`, `{"\u0062" : 9}`, []jsonedit.Edit{set("b", "9")}},
		// Only the object's own members.
		{`{"a":{"b":1,"x":"}"},"c":["b",{"b":2}]}`, `{"a":{"b":1,"x":"}"},"c":["b",{"b":2}],"b":0}`, []jsonedit.Edit{set("b", "0")}},
		{`{"n":123456789012345678901234567890,"s":"\ud800\/","n":-0.0}`, `{"n":123456789012345678901234567890,"s":"\ud800\/","n":-0.0}`, []jsonedit.Edit{drop}},
		{"{\n  \"a\": 1,\n  \"b\": 2\n}", "{\n  \"a\": 1\n  \n}", []jsonedit.Edit{drop}},
	} {
		body := []byte(tt.in)
		got, err := jsonedit.Object(body, tt.edits...)
		require.NoError(t, err, tt.in)
		if string(got) != tt.out {
			t.Errorf("Object(%s, %q) = %s, want %s", tt.in, tt.edits, got, tt.out)
		}
		require.Equal(t, tt.in, string(body), "the body was changed")
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "unexpected end",
		`[1]`:                          "expected an object, not an array at line 1 column 1",
		"\n \"x\"":                     "expected an object, not a string at line 2 column 2",
		`null`:                         "expected an object, not null",
		`{"a":1`:                       "unexpected end",
		`{"a":1,}`:                     "expected a key",
		`{"a":NaN}`:                    "expected a value",
		`{} {}`:                        "unexpected data",
		`[}`:                           "expected a value",
		strings.Repeat(`{"a":`, 20000): "nested too deep",
	} {
		_, err := jsonedit.Object([]byte(in), set("x", "1"))
		require.ErrorContains(t, err, want, in)
		_, err = jsonedit.Find([]byte(in), "x")
		require.ErrorContains(t, err, want, in)
	}
	require.ErrorContains(t, jsonedit.Elements([]byte(`{}`), nil), "expected an array, not an object")
	require.ErrorContains(t, jsonedit.Elements(nil, nil), "unexpected end")
	require.ErrorContains(t, jsonedit.Elements([]byte(`[1,]`), func([]byte) {}), "expected a value")
}

func TestFind(t *testing.T) {
	values, err := jsonedit.Find([]byte(`{"a":1,"b":{"a":2},"\u0061": [3] ,"c":null}`), "a", "b", "c", "d")
	require.NoError(t, err)
	require.Equal(t, []string{"[3]", `{"a":2}`, "null", ""}, []string{string(values[0]), string(values[1]), string(values[2]), string(values[3])})
	require.Nil(t, values[3])
	require.False(t, jsonedit.Absent(values[0]))
	require.True(t, jsonedit.Absent(values[2]))
	require.True(t, jsonedit.Absent(values[3]))
	require.Equal(t, jsonscan.Array, jsonedit.KindOf(values[0]))
	require.Equal(t, jsonscan.Invalid, jsonedit.KindOf(nil))
	require.Equal(t, `a"b`, jsonedit.Text([]byte(`"a\"b"`)))
	require.Empty(t, jsonedit.Text([]byte(`1`)))
	require.Equal(t, `"a\"b"`, string(jsonedit.Quote(`a"b`)))
}

// Against encoding/json: an edit is an error exactly if the body is no object; what comes of it
// is the same object with the members changed; and without them, both are the same bytes but for
// white space and commas.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"b":1,"b":2}`, `{"a":1,"b":2,"c":3}`, ` {"b" : {"b":[1,2]} , "a":"\u0000"} `, `[{}]`,
		`{"\u0062":1,"a":2}`, "\xef\xbb\xbf{}", `{"b":1,}`, `{"a":1.0E+2,"c":"\ud83d\ude00"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := jsonedit.Object([]byte(body), set("a", `{"new":true}`), jsonedit.Edit{Key: "b"})
		plain := strings.TrimPrefix(body, "\xef\xbb\xbf")
		var want map[string]json.RawMessage
		if oracle := json.Unmarshal([]byte(plain), &want); (oracle == nil && want != nil) != (err == nil) {
			t.Fatalf("Object(%q): %v; encoding/json: %v", body, err, oracle)
		}
		if err != nil {
			return
		}
		values, err := jsonedit.Find([]byte(body), "a", "b", "c")
		require.NoError(t, err)
		for i, key := range []string{"a", "b", "c"} {
			require.Equal(t, string(want[key]), string(values[i]), "the last %s of %q", key, body)
		}

		var edited map[string]json.RawMessage
		require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(string(got), "\xef\xbb\xbf")), &edited), "%q became %q", body, got)
		delete(want, "b")
		want["a"] = json.RawMessage(`{"new":true}`)
		if diff := cmp.Diff(want, edited); diff != "" {
			t.Fatalf("%q became %q: %s", body, got, diff)
		}
		if a, b := others(t, []byte(body)), others(t, got); a != b {
			t.Fatalf("%q became %q: %q and %q are left", body, got, a, b)
		}
	})
}

// others returns the members of an object beside a and b, as they are written, in their order.
func others(t *testing.T, body []byte) string {
	var b strings.Builder
	s := jsonscan.New(body, jsonscan.MaxDepth)
	s.SkipMark()
	for s.Enter(); s.Key(); {
		raw := body[s.Token.Start:s.Token.End]
		start, end := s.Skip()
		if key := string(jsonscan.Unquote(nil, raw)); key != "a" && key != "b" {
			b.Write(raw)
			b.WriteByte(':')
			b.Write(body[start:end])
			b.WriteByte('\n')
		}
	}
	require.NoError(t, s.End())
	return b.String()
}

// One pass and one piece of memory, whatever the body's size.
func TestAllocations(t *testing.T) {
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("x", 100_000) + `"}],"stream":true}`)
	edits := []jsonedit.Edit{set("stream", "false"), set("max_tokens", "1"), {Key: "stream_options"}}
	if n := testing.AllocsPerRun(20, func() { _, _ = jsonedit.Object(body, edits...) }); n > 2 {
		t.Errorf("Object: %v allocations, want at most 2", n)
	}
}

func BenchmarkObject(b *testing.B) {
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("hello ", 32<<10/6) + `"}],"stream":true}`)
	edits := []jsonedit.Edit{set("stream", "false"), set("max_tokens", "1"), {Key: "stream_options"}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = jsonedit.Object(body, edits...)
	}
}
