package openai

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/inferpick/inferpick/internal/jsonscan"
)

// SpliceModel returns body with name in place of the model, and every other
// byte as it was: body must be the one that p was parsed from. If that changes
// nothing, or there is no model in it, it returns body itself; otherwise the
// result is written over dst, which is grown if it is too small and may be nil,
// and body is left alone. The length differs if the names' lengths do, so a
// Content-Length must be set anew.
//
// Into a form name goes as it is: it must not hold a boundary, which a valid
// model name does not.
func (p Parsed) SpliceModel(dst, body []byte, name string) []byte {
	at := p.Model
	if at.Start == at.End || p.holds(body[at.Start:at.End], name) {
		return body
	}
	if room := len(body) + len(name) + 16; cap(dst) < room {
		// Memory that Join takes is not cleared before it is filled.
		var value []byte
		if p.Form {
			value = []byte(name)
		} else {
			value = jsonscan.AppendQuote(make([]byte, 0, len(name)+2), name)
		}
		return bytes.Join([][]byte{body[:at.Start], value, body[at.End:]}, nil)
	}
	dst = append(dst[:0], body[:at.Start]...)
	if p.Form {
		dst = append(dst, name...)
	} else {
		dst = jsonscan.AppendQuote(dst, name)
	}
	return append(dst, body[at.End:]...)
}

// holds reports whether the value in the body is name already.
func (p Parsed) holds(value []byte, name string) bool {
	if p.Form {
		return string(value) == name
	}
	return equalString(value[1:len(value)-1], name)
}

// equalString reports whether the bytes between the quotes of a JSON string
// stand for s.
func equalString(raw []byte, s string) bool {
	if len(raw) < len(s) || len(raw) > 6*len(s) {
		// No escape is shorter than what it stands for, or longer than six bytes.
		return false
	}
	if string(raw) == s {
		return utf8.ValidString(s) && !slices.Contains(raw, '\\')
	}
	return slices.Contains(raw, '\\') && string(jsonscan.Unquote(nil, raw)) == s
}
