package strictjson

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
)

// maxDepth bounds the nesting. Kubernetes' own metadata (managedFields) reaches about a
// dozen, a declared decision tree some hundred.
const maxDepth = 512

// node is one JSON value.
type node struct {
	at         int      // offset of its place: of the name, for a member of an object
	start, end int      // offsets of the value
	kind       byte     // first character: { [ " t f n, and 0 for numbers
	text       string   // of a string or number
	names      []string // of the members of an object
	inner      []*node  // members of an object or elements of a list
}

// parser reads JSON that is valid.
type parser struct {
	o      *Options
	data   []byte
	at     int
	parent []string // of the value under way: names and indices as in a path
	errs   []nodeError
	deep   bool
}

type nodeError struct {
	node *node
	*check.Error
}

// enter reads what is inside a value.
func (p *parser) enter(step string) *node {
	p.parent = append(p.parent, step)
	n := p.value()
	p.parent = p.parent[:len(p.parent)-1]
	return n
}

// skip goes on to the next character that means something.
func (p *parser) skip() byte {
	for strings.IndexByte(" \t\r\n,:", p.data[p.at]) >= 0 {
		p.at++
	}
	return p.data[p.at]
}

func (p *parser) value() *node {
	n := &node{kind: p.skip()}
	n.at, n.start = p.at, p.at
	if len(p.parent) > maxDepth {
		if !p.deep {
			p.deep = true
			p.errs = append(p.errs, nodeError{n, &check.Error{Problem: fmt.Sprintf("the document is nested deeper than %d levels", maxDepth)}})
		}
		n.kind = 'n'
		p.pass()
		return n
	}
	switch n.kind {
	case '{':
		p.object(n)
	case '[':
		for p.at++; p.skip() != ']'; {
			n.inner = append(n.inner, p.enter(index("", len(n.inner))))
		}
		p.at++
	case '"':
		n.text = p.quoted()
	default:
		for p.at < len(p.data) && strings.IndexByte(" \t\r\n,:]}", p.data[p.at]) < 0 {
			p.at++
		}
		if n.kind != 't' && n.kind != 'f' && n.kind != 'n' {
			n.kind, n.text = 0, string(p.data[n.start:p.at])
		}
	}
	n.end = p.at
	return n
}

func (p *parser) object(n *node) {
	seen := map[string]*node{}
	for p.at++; p.skip() != '}'; {
		at := p.at
		name := p.quoted()
		v := p.enter(member("", name))
		v.at = at
		if first := seen[name]; first != nil {
			line, column := p.o.place(p.data, first.at)
			e := &check.Error{Problem: fmt.Sprintf("is there twice, first at line %d, column %d", line, column)}
			for _, step := range append(p.parent, member("", name)) {
				e.Field = check.Join(e.Field, step)
			}
			p.errs = append(p.errs, nodeError{v, e})
			continue
		}
		seen[name] = v
		n.names, n.inner = append(n.names, name), append(n.inner, v)
	}
	p.at++
}

// quoted reads a string.
func (p *parser) quoted() (s string) {
	start := p.at
	for p.at++; p.data[p.at] != '"'; p.at++ {
		if p.data[p.at] == '\\' {
			p.at++
		}
	}
	p.at++
	_ = json.Unmarshal(p.data[start:p.at], &s) // valid
	return s
}

// pass goes on behind a value without reading it.
func (p *parser) pass() {
	var raw json.RawMessage
	_ = json.NewDecoder(bytes.NewReader(p.data[p.at:])).Decode(&raw) // valid
	p.at += len(raw)
}

// any returns the value as encoding/json does, with numbers as json.Number.
func (n *node) any() any {
	switch n.kind {
	case '{':
		m := make(map[string]any, len(n.names))
		for i, name := range n.names {
			m[name] = n.inner[i].any()
		}
		return m
	case '[':
		list := make([]any, len(n.inner))
		for i, item := range n.inner {
			list[i] = item.any()
		}
		return list
	case '"':
		return n.text
	case 't', 'f':
		return n.kind == 't'
	case 'n':
		return nil
	}
	return json.Number(n.text)
}

// member returns the value of a member of an object, nil if there is none.
func (n *node) member(name string) *node {
	if i := slices.Index(n.names, name); i >= 0 {
		return n.inner[i]
	}
	return nil
}

// find returns the node that a path leads to, as far as it does.
func (n *node) find(path string) *node {
	for path != "" {
		var next *node
		var name string
		if name, path = step(path); name == "" {
			return n
		}
		if i, err := strconv.Atoi(name); n.kind == '[' && err == nil && i >= 0 && i < len(n.inner) {
			next = n.inner[i]
		} else if n.kind == '{' {
			next = n.member(name)
		}
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

// step takes the first name or index off a path.
func step(path string) (name, rest string) {
	path = strings.TrimPrefix(path, ".")
	if quoted, ok := strings.CutPrefix(path, "["); ok {
		if text, err := strconv.QuotedPrefix(quoted); err == nil {
			name, _ = strconv.Unquote(text)
			return name, strings.TrimPrefix(quoted[len(text):], "]")
		}
		name, rest, _ = strings.Cut(quoted, "]")
		return name, rest
	}
	end := strings.IndexAny(path, ".[ ")
	if end < 0 {
		return path, ""
	}
	if path[end] == ' ' {
		return path[:end], ""
	}
	return path[:end], path[end:]
}

// member is the path of a field of an object.
func member(path, name string) string {
	if name == "" || strings.ContainsAny(name, ".[] \"") {
		return path + "[" + strconv.Quote(name) + "]"
	}
	return check.Join(path, name)
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
