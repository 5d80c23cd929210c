package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

type base struct {
	Name  string `json:"name"`
	Note  string `json:"note"`
	Plain int
}

type config struct {
	base
	*Embedded
	Note     string              `json:"note"` // hides that of base
	TTL      time.Duration       `json:"ttl,omitempty"`
	Small    int8                `json:"small"`
	Count    uint64              `json:"count"`
	Ratio    float64             `json:"ratio"`
	Narrow   float32             `json:"narrow"`
	On       bool                `json:"on"`
	Weight   *float64            `json:"weight"`
	List     []config            `json:"list"`
	Numbers  []int               `json:"numbers"`
	Pair     [2]int              `json:"pair"`
	Labels   map[string]string   `json:"labels"`
	Limits   map[string]*float64 `json:"limits"`
	Raw      json.RawMessage     `json:"raw"`
	At       time.Time           `json:"at"`
	Level    level               `json:"level"`
	Text     upper               `json:"text"`
	Anything any                 `json:"anything"`
	Bytes    []byte              `json:"bytes"`
	Skipped  int                 `json:"-"`
	Loose    loose               `json:"loose" strictjson:"open"`

	//lint:ignore U1000 a name that no document may set
	hidden int
}

type loose struct {
	Inner struct {
		Known int `json:"known"`
	} `json:"inner"`
}

type Embedded struct {
	Deep int `json:"deep"`
}

// level reads itself as JSON.
type level int

func (l *level) UnmarshalJSON(data []byte) error {
	switch string(data) {
	case `"low"`, `null`:
		*l = 1
	case `"high"`:
		*l = 2
	default:
		return errors.New("must be low or high")
	}
	return nil
}

// upper reads itself as text.
type upper string

func (u *upper) UnmarshalText(text []byte) error {
	if *u = upper(strings.ToUpper(string(text))); *u == "BAD" {
		return errors.New("is bad")
	}
	return nil
}

func TestDecode(t *testing.T) {
	var got config
	err := strictjson.Decode([]byte(`{
		"name": "a\u00e9\"", "Plain": 1, "note": "outer", "deep": 3, "ttl": "1m30s", "small": -128, "count": 18446744073709551615,
		"ratio": 1e-3, "narrow": 2, "on": true, "weight": 0, "list": [{"name": "b"}, {}], "numbers": [], "pair": [1, 2],
		"labels": {"x.y": "z", "": "empty"}, "limits": {"a": null, "b": 2}, "raw": {"a" : [1]}, "at": "2026-01-02T03:04:05Z", "level": "high", "text": "up",
		"anything": {"a": [1, "x", null, false]}, "bytes": "aGk=", "loose": {"more": 1, "inner": {"known": 2, "less": {"a": 3}}}
	}`), &got, strictjson.Options{})
	require.NoError(t, err)
	zero, two := 0.0, 2.0
	want := config{
		base: base{Name: "aé\"", Plain: 1}, Embedded: &Embedded{Deep: 3}, Note: "outer", TTL: 90 * time.Second, Small: -128, Count: 1<<64 - 1,
		Ratio: .001, Narrow: 2, On: true, Weight: &zero, List: []config{{base: base{Name: "b"}}, {}}, Pair: [2]int{1, 2},
		Labels: map[string]string{"x.y": "z", "": "empty"}, Limits: map[string]*float64{"a": nil, "b": &two},
		Raw: json.RawMessage(`{"a" : [1]}`), At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Level: 2, Text: "UP",
		Anything: map[string]any{"a": []any{1.0, "x", nil, false}}, Bytes: []byte("hi"),
	}
	want.Loose.Inner.Known = 2
	require.Empty(t, cmp.Diff(want, got, cmp.AllowUnexported(config{})))
}

func TestNullIsNothing(t *testing.T) {
	two := 2.0
	got := config{base: base{Name: "kept"}, TTL: time.Second, Small: 3, On: true, Weight: &two, Labels: map[string]string{"a": "b"}, Numbers: []int{1}, Text: "x"}
	require.NoError(t, strictjson.Decode([]byte(`{"name": null, "ttl": null, "small": null, "on": null, "weight": null, "labels": null, "numbers": null, "text": null, "loose": null, "level": null}`), &got, strictjson.Options{}))
	require.Empty(t, cmp.Diff(config{base: base{Name: "kept"}, TTL: time.Second, Small: 3, On: true, Text: "x", Level: 1}, got, cmp.AllowUnexported(config{})))

	require.NoError(t, strictjson.Decode([]byte(`null`), &got, strictjson.Options{}))
	require.NoError(t, strictjson.Decode([]byte(`{"ttl": ""}`), &got, strictjson.Options{}))
	require.Equal(t, time.Second, got.TTL)
}

func TestDecodeErrors(t *testing.T) {
	const duration = `, want a duration above 0 such as "300ms" or "5s"`
	for _, tt := range []struct {
		name, data string
		want       []string
	}{
		{"empty", " \n", []string{"line 2, column 1: the document is empty, want a JSON object"}},
		{"cut short", `{"name": [`, []string{"line 1, column 11: the document ends in the middle of a JSON value"}},
		{"syntax", "{\n\t\"small\": 1,}", []string{"line 2, column 13: the document is no JSON: invalid character '}' looking for beginning of object key string"}},
		{"trailing data", "{}\n{}", []string{"line 2, column 1: the document is no JSON: invalid character '{' after top-level value"}},
		{"kind of document", `[1]`, []string{"line 1, column 1: the document is [1], want an object"}},
		{"unknown", "{\n \"numbrs\": 1}", []string{"line 2, column 2: numbrs is not a field; the nearest is numbers"}},
		{"case", `{"TTL": "1s"}`, []string{"line 1, column 2: TTL is not a field; the nearest is ttl"}},
		{"unknown, none near", `{"loose": {}, "list": [{}, {"qqqqqq": 1}]}`, []string{"line 1, column 29: list[1].qqqqqq is not a field; known are name, Plain, deep, note, ttl, small, count, ratio, narrow, on, weight, list, numbers, pair, labels, limits, raw, at, level, text, anything, bytes, loose"}},
		{"unknown, odd name", `{"a.b": 1}`, []string{`line 1, column 2: ["a.b"] is not a field`}},
		{"skipped and hidden", `{"Skipped": 1, "hidden": 1}`, []string{"line 1, column 2: Skipped is not a field", "line 1, column 16: hidden is not a field"}},
		{"twice", "{\"name\": \"a\",\n\"name\": \"b\"}", []string{"line 2, column 1: name is there twice, first at line 1, column 2"}},
		{"twice in what is passed on", `{"raw": {"a": [{"b": 1, "b": 1}]}, "loose": {"x": 1, "x": 1}}`, []string{"line 1, column 25: raw.a[0].b is there twice", "line 1, column 54: loose.x is there twice"}},
		{"duration: number", `{"ttl": 5}`, []string{"line 1, column 2: ttl is 5" + duration}},
		{"duration: no unit", `{"ttl": "5"}`, []string{`ttl is "5"` + duration}},
		{"duration: 0", `{"ttl": "0s"}`, []string{`ttl is "0s"` + duration}},
		{"duration: negative", `{"ttl": "-5s"}`, []string{`ttl is "-5s"` + duration}},
		{"duration: word", `{"ttl": "soon"}`, []string{`ttl is "soon"` + duration}},
		{"overflow", `{"small": 128, "count": -1}`, []string{"small is 128, want an integer from -128 to 127", "count is -1, want an integer from 0 to 18446744073709551615"}},
		{"fraction", `{"small": 1.0}`, []string{"small is 1.0, want an integer from -128 to 127"}},
		{"exponent", `{"numbers": [1, 1e2]}`, []string{"line 1, column 17: numbers[1] is 1e2, want an integer"}},
		{"float overflow", `{"ratio": 1e999, "narrow": 1e39}`, []string{"ratio is 1e999, want a number", "narrow is 1e39, want a number"}},
		{"wrong kinds", `{"name": 1, "on": "yes", "ratio": "1", "list": {}, "labels": [], "small": {}, "weight": true}`, []string{
			"name is 1, want a string", `on is "yes", want true or false`, `ratio is "1", want a number`, "list is {}, want a list", "labels is [], want an object", "small is {}, want an integer", "weight is true, want a number"}},
		{"null in a list", `{"numbers": [null], "list": [null], "labels": {"a": null}}`, []string{"numbers[0] is null, want an integer", "list[0] is null, want an object", `labels["a"] is null, want a string`}},
		{"map", `{"labels": {"a.b": 1}}`, []string{`line 1, column 13: labels["a.b"] is 1, want a string`}},
		{"array", `{"pair": [1, 2, 3]}`, []string{"pair is [1,2,3], want a list of 2"}},
		{"bytes", `{"bytes": "*"}`, []string{`bytes is "*", want bytes in base64`}},
		{"reads itself", `{"level": "middle", "text": "bad", "list": [{"text": 1}]}`, []string{"line 1, column 2: level: must be low or high", "line 1, column 21: text: is bad", "list[0].text is 1, want a string"}},
		{"time", `{"at": "now"}`, []string{"line 1, column 2: at is \"now\", want a time in RFC 3339 such as \"2026-01-31T12:00:00Z\""}},
		{"long value", `{"small": "` + strings.Repeat("é", 100) + `"}`, []string{`small is "` + strings.Repeat("é", 39) + "…, want"}},
		{"deep", strings.Repeat(`{"list":[`, 300) + strings.Repeat("]}", 300), []string{"line 1, column 2306: the document is nested deeper than 512 levels"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c config
			err := strictjson.Decode([]byte(tt.data), &c, strictjson.Options{Package: "p"})
			var all check.Errors
			require.ErrorAs(t, err, &all)
			require.Len(t, all, len(tt.want))
			for i, want := range tt.want {
				require.ErrorContains(t, all[i], want)
				require.True(t, strings.HasPrefix(all[i].Error(), "p: line "), all[i])
			}
		})
	}
}

func TestErrorsAreBounded(t *testing.T) {
	err := strictjson.Decode([]byte(`{"numbers": [`+strings.Repeat("true,", 100)+`true]}`), new(config), strictjson.Options{File: "f.json"})
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 21)
	require.Equal(t, "f.json:1:14: numbers[0] is true, want an integer", lines[0])
	require.Equal(t, "and 81 errors more", lines[20])
}

func TestUnknownIsTold(t *testing.T) {
	var told []string
	var c config
	require.NoError(t, strictjson.Decode([]byte(`{"nmae": 1, "small": 2}`), &c, strictjson.Options{File: "x", Unknown: func(e *check.Error) { told = append(told, e.Error()) }}))
	require.Equal(t, []string{"x:1:2: nmae is not a field; the nearest is name"}, told)
	require.Equal(t, int8(2), c.Small)
}

func TestLocate(t *testing.T) {
	doc, err := strictjson.Parse([]byte("{\"list\": [\n  {\"labels\": {\"a.b\": \"x\"}},\n  {\"raw\": {\"depth\": 3}}\n]}"), strictjson.Options{Package: "p", File: "f"})
	require.NoError(t, err)
	cause := errors.New("cause")
	c := check.Checks{Package: "inner"}
	c.Failf(`list[0].labels["a.b"]`, "is odd")
	c.Failf("list[0].missing.more", "is required")
	c.Failf("list[7]", "is required")
	c.Add("list[1].raw", check.Errors{{Field: "depth", Value: 3, Want: "at most 2", Line: 1, Column: 2}})
	c.Failf("", "says nothing: %w", cause)
	c.Add("", errors.New(`list[0] has "labels": more`))
	err = doc.Locate(c.Err())
	require.EqualError(t, err, `p: f:2:15: list[0].labels["a.b"] is odd
p: f:2:3: list[0].missing.more is required
p: f:1:2: list[7] is required
p: f:3:12: list[1].raw.depth is 3, want at most 2
p: f: says nothing: cause
p: f:2:3: list[0] has "labels": more`)
	require.ErrorIs(t, err, cause)
	require.NoError(t, doc.Locate(nil))
	require.EqualError(t, doc.Locate(cause), "p: f: cause")
}

func TestParseAll(t *testing.T) {
	docs, err := strictjson.ParseAll([]byte(" {\"small\": 1}\n\n{\"small\":\n\"x\"} "), strictjson.Options{})
	require.NoError(t, err)
	require.Len(t, docs, 2)
	require.NoError(t, docs[0].Decode(new(config)))
	line, column := docs[1].Place("")
	require.Equal(t, []int{3, 1}, []int{line, column})
	require.ErrorContains(t, docs[1].Decode(new(config)), "line 3, column 2: small is \"x\"")
	value, err := docs[0].Value()
	require.NoError(t, err)
	require.Equal(t, map[string]any{"small": json.Number("1")}, value)

	_, err = strictjson.ParseAll([]byte("{}\n{,}"), strictjson.Options{})
	require.ErrorContains(t, err, "line 2, column 2: the document is no JSON")
}

func TestParts(t *testing.T) {
	doc, err := strictjson.Parse([]byte(`{"more": 1, "items": [{"small": "x"},
  {"raw": [
    1]}]}`), strictjson.Options{})
	require.NoError(t, err)
	var head struct {
		More int `json:"more"`
		Less int `json:"less"`
	}
	require.NoError(t, doc.Peek(&head))
	require.Equal(t, 1, head.More)
	require.True(t, doc.Has("items"))
	require.False(t, doc.Has("less"))
	items, err := doc.Elements("items")
	require.NoError(t, err)
	require.Len(t, items, 2)
	require.ErrorContains(t, items[0].Decode(new(config)), `line 1, column 24: small is "x"`)
	line, column := items[1].Within("raw", 1, 1)
	require.Equal(t, []int{2, 11}, []int{line, column})
	line, column = items[1].Within("raw", 2, 5)
	require.Equal(t, []int{3, 5}, []int{line, column})
	items, err = doc.Elements("less")
	require.Empty(t, items)
	require.NoError(t, err)
	_, err = doc.Elements("more")
	require.EqualError(t, err, "line 1, column 2: more is 1, want a list")
}

// TestEmbedded: an embedded struct with a name is a field, and one that is left out is not there.
func TestEmbedded(t *testing.T) {
	type (
		Named struct{ A int }
		Left  struct{ B int }
	)
	var c struct {
		Named `json:"named"`
		Left  `json:"-"`
	}
	require.NoError(t, strictjson.Decode([]byte(`{"named": {"A": 1}}`), &c, strictjson.Options{}))
	require.Equal(t, 1, c.A)
	require.EqualError(t, strictjson.Decode([]byte(`{"A": 1, "B": 2}`), &c, strictjson.Options{}), `line 1, column 2: A is not a field; known are named
line 1, column 10: B is not a field; known are named`)
}

// FuzzDecode: what is accepted encoding/json decodes to the same, but for durations; and
// what is not accepted though encoding/json does is one of what Decode refuses.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"name": "a", "small": 1, "list": [{"deep": 2}], "labels": {"a": "b"}}`, `{"Plain": 3, "plain": 4}`, `{"ratio": -0.5e-3, "count": 07}`,
		`{"raw": [1 , 2], "anything": {"x": [null, 1e3, "\ud800"]}}`, `{"pair": [1], "bytes": "aGk="}`, `null`, `[]`, `{"weight": null, "limits": {"a": 1}} `,
		"{\"name\": \"\xff\"}", `{"level": "low", "text": "x", "at": "2026-01-02T03:04:05Z"}`, `{"small": 1} {}`, `{"list": [[]]}`, `{"name":"a","name":"b"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want config
		doc, err := strictjson.Parse(data, strictjson.Options{})
		if (err == nil) != json.Valid(data) && !strings.Contains(fmt.Sprint(err), "nested deeper") {
			t.Fatalf("Parse(%q) = %v, encoding/json: valid %v", data, err, json.Valid(data))
		}
		if err != nil {
			return
		}
		before := bytes.Clone(data)
		if err := doc.Decode(&got); err != nil {
			for _, e := range check.From(err) {
				if e.Line < 1 || e.Column < 1 || !bytes.Equal(before, data) {
					t.Fatalf("Decode(%q): %v has no place", data, e)
				}
			}
			return
		}
		if got.TTL != 0 || len(got.List) > 0 {
			return // encoding/json has no durations as text
		}
		if err := json.Unmarshal(data, &want); err != nil && !strings.Contains(err.Error(), "time.Duration") {
			t.Fatalf("Decode(%q) takes what encoding/json refuses: %v", data, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(config{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("Decode(%q) (-encoding/json, +ours):\n%s", data, diff)
		}
	})
}
