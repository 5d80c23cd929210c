package jsonscan_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/stretchr/testify/require"
)

var documents = []string{
	``, ` `, `{}`, `[]`, `{"a":1}`, `{"a":1,}`, `[1,]`, `[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{1:2}`,
	`null`, `nul`, `nulll`, `true`, `false`, `tru`, ` true `, `"x"`, `"x`, `"\`, `"\u`, `"\u12`, `"\u12g4"`,
	`"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\/\b\f\n\r\t\"\\"`, `"\x"`, "\"\n\"", "\"\x7f\x80\xff\"",
	`0`, `-0`, `01`, `-`, `1.`, `.1`, `1.5`, `1e`, `1e5`, `1E+5`, `1e-`, `-1.25e-7`, `1 2`, `[1 2]`,
	`{"a":{"b":[{"c":null},true,[[]]]}}`, "\ufeff{}", `{"a":1}x`, `[`, `{`, `{"a"`, `{"a":`, `{"a":1`, `[1`, `[1,`,
	`{"long key of more than eight bytes":"long value, escaped at the very end\\"}`,
}

func FuzzScan(f *testing.F) {
	for _, d := range documents {
		f.Add([]byte(d))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := jsonscan.Check(data, jsonscan.MaxDepth)
		if (err == nil) != json.Valid(data) {
			t.Fatalf("Check(%q) = %v, json.Valid = %v", data, err, json.Valid(data))
		}
		// Inside of a string that is read in blocks.
		text := fmt.Appendf(nil, `"%64d%s%32d"`, 0, data, 0)
		if err := jsonscan.Check(text, 0); (err == nil) != json.Valid(text) {
			t.Fatalf("Check(%q) = %v, json.Valid = %v", text, err, json.Valid(text))
		}
		// The same document, walked instead of skipped.
		s := jsonscan.New(data, jsonscan.MaxDepth)
		walk(&s)
		if walked := s.End(); (walked == nil) != (err == nil) {
			t.Fatalf("walk of %q: %v, skip: %v", data, walked, err)
		}
		var e *jsonscan.Error
		if errors.As(err, &e) && (e.Offset < 0 || e.Offset > len(data)) {
			t.Fatalf("Check(%q): offset %d outside of the document", data, e.Offset)
		}
	})
}

// walk enters everything there is.
func walk(s *jsonscan.Scanner) {
	switch kind, _ := s.Peek(); kind {
	case jsonscan.Object:
		for s.Enter(); s.Key(); {
			walk(s)
		}
	case jsonscan.Array:
		for s.Enter(); s.Elem(); {
			walk(s)
		}
	case jsonscan.String:
		s.Str()
	default:
		s.Skip()
	}
}

func FuzzUnquote(f *testing.F) {
	for _, d := range documents {
		f.Add([]byte(d))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want string
		s := jsonscan.New(data, 0)
		if kind, _ := s.Peek(); kind != jsonscan.String || json.Unmarshal(data, &want) != nil {
			return
		}
		if !s.Str() {
			t.Fatalf("Str of %q: %v", data, s.Err())
		}
		raw := data[s.Token.Start:s.Token.End]
		got := string(jsonscan.Unquote(nil, raw))
		require.Equal(t, want, got, "Unquote(%q)", raw)
		quoted := jsonscan.AppendQuote(nil, got)
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil || back != got {
			t.Fatalf("AppendQuote(%q) = %s, which decodes as %q, %v", got, quoted, back, err)
		}
	})
}

func TestCheckStringsAtEveryAlignment(t *testing.T) {
	for _, special := range []string{`"`, `\"`, `\\`, "\x1f", " ", "\x7f", "\x80", "\xff", "!", "#", "[", "]"} {
		for before := range 20 {
			for after := range 20 {
				data := []byte(`"` + strings.Repeat("a", before) + special + strings.Repeat("\xa2", after) + `"`)
				if err := jsonscan.Check(data, 0); (err == nil) != json.Valid(data) {
					t.Errorf("Check(%q) = %v, json.Valid = %v", data, err, json.Valid(data))
				}
			}
		}
	}
}

// Long strings are read in blocks: what is at their edges, or looks like something else to
// arithmetic on words, must come out as encoding/json has it.
func TestLongStrings(t *testing.T) {
	pieces := []string{
		`\n`, `\t`, `\"`, `\\`, `\/`, `\r`, `\u00e4`, `\u00g4`, `\x`, `\]`, `\#`, `\o`, `\`, `"`, `"#`, `]`, `[`, "n", "no", "tu", "\\\x01", "\x1f", " ",
		"a", "aaaa", "aaaaaaaaaaaaa", "é", "\xdc", "\xa2n", "\xee", "\xf4", "\xff", "\x7f", "\x80",
	}
	random := rand.New(rand.NewPCG(1, 2))
	valid, n := 0, 100_000
	if testing.Short() {
		n = 10_000
	}
	for range n {
		data := []byte(`"` + strings.Repeat("a", 48+random.IntN(32)))
		for range 4 + random.IntN(8) {
			data = append(data, pieces[random.IntN(len(pieces))]...)
			data = append(data, "aaaaaaaaaaaaaaaa"[:random.IntN(17)]...)
		}
		data = append(data, strings.Repeat("a", 32)+`"`...)
		if random.IntN(4) == 0 { // cut off
			data = data[:random.IntN(len(data))]
		}
		err := jsonscan.Check(data, 0)
		if (err == nil) != json.Valid(data) {
			t.Fatalf("Check(%q) = %v, json.Valid = %v", data, err, json.Valid(data))
		}
		if err == nil {
			valid++
			s := jsonscan.New(data, 0)
			if !s.Str() || s.Token.Escaped != strings.Contains(string(data), `\`) {
				t.Fatalf("Str of %q: %+v", data, s.Token)
			}
		}
	}
	require.Greater(t, valid, n/50, "strings that are well formed")
}

func TestErrorPositions(t *testing.T) {
	tests := []struct {
		in   string
		want string
	}{
		{"", "jsonscan: unexpected end at line 1 column 1 (byte 0)"},
		{"{\n  \"a\": tru\n}", "jsonscan: expected a value at line 2 column 8 (byte 9)"},
		{"{\"a\":1}\n}", "jsonscan: unexpected data after the end of the value at line 2 column 1 (byte 8)"},
		{"[\"\x01\"]", "jsonscan: control character in a string at line 1 column 3 (byte 2)"},
		{`{"a" 1}`, "jsonscan: expected a colon after the key at line 1 column 6 (byte 5)"},
	}
	for _, tt := range tests {
		err := jsonscan.Check([]byte(tt.in), 0)
		if err == nil || err.Error() != tt.want {
			t.Errorf("Check(%q) = %v, want %s", tt.in, err, tt.want)
		}
	}
}

func TestDepth(t *testing.T) {
	nested := func(n int) []byte { return []byte(strings.Repeat("[", n) + strings.Repeat("]", n)) }
	tests := []struct {
		depth, limit int
		ok           bool
	}{
		{1, 1, true}, {2, 1, false}, {128, 0, true}, {129, 0, false},
		{10000, 1 << 30, true}, {10001, 1 << 30, false},
	}
	for _, tt := range tests {
		err := jsonscan.Check(nested(tt.depth), tt.limit)
		var e *jsonscan.Error
		if (err == nil) != tt.ok || errors.As(err, &e) && !e.TooDeep {
			t.Errorf("Check(depth %d, limit %d) = %v, want ok %v", tt.depth, tt.limit, err, tt.ok)
		}
	}
	// Leaving a container gives its level back, entered or skipped.
	wide := []byte("[" + strings.Repeat(`{"a":[]},`, 1000) + "{}]")
	if err := jsonscan.Check(wide, 3); err != nil {
		t.Errorf("Check(wide) = %v, want nil", err)
	}
	s := jsonscan.New(wide, 3)
	walk(&s)
	if err := s.End(); err != nil {
		t.Errorf("walk(wide) = %v, want nil", err)
	}
}

func TestCheckAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocation counts differ under the race detector")
	}
	data := []byte(`{"a":["text with \"escapes\"\n",1,2.5e3,true,null]}`)
	if n := testing.AllocsPerRun(100, func() { _ = jsonscan.Check(data, 0) }); n != 0 {
		t.Errorf("Check allocates %v times, want 0", n)
	}
}

// BenchmarkCheck scans text with an escape about every 60 bytes. Compare runs
// with benchstat.
func BenchmarkCheck(b *testing.B) {
	line := `The quick brown fox \"jumps\" over the lazy dog, and then it goes home for tea, as it does.\n`
	for _, size := range []int{1 << 10, 32 << 10, 256 << 10} {
		data := []byte(`["` + strings.Repeat(line, size/len(line)) + `"]`)
		b.Run(fmt.Sprintf("bytes=%dKiB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := jsonscan.Check(data, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleScanner() {
	body := []byte(`{"ignored": [1, {"model": 2}], "model": "llama"}`)
	s := jsonscan.New(body, 0)
	for s.Enter(); s.Key(); {
		if string(body[s.Token.Start:s.Token.End]) == "model" && s.Str() {
			fmt.Printf("%s\n", body[s.Token.Start:s.Token.End])
			continue
		}
		s.Skip()
	}
	fmt.Println(s.End())
	// Output:
	// llama
	// <nil>
}
