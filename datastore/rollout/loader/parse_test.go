package loader

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSays(t *testing.T) {
	for _, tt := range []struct{ body, message, kind string }{
		{`{"error":{"message":"m","type":"t"}}`, "m", "t"},
		{`{"object":"error","message":"m","type":"t"}`, "m", "t"},
		{`{"error":"m"}`, "m", ""},
		{`{"success":false,"error_message":"m"}`, "m", ""},
		{`{"detail":"Not Found"}`, "", ""},
		{`[]`, "", ""}, {`<html>`, "", ""}, {``, "", ""}, {`{"error":{"message":7}}`, "", ""},
	} {
		if message, kind := says([]byte(tt.body)); message != tt.message || kind != tt.kind {
			t.Errorf("says(%s) = %q, %q, want %q, %q", tt.body, message, kind, tt.message, tt.kind)
		}
	}
}

// FuzzAnswers reads whatever a server may answer.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"data":[{"id":"a","root":"/a","parent":null}]}`, `{"model":"m","choices":[{}]}`,
		`{"error":{"message":"m","type":"t"}}`, `{"error":"x"}`, "\xff\xfe", strings.Repeat("é\n ", 400),
	} {
		f.Add([]byte(seed), 200)
	}
	f.Fuzz(func(t *testing.T, body []byte, status int) {
		if w := words(body); len(w) > maxWords || !utf8.ValidString(w) || strings.ContainsAny(w, "\n\r\t") {
			t.Errorf("words(%q) = %q", body, w)
		}
		cards, err := parseCards(body)
		if err == nil {
			var any struct{ Data []json.RawMessage }
			if json.Unmarshal(body, &any) != nil || len(any.Data) != len(cards) {
				t.Errorf("parseCards(%q) has %d, want %d", body, len(cards), len(any.Data))
			}
		}
		a := answer{status: status, body: body}
		if a.repliesAs("m", "choices") == nil && (status != 200 || !strings.Contains(string(body), "m")) {
			t.Errorf("%d %q is an answer", status, body)
		}
		if a.noPath() && status != 404 && status != 405 {
			t.Errorf("%d %q: no path", status, body)
		}
	})
}
