package openai

import (
	"bytes"
	"fmt"
	"mime"
	"strings"

	"github.com/inferpick/inferpick/internal/media"
	"github.com/inferpick/inferpick/types"
)

// maxFormParts bounds the parts of a form; the APIs that take one have about a
// dozen fields.
const maxFormParts = 1000

// formBoundary returns the boundary of a multipart/form-data content type, and
// whether it is one.
func formBoundary(contentType string) (string, bool) {
	const form = "multipart/form-data"
	if len(contentType) < len(form) || !strings.EqualFold(contentType[:len(form)], form) {
		return "", false
	}
	_, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", true
	}
	return params["boundary"], true
}

// parseForm reads the fields of a form that matter, as RFC 7578 writes them.
// The package mime/multipart hands out copies of the parts; a splice needs to
// know where they are.
func parseForm(api API, boundary string, body []byte, req *types.Request, limits Limits) (Parsed, error) {
	p := Parsed{API: api, Form: true}
	if len(body) > limits.MaxFormBytes {
		return p, tooLarge(len(body), limits.MaxFormBytes)
	}
	if boundary == "" || len(boundary) > 70 {
		return p, wrongForm(0, "the content type has no boundary of 1 to 70 characters")
	}

	stream := false
	var asked asked
	var prompt, files part
	f := form{body: body, delimiter: []byte("\r\n--" + boundary)}
	for n := 0; f.next(); n++ {
		if n == maxFormParts {
			return p, wrongForm(f.pos, fmt.Sprintf("the form has more than %d parts", maxFormParts))
		}
		value := body[f.value.Start:f.value.End]
		switch {
		case f.file:
			files.addFile(classOfFile(api, f.mediaType), f.value, body)
		case f.name == "model":
			p.Model = f.value
			p.missing = missing{at: f.value, as: formValue}
			if f.joined {
				p.missing.as = formLine
			}
		case f.name == "stream":
			var ok bool
			if stream, ok = formBool(value); !ok {
				return p, wrongFormField(CodeInvalidType, "stream", f.value.Start, "must be true or false")
			}
		case f.name == "prompt":
			prompt = part{span: f.value, tokens: int64(tokensOf(len(value)))}
		case namesMedia(f.name) && len(value) > 0 && api != Transcriptions: // an address, or data in a text
			files.addMedia(mediaOf(body, []piece{{span: f.value, class: classImage}}))
		case f.name != "":
			asked.set([]byte(f.name), value)
		}
	}
	if f.err != "" {
		return p, wrongForm(f.pos, f.err)
	}
	if p.Model.End == 0 {
		p.missing = missing{at: f.first, as: formPart}
	}
	switch size := p.Model.End - p.Model.Start; {
	case size == 0 && limits.ModelOptional:
		p.Model = types.Span{}
	case p.Model.End == 0:
		return p, MissingModel()
	case size == 0:
		return p, wrongFormField(CodeInvalidValue, "model", p.Model.Start, "is empty; name the model that shall answer")
	case size > limits.MaxModelBytes:
		return p, wrongFormField(CodeTooLong, "model", p.Model.Start,
			fmt.Sprintf("has %d bytes; the limit is %d", size, limits.MaxModelBytes))
	case size > 0:
		p.missing = missing{}
	}

	if model := body[p.Model.Start:p.Model.End]; req.Model != string(model) {
		req.Model = string(model)
	}
	req.CacheSalt, req.SessionID, req.ProgramID, req.PreviousID = "", "", "", ""
	req.Body, req.Stream, req.MaxTokens = body, stream || asked.events, 0
	req.Work = types.Work{Kind: api.Kind()}
	switch api {
	case ImageGenerations, Videos:
		req.Work = asked.denoise(api == Videos)
	case Transcriptions:
		req.Work.AudioSeconds = files.seconds()
		req.Work.Output = outputTokens(req.Work.AudioSeconds.Or(0) * writtenTokens)
	}
	setPrompt(&req.Prompt, []part{prompt, files})
	return p, nil
}

// namesMedia reports whether a field may have a picture's address where others have a file.
func namesMedia(name string) bool {
	switch strings.TrimSuffix(name, "[]") {
	case "image", "url", "image_url", "mask", "input_reference", "reference_url", "image_reference":
		return true
	}
	return false
}

// addFile counts a file, by what its head says of it.
func (part *part) addFile(class class, at types.Span, body []byte) {
	data := body[at.Start:at.End]
	m := types.Media{Kind: class.kind(), Span: at}
	if len(data) > 0 {
		head := media.Read(data)
		m.Key, m.Seconds = media.Key(data), head.Seconds
		if class != classAudio {
			m.Width, m.Height = head.Width, head.Height
		}
	}
	defaultFamily.weigh(&m)
	part.addMedia(m)
}

func (part *part) addMedia(m types.Media) {
	switch m.Kind {
	case types.Image:
		part.images++
	case types.Audio:
		part.audio++
	default:
		part.other++
	}
	part.tokens += int64(m.Tokens)
	if len(part.media) < maxMedia {
		part.media = append(part.media, m)
	}
}

// seconds is how long the sound in it is, if that is known of all of it.
func (part *part) seconds() types.Gauge {
	sum := 0.0
	for _, m := range part.media {
		if m.Seconds <= 0 {
			return types.Gauge{}
		}
		sum += m.Seconds
	}
	if sum == 0 || len(part.media) < part.images+part.audio+part.other {
		return types.Gauge{}
	}
	return types.Known(sum)
}

// kind is the kind of media of a class.
func (c class) kind() types.MediaKind {
	switch c {
	case classImage:
		return types.Image
	case classAudio:
		return types.Audio
	case classVideo:
		return types.Video
	}
	return types.OtherMedia
}

// classOfFile returns what a file is to an API.
func classOfFile(api API, mediaType []byte) class {
	kind, _, _ := bytes.Cut(mediaType, []byte("/"))
	switch is := string(bytes.ToLower(kind)); {
	case api == Transcriptions || is == "audio":
		return classAudio // be it the sound of a film
	case is == "video":
		return classVideo
	case api == ImageGenerations || api == Videos || is == "image":
		return classImage
	}
	return classOther
}

// form walks the parts of a multipart body.
type form struct {
	body      []byte
	delimiter []byte // with the line end before it, which belongs to it
	pos       int    // after the delimiter of the part that comes next
	started   bool
	first     types.Span // the first delimiter, without its line ends
	err       string

	// The part that next has read.
	name      string
	mediaType []byte // as it is written
	file      bool
	value     types.Span
	joined    bool // the value is empty, and its line end is that of the header
}

// next reads a part. It returns false at the end of the form or on an error.
func (f *form) next() bool {
	if !f.started {
		f.started = true
		if f.opensAt(0) {
			f.pos = len(f.delimiter) - 2
		} else if i := f.find(0); i >= 0 {
			f.pos = i + len(f.delimiter)
		} else {
			f.err = "the boundary of the content type is not in the body"
			return false
		}
		f.first = types.Span{Start: f.pos - len(f.delimiter) + 2, End: f.pos}
	}
	rest := f.body[f.pos:]
	if bytes.HasPrefix(rest, []byte("--")) {
		return false
	}
	f.pos += len(rest) - len(bytes.TrimLeft(rest, " \t"))
	if !bytes.HasPrefix(f.body[f.pos:], []byte("\r\n")) {
		f.err = "no line end after a boundary"
		return false
	}
	f.pos += 2
	if !f.header() {
		return false
	}
	// The empty line that ends the header may already be the one that belongs to
	// the delimiter: then the value is empty.
	start := f.pos
	end := f.find(start - 2)
	if end < 0 {
		f.err = "the form ends before its last boundary"
		return false
	}
	f.value, f.joined = types.Span{Start: start, End: max(start, end)}, end < start
	f.pos = end + len(f.delimiter)
	return true
}

// header reads the header of a part, up to and with the empty line.
func (f *form) header() bool {
	f.name, f.file, f.mediaType = "", false, nil
	for {
		i := bytes.Index(f.body[f.pos:], []byte("\r\n"))
		if i < 0 {
			f.err = "the header of a part does not end"
			return false
		}
		line := f.body[f.pos : f.pos+i]
		f.pos += i + 2
		if len(line) == 0 {
			return true
		}
		key, value, _ := bytes.Cut(line, []byte(":"))
		if value = bytes.TrimSpace(value); bytes.EqualFold(key, []byte("Content-Type")) {
			f.mediaType = value
		}
		if !bytes.EqualFold(key, []byte("Content-Disposition")) {
			continue
		}
		_, params, err := mime.ParseMediaType(string(value)) // servers take it for form-data, whatever it is
		f.name = params["name"]
		_, f.file = params["filename"]
		if (err != nil || f.name == "") && !f.guess(value) {
			f.err = "the content-disposition of a part cannot be read, and may be that of the model; put its parameters in quotes"
			return false
		}
	}
}

// guess reads a disposition that breaks the rules, as far as that matters: those of servers are other rules. It returns false
// if it may be a field that a server takes for the model: that must not be another than what is read here.
func (f *form) guess(disposition []byte) bool {
	text := bytes.ToLower(bytes.ReplaceAll(disposition, []byte(`\`), nil))
	f.name, f.file = "", bytes.Contains(text, []byte("filename"))
	return !bytes.Contains(text, []byte("model")) && !bytes.ContainsAny(text, "*%") && !bytes.Contains(text, []byte("=?"))
}

// find returns the offset of the next delimiter at or after from, or -1. What
// merely starts like one is none.
func (f *form) find(from int) int {
	for from <= len(f.body) {
		i := bytes.Index(f.body[from:], f.delimiter)
		if i < 0 {
			return -1
		}
		if i += from; f.opensAt(i + 2) {
			return i
		}
		from = i + 1
	}
	return -1
}

// opensAt reports whether a boundary line starts at i.
func (f *form) opensAt(i int) bool {
	dashBoundary := f.delimiter[2:]
	if !bytes.HasPrefix(f.body[i:], dashBoundary) {
		return false
	}
	after := f.body[i+len(dashBoundary):]
	return len(after) > 0 && (after[0] == '\r' || after[0] == ' ' || after[0] == '\t') || bytes.HasPrefix(after, []byte("--"))
}

// formBool reads what the model servers' frameworks take for a boolean.
func formBool(b []byte) (value, ok bool) {
	switch strings.ToLower(string(b)) {
	case "true", "t", "yes", "y", "on", "1":
		return true, true
	case "false", "f", "no", "n", "off", "0":
		return false, true
	}
	return false, len(b) == 0
}

func wrongForm(offset int, message string) error {
	return &Error{
		Status: 400, Code: CodeInvalidForm, Offset: offset,
		Message: fmt.Sprintf("the body is not a valid form: %s (byte %d); send multipart/form-data", message, offset),
	}
}

func wrongFormField(code, param string, offset int, message string) error {
	return &Error{
		Status: 400, Code: code, Param: param, Offset: offset,
		Message: fmt.Sprintf("field %q of the form (byte %d) %s", param, offset, message),
	}
}
