package strictjson

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/inferpick/inferpick/internal/check"
)

// ErrUnknownField is what errors about unknown fields wrap.
var ErrUnknownField = errors.New("unknown field")

// Options say how errors name a document. The zero value is good.
type Options struct {
	Package string // first in each error
	File    string // name of the document
	Line    int    // of the file at which the document begins, if it is a part of it; 0: 1
	// Unknown, if set, hears of each unknown field, which then is no error.
	Unknown func(*check.Error)
}

// Document is JSON whose places are known.
type Document struct {
	o    Options
	data []byte // of the file, of which the document may be a part
	root *node
	errs check.Errors // repeated names
}

// Decode reads the JSON data into what v points to, which holds what could be read if there
// is an error: a check.Errors.
func Decode(data []byte, v any, o Options) error {
	doc, err := Parse(data, o)
	if err != nil {
		return err
	}
	return doc.Decode(v)
}

// Parse reads one document. The error, a check.Errors, is that data is no JSON; Decode and
// Value report what else is wrong.
func Parse(data []byte, o Options) (*Document, error) {
	var raw json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, syntaxError(data, 0, err, o)
	}
	return newDocument(data, 0, o)
}

// ParseAll is Parse for any number of documents, one after the other.
func ParseAll(data []byte, o Options) ([]*Document, error) {
	var docs []*Document
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var raw json.RawMessage
		switch err := dec.Decode(&raw); {
		case err == io.EOF:
			return docs, nil
		case err != nil:
			return nil, syntaxError(data, int(dec.InputOffset()), err, o)
		}
		doc, err := newDocument(data, int(dec.InputOffset())-len(raw), o)
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
}

// newDocument reads the valid JSON at an offset.
func newDocument(data []byte, offset int, o Options) (*Document, error) {
	p := parser{o: &o, data: data, at: offset}
	doc := &Document{o: o, data: data, root: p.value()}
	for _, e := range p.errs {
		doc.errs = append(doc.errs, doc.placed(e.node, e.Error))
	}
	if p.deep {
		return nil, doc.errs
	}
	return doc, nil
}

// syntaxError says where data stops to be JSON. Whole values were read up to an offset.
func syntaxError(data []byte, offset int, err error, o Options) error {
	at := len(data)
	var syntax *json.SyntaxError
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		err = errors.New("is empty, want a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF), err.Error() == "unexpected end of JSON input":
		err = errors.New("ends in the middle of a JSON value")
	case errors.As(err, &syntax):
		at = min(max(int(syntax.Offset)-1, offset), at)
		err = fmt.Errorf("is no JSON: %w", err)
	}
	e := &check.Error{Package: o.Package, File: o.File, Problem: "the document " + err.Error(), Err: err}
	e.Line, e.Column = o.place(data, at)
	return check.Errors{e}
}

// place returns line and column of an offset, from 1.
func (o *Options) place(data []byte, at int) (line, column int) {
	before := data[:at]
	return max(o.Line, 1) + bytes.Count(before, []byte("\n")), at - bytes.LastIndexByte(before, '\n')
}

// placed fills in whose error it is and the place of a node.
func (d *Document) placed(n *node, e *check.Error) *check.Error {
	e.Package, e.File = d.o.Package, d.o.File
	e.Line, e.Column = d.o.place(d.data, n.at)
	return e
}

// Place returns line and column of a field, or of what it is in as far as that is there.
func (d *Document) Place(field string) (line, column int) {
	return d.o.place(d.data, d.root.find(field).at)
}

// Within turns the place in a value that was read as a json.RawMessage into that in the
// document.
func (d *Document) Within(field string, line, column int) (int, int) {
	before, first := d.o.place(d.data, d.root.find(field).start)
	if line == 1 {
		column += first - 1
	}
	return before + line - 1, column
}

// Elements returns those of the list that is a field of the document, of nothing if it is
// not there. The paths of each begin anew.
func (d *Document) Elements(field string) ([]*Document, error) {
	list := d.root.member(field)
	if list == nil || list.kind == 'n' {
		return nil, nil
	}
	if list.kind != '[' {
		return nil, check.Errors{d.placed(list, &check.Error{Field: field, Value: list.any(), Want: "a list"})}
	}
	docs := make([]*Document, len(list.inner))
	for i, item := range list.inner {
		docs[i] = &Document{o: d.o, data: d.data, root: item}
	}
	return docs, nil
}

// Has reports whether a field of the document is there, and not null.
func (d *Document) Has(field string) bool {
	n := d.root.member(field)
	return n != nil && n.kind != 'n'
}

// Locate returns err as check.Errors with package, file and place, by the fields that they
// are about: that of the field, or of what it is in as far as that is there. Errors that
// have a place keep it. Of one that has no field it is what its text begins with, if that
// is a field. A nil err stays nil.
func (d *Document) Locate(err error) error {
	all := check.From(err)
	for i, e := range all {
		c := *e
		all[i], c.Package, c.File = &c, d.o.Package, d.o.File
		n := d.root.find(cmp.Or(e.Field, e.Problem))
		if e.Line == 0 && (e.Field != "" || n != d.root) {
			d.placed(n, &c)
		}
	}
	return all.Err()
}

// Value returns the document as encoding/json would, with numbers as json.Number.
func (d *Document) Value() (any, error) { return d.root.any(), d.errs.Err() }
