package openai

import (
	"strings"

	"github.com/inferpick/inferpick/types"
)

// QueryModel returns the model that the query of a target names, as those of Realtime do: "" if there is none, or it is
// longer than 256 bytes. at is where its value lies in target, as it is escaped there; of several the first counts, as it
// does with the servers.
func QueryModel(target string) (model string, at types.Span) {
	end := len(target)
	if i := strings.IndexByte(target, '#'); i >= 0 {
		end = i
	}
	start := strings.IndexByte(target[:end], '?') + 1
	if start == 0 {
		return "", at
	}
	for start < end {
		pair := target[start:end]
		if i := strings.IndexByte(pair, '&'); i >= 0 {
			pair = pair[:i]
		}
		if name, value, ok := strings.Cut(pair, "="); ok && unescapeQuery(name) == "model" {
			at = types.Span{Start: start + len(pair) - len(value), End: start + len(pair)}
			if model = unescapeQuery(value); len(model) > maxQueryModel {
				return "", at
			}
			return model, at
		}
		start += len(pair) + 1
	}
	return "", at
}

// SpliceQueryModel returns target with name as the model in its query, in place of the one that is there or, if there is
// none, after the rest. If that changes nothing it returns target itself.
func SpliceQueryModel(target, name string) string {
	model, at := QueryModel(target)
	if at.End > 0 {
		if model == name {
			return target
		}
		return target[:at.Start] + escapeQuery(name) + target[at.End:]
	}
	if name == "" {
		return target
	}
	path, fragment, _ := strings.Cut(target, "#")
	if fragment != "" {
		fragment = "#" + fragment
	}
	mark := "?"
	if strings.Contains(path, "?") {
		mark = "&"
	}
	return path + mark + "model=" + escapeQuery(name) + fragment
}

// maxQueryModel is the limit that Limits.MaxModelBytes has by default.
const maxQueryModel = 256

func unescapeQuery(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			b = append(b, ' ')
		case c == '%' && i+2 < len(s) && hex(s[i+1]) >= 0 && hex(s[i+2]) >= 0:
			b = append(b, byte(hex(s[i+1])<<4|hex(s[i+2])))
			i += 2
		default:
			b = append(b, c)
		}
	}
	return strings.ToValidUTF8(string(b), "\ufffd")
}

// hex returns what a digit stands for, or -1.
func hex(c byte) int {
	switch letter := c | 0x20; {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case letter >= 'a' && letter <= 'f':
		return int(letter-'a') + 10
	}
	return -1
}

// escapeQuery escapes all but what never has another meaning.
func escapeQuery(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		}
	}
	return b.String()
}
