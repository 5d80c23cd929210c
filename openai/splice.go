package openai

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// SpliceModel returns body with name in place of the model, and every other
// byte as it was: body must be the one that p was parsed from. Where the body names
// no model but could (see Limits.ModelOptional), it is put in, as the first member
// of the object or the first part of the form. If that changes nothing, or there is
// no place for it, it returns body itself; otherwise the result is written over dst,
// which is grown if it is too small and may be nil, and body is left alone. The
// length differs, so a Content-Length must be set anew.
//
// Into a form name goes as it is: it must not hold a boundary, which a valid
// model name does not.
func (p Parsed) SpliceModel(dst, body []byte, name string) []byte {
	at := p.Model
	switch {
	case at.Start < at.End:
		if p.holds(body[at.Start:at.End], name) {
			return body
		}
	case p.missing.as == nowhere || name == "":
		return body
	default:
		at = p.missing.at
	}
	if room := len(body) + len(name) + 16; cap(dst) < room {
		// Memory that Join takes is not cleared before it is filled.
		var memory [128]byte
		value := p.appendModel(memory[:0], body, name)
		return bytes.Join([][]byte{body[:at.Start], value, body[at.End:]}, nil)
	}
	dst = append(dst[:0], body[:at.Start]...)
	dst = p.appendModel(dst, body, name)
	return append(dst, body[at.End:]...)
}

// SpliceSession returns body with session as its session_id, which vLLM (from 0.30) and SGLang repeat
// in the KV events that the request causes. It is put in as the first member of the object: an engine
// takes the last of equal members, so that a client's own stays in force. body is one that p was parsed
// from, with or without another model; it is left alone. Where there is no place for it, in
// forms and APIs that do not know it, body itself is returned.
func (p Parsed) SpliceSession(body []byte, session string) []byte {
	at := bytes.IndexByte(body, '{') + 1
	if p.Form || at == 0 || p.API != ChatCompletions && p.API != Completions && p.API != Responses {
		return body
	}
	out := make([]byte, 0, len(body)+len(session)+32)
	out = append(append(out, body[:at]...), `"session_id":`...)
	out = jsonscan.AppendQuote(out, session)
	if rest := bytes.TrimLeft(body[at:], " \t\r\n"); len(rest) > 0 && rest[0] != '}' {
		out = append(out, ',')
	}
	return append(out, body[at:]...)
}

// missing is where a model goes that is not in the body.
type missing struct {
	at types.Span // what it replaces
	as placement
}

type placement uint8

const (
	nowhere     placement = iota
	jsonValue             // in place of null or ""
	firstMember           // before the other members of the object
	onlyMember            // into the empty object
	formValue             // as the value of a part that has none
	formLine              // the same, where the line end after it is missing, too
	formPart              // before the first part; at is the delimiter
)

const formModel = "\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n"

// appendModel appends what is spliced in.
func (p Parsed) appendModel(dst, body []byte, name string) []byte {
	as := p.missing.as
	if p.Model.Start < p.Model.End {
		as = jsonValue
		if p.Form {
			as = formValue
		}
	}
	delimiter := body[p.missing.at.Start:p.missing.at.End]
	switch as {
	case firstMember:
		return append(jsonscan.AppendQuote(append(dst, `"model":`...), name), ',')
	case onlyMember:
		return jsonscan.AppendQuote(append(dst, `"model":`...), name)
	case formValue:
		return append(dst, name...)
	case formLine:
		return append(append(dst, name...), "\r\n"...)
	case formPart:
		dst = append(append(append(dst, delimiter...), formModel...), name...)
		return append(append(dst, "\r\n"...), delimiter...)
	default:
		return jsonscan.AppendQuote(dst, name)
	}
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
