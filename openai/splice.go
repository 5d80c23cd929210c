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
	var memory [128]byte
	e, ok := p.editModel(memory[:0], body, name)
	if !ok {
		return body
	}
	if cap(dst) < len(body)-(e.at.End-e.at.Start)+len(e.text) {
		// Memory that Join takes is not cleared before it is filled.
		return bytes.Join([][]byte{body[:e.at.Start], e.text, body[e.at.End:]}, nil)
	}
	dst = append(dst[:0], body[:e.at.Start]...)
	dst = append(dst, e.text...)
	return append(dst, body[e.at.End:]...)
}

// Splice returns body with model in place of its model, as SpliceModel does, unless model is empty, and
// with session as its session_id, unless that is empty, which vLLM (from 0.30) and SGLang repeat in the KV
// events that the request causes. That is put in as the first member of the object: an engine takes the
// last of equal members, so that a client's own stays in force; there is no place for it in forms, and
// in APIs that do not know it. body must be the one that p was parsed from; it is left alone, and
// returned itself if nothing is to be changed.
func (p Parsed) Splice(body []byte, model, session string) []byte {
	var memory texts
	kept, put, n := p.parts(&memory, body, model, session)
	if n == 0 {
		return body
	}
	return bytes.Join([][]byte{kept[0], put[0], kept[1], put[1], kept[2]}, nil) // not cleared before it is filled
}

// Pieces returns what Splice does, cut into pieces, so that nothing long is copied: put together in their
// order they are the new body. Those that are long are parts of body, in their order; the others,
// each of at most a few KiB, lie in memory of their own. There are at most 5, as a rule 2, one if nothing is
// to be changed, and none of an empty body.
func (p Parsed) Pieces(body []byte, model, session string) [][]byte {
	var memory texts
	kept, put, n := p.parts(&memory, body, model, session)
	if n == 0 && len(body) == 0 {
		return nil
	} else if n == 0 {
		return [][]byte{slices.Clip(body)}
	}
	size := 0
	for i := range put {
		size += len(put[i])
	}
	for i := range kept {
		if len(kept[i]) <= shortPart {
			size += len(kept[i])
		}
	}
	pieces := make([][]byte, 0, 2*n+1)
	own, from := make([]byte, 0, size), 0
	flush := func() {
		if end := len(own); from < end {
			pieces, from = append(pieces, own[from:end:end]), end
		}
	}
	for i := range n + 1 {
		if part := kept[i]; len(part) <= shortPart {
			own = append(own, part...)
		} else {
			flush()
			pieces = append(pieces, part)
		}
		if i < n {
			own = append(own, put[i]...)
		}
	}
	flush()
	return pieces
}

// shortPart is up to how many bytes of a body are copied so that there are fewer pieces.
const shortPart = 1 << 10

// texts is memory for what is put into a body.
type texts [2][128]byte

// change is one of a body: text in place of what is at.
type change struct {
	at   types.Span
	text []byte
}

// parts returns the new body in parts, those that are kept of body and between each two what is put there, and how much is
// put in.
func (p Parsed) parts(memory *texts, body []byte, model, session string) (kept [3][]byte, put [2][]byte, n int) {
	var name, id change
	var named, identified bool
	if model != "" {
		name, named = p.editModel(memory[0][:0], body, model)
	}
	if session != "" {
		alone := !named || p.missing.as != onlyMember
		id, identified = p.editSession(memory[1][:0], body, session, alone)
	}
	from := 0
	if identified { // at the beginning of the object: the model is never before it
		kept[0], put[0], n, from = body[:id.at.Start:id.at.Start], id.text, 1, id.at.End
	}
	if named {
		kept[n], put[n], n, from = body[from:name.at.Start:name.at.Start], name.text, n+1, name.at.End
	}
	kept[n] = slices.Clip(body[from:])
	return kept, put, n
}

// editModel returns how the body gets name as its model, and whether that changes anything. The text is
// appended to dst.
func (p Parsed) editModel(dst, body []byte, name string) (change, bool) {
	at := p.Model
	switch {
	case at.Start < at.End:
		if p.holds(body[at.Start:at.End], name) {
			return change{}, false
		}
	case p.missing.as == nowhere || name == "":
		return change{}, false
	default:
		at = p.missing.at
	}
	return change{at: at, text: p.appendModel(dst, body, name)}, true
}

// editSession returns how the body gets a session_id, and whether there is a place for it. alone says that
// nothing else is put into an empty object.
func (p Parsed) editSession(dst, body []byte, session string, alone bool) (change, bool) {
	at := bytes.IndexByte(body, '{') + 1
	if p.Form || at == 0 || p.API != ChatCompletions && p.API != Completions && p.API != Responses {
		return change{}, false
	}
	dst = jsonscan.AppendQuote(append(dst, `"session_id":`...), session)
	if rest := bytes.TrimLeft(body[at:], " \t\r\n"); !alone || len(rest) > 0 && rest[0] != '}' {
		dst = append(dst, ',')
	}
	return change{at: types.Span{Start: at, End: at}, text: dst}, true
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
