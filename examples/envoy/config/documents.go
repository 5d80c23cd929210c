package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// document is one of those that a file holds, empty ones left out.
type document struct {
	number int // from 1
	line   int // of its first line that is neither blank nor a comment
	start  int // line of text's first
	text   []byte
	json   bool // text is JSON
}

// syntaxError is a line of a file that is no YAML or JSON. Line 0: not known.
type syntaxError struct {
	line int
	err  error
}

var bom = []byte("\ufeff")

// documents cuts a file into its documents: in JSON one after the other with
// white space between, in YAML at the lines that begin with --- or with three dots.
func documents(data []byte, isJSON bool) ([]document, *syntaxError) {
	data = bytes.TrimPrefix(data, bom)
	if !utf8.Valid(data) {
		return nil, &syntaxError{invalidLine(data), errors.New("is not UTF-8")}
	}
	if isJSON {
		return jsonDocuments(data)
	}
	return yamlDocuments(data), nil
}

func invalidLine(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return 1 + bytes.Count(data[:i], []byte("\n"))
		}
		i += size
	}
	return 0
}

func jsonDocuments(data []byte) ([]document, *syntaxError) {
	var (
		docs []document
		dec  = json.NewDecoder(bytes.NewReader(data))
		line = 1
		upTo = 0 // of data, up to where line counts
	)
	lineAt := func(offset int64) int {
		to := min(max(int(offset), upTo), len(data))
		line += bytes.Count(data[upTo:to], []byte("\n"))
		upTo = to
		return line
	}
	for {
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if err == io.EOF {
			return docs, nil
		}
		if err != nil {
			at := int64(len(data))
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				at = syntax.Offset - 1
			}
			if err == io.ErrUnexpectedEOF {
				err = errors.New("unexpected end of JSON input")
			}
			return docs, &syntaxError{lineAt(at), fmt.Errorf("JSON: %w", err)}
		}
		at := int(dec.InputOffset()) - len(raw)
		n := lineAt(int64(at))
		indent := at - 1 - bytes.LastIndexByte(data[:at], '\n') // so that columns are those of the file
		text := append(bytes.Repeat([]byte(" "), indent), raw...)
		docs = append(docs, document{number: len(docs) + 1, line: n, start: n, text: text, json: true})
	}
}

// yamlDocuments cuts at lines that begin with --- or ... and then end or go on
// with a blank. Only there can a document end: what is inside a block scalar is
// indented. The line itself, and directives and comments before it, belong to the
// document that it begins, so that the parser sees them.
func yamlDocuments(data []byte) []document {
	var (
		docs   []document
		start  int // of the document under way
		from   = 1 // its line
		marked bool
		first  int // the first line with content; 0: none yet
	)
	end := func(at int) {
		if first > 0 {
			docs = append(docs, document{number: len(docs) + 1, line: first, start: from, text: data[start:at]})
		}
		marked, first = false, 0
	}
	for pos, n := 0, 1; pos < len(data); n++ {
		size, full := lineLen(data[pos:])
		line := data[pos : pos+size]
		switch rest, ok := marker(line); {
		case ok && line[0] == '-':
			if marked || first > 0 {
				end(pos)
				start, from = pos, n
			}
			marked = true
			if !isBlank(rest) {
				first = n
			}
		case ok: // The rest of the line belongs to no document but the next.
			end(pos)
			start, from = pos+3, n
			if !isBlank(rest) {
				first = n
			}
		case first == 0 && !isBlank(line) && (marked || line[0] != '%'):
			first = n
		}
		pos += full
	}
	end(len(data))
	return docs
}

// lineLen returns the length of the first line of data, without and with what
// ends it. The parser of YAML takes all of these for the end of a line.
func lineLen(data []byte) (size, full int) {
	for i, c := range data {
		switch {
		case c == '\r' && i+1 < len(data) && data[i+1] == '\n':
			return i, i + 2
		case c == '\n' || c == '\r':
			return i, i + 1
		case c == 0xc2 && bytes.HasPrefix(data[i:], []byte("\u0085")):
			return i, i + 2
		case c == 0xe2 && (bytes.HasPrefix(data[i:], []byte("\u2028")) || bytes.HasPrefix(data[i:], []byte("\u2029"))):
			return i, i + 3
		}
	}
	return len(data), len(data)
}

// marker reports whether a line separates documents, and what follows on it.
func marker(line []byte) (rest []byte, ok bool) {
	if !bytes.HasPrefix(line, []byte("---")) && !bytes.HasPrefix(line, []byte("...")) {
		return nil, false
	}
	rest = line[3:]
	return rest, len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t'
}

// isBlank reports whether there is nothing but a comment in a line.
func isBlank(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	return len(line) == 0 || line[0] == '#'
}

// toJSON returns the document as JSON, nil if it is null.
func (d *document) toJSON() ([]byte, []syntaxError) {
	data := d.text
	if !d.json {
		// JSON is passed on as it is: it is YAML too, but for tabs.
		if text := bytes.TrimSpace(bytes.TrimPrefix(data, []byte("---"))); len(text) > 0 && text[0] == '{' && json.Valid(text) {
			data = text
		} else {
			// The blank line before makes the parser say all lines: for the first one
			// it leaves the line out.
			var err error
			if data, err = yaml.YAMLToJSONStrict(append([]byte("\n"), d.text...)); err != nil {
				return nil, d.syntaxErrors(err)
			}
		}
	}
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return nil, nil
	}
	return data, nil
}

var lineInError = regexp.MustCompile(`^line (\d+): `)

// syntaxErrors are those in an error of the YAML parser, with the lines of the
// file.
func (d *document) syntaxErrors(err error) []syntaxError {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n")
	var out []syntaxError
	for part := range strings.SplitSeq(text, "\n") {
		part = strings.TrimSpace(part)
		e := syntaxError{0, errors.New("YAML: " + part)}
		if m := lineInError.FindStringSubmatch(part); m != nil {
			n, _ := strconv.Atoi(m[1])
			part = part[len(m[0]):]
			// The parser counts from 0 what it did not find, all else from 1.
			if strings.HasPrefix(part, "did not find") {
				n++
			}
			e = syntaxError{d.start + n - 2, errors.New("YAML: " + part)}
		}
		out = append(out, e)
	}
	return out
}
