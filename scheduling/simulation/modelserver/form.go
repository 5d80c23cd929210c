package modelserver

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
)

// maxParts bounds the parts of a multipart body.
const maxParts = 128

// form is a body as fields, whether it was JSON or multipart/form-data.
type form struct {
	fields map[string]string // texts, numbers and flags as text; lists and objects as JSON
	files  []upload
	err    *apiError // the first thing that is wrong with a field
}

// upload is a file in a form.
type upload struct {
	field, name string
	data        []byte
}

// isMultipart reports whether a body is a form with files.
func isMultipart(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "multipart/form-data"
}

// readForm reads the whole body.
func (p *process) readForm(w http.ResponseWriter, r *http.Request) (*form, *apiError) {
	f := &form{fields: map[string]string{}}
	if !isMultipart(r) {
		var fields map[string]json.RawMessage
		if err := p.readJSON(w, r, &fields); err != nil {
			return nil, err
		}
		for name, raw := range fields {
			var text string
			switch {
			case absent(raw):
				continue
			case json.Unmarshal(raw, &text) != nil:
				text = string(raw)
			}
			f.fields[name] = text
		}
		return f, nil
	}
	r.Body = http.MaxBytesReader(w, r.Body, p.opts.MaxBodyBytes)
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, unreadable(err)
	}
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err == nil && n == maxParts {
			return nil, invalid("", "The form has more than %d parts.", maxParts)
		}
		if err == nil {
			err = f.add(part)
		}
		if err != nil {
			return nil, unreadable(err)
		}
	}
}

func (f *form) add(part *multipart.Part) error {
	data, err := io.ReadAll(part)
	if name := strings.TrimSuffix(part.FormName(), "[]"); part.FileName() != "" {
		f.files = append(f.files, upload{name, part.FileName(), data})
	} else {
		f.fields[name] = string(data)
	}
	return err
}

// fail remembers what is wrong with a field.
func (f *form) fail(field, format string, args ...any) {
	if f.err == nil {
		f.err = invalid(field, format, args...)
	}
}

// need returns a text that must be given.
func (f *form) need(field string) string {
	text := f.fields[field]
	if text == "" {
		f.fail(field, "Missing required parameter: '%s'.", field)
	}
	return text
}

// number returns a number, or what is usual if it is not given.
func (f *form) number(field string, usual, least, most float64) float64 {
	text, ok := f.fields[field]
	if !ok {
		return usual
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= least && n <= most) {
		f.fail(field, "%s is %.40q: want a number from %v to %v", field, text, least, most)
		return usual
	}
	return n
}

// integer is number for one that is whole.
func (f *form) integer(field string, usual, least, most int) int {
	n := f.number(field, float64(usual), float64(least), float64(most))
	if n != float64(int(n)) {
		f.fail(field, "%s is %v: want a whole number", field, n)
	}
	return int(n)
}

// choice returns one of some texts; the first is usual.
func (f *form) choice(field string, texts ...string) string {
	text, ok := f.fields[field]
	if !ok {
		return texts[0]
	}
	for _, one := range texts {
		if text == one {
			return text
		}
	}
	f.fail(field, "%s is %.40q: this simulated server knows %s", field, text, strings.Join(texts, ", "))
	return texts[0]
}

// size returns a width and a height, "WIDTHxHEIGHT".
func (f *form) size(field string, width, height, most int) (w, h int) {
	text, ok := f.fields[field]
	if !ok || text == "auto" {
		return width, height
	}
	x, y, _ := strings.Cut(text, "x")
	w, err1 := strconv.Atoi(x)
	h, err2 := strconv.Atoi(y)
	if err1 != nil || err2 != nil || w < 16 || h < 16 || w > most || h > most {
		f.fail(field, "%s is %.40q: want WIDTHxHEIGHT, each from 16 to %d", field, text, most)
		return width, height
	}
	return w, h
}

// file returns the first file of a field, which must be there.
func (f *form) file(field string) upload {
	for _, one := range f.files {
		if one.field == field {
			return one
		}
	}
	f.fail(field, "Missing required parameter: '%s'.", field)
	return upload{}
}
