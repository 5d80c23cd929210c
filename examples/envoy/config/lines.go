package config

import (
	"strconv"
	"strings"

	"sigs.k8s.io/yaml/goyaml.v3"
)

// lineIndex finds the lines of fields in a document. The document is read for it when it
// is asked for the first time, as most are good and never are.
type lineIndex struct {
	text  []byte // nil: nothing is known
	start int    // the line of text's first
	read  bool
	root  *yaml.Node
}

// of returns line and column of the field that a message begins with, such as
//
//	spec.targetModels[0].weight is …
//
// or of what that field is in as far as it is there. 0: the message begins with no field
// of the document. JSON is YAML enough for it.
func (x *lineIndex) of(message string) (line, column int) {
	_, line, column = x.find(message)
	return line, column
}

// find returns the node that a path leads to, as far as it does, and the place of its name.
func (x *lineIndex) find(path string) (node *yaml.Node, line, column int) {
	if node = x.node(); node == nil {
		return nil, 0, 0
	}
	for _, step := range steps(path) {
		next, name := step.from(node)
		if next == nil {
			break
		}
		node, line, column = next, x.start+name.Line-1, name.Column
	}
	return node, line, column
}

// ofText returns the first line of the text that a string holds.
func (x *lineIndex) ofText(path string) int {
	node, line, _ := x.find(path)
	if node == nil || line == 0 {
		return x.start
	}
	line = x.start + node.Line - 1
	if node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		line++ // the text begins after the line of | or >
	}
	return line
}

func (x *lineIndex) node() *yaml.Node {
	if x == nil {
		return nil
	}
	if !x.read {
		x.read = true
		var doc yaml.Node
		if len(x.text) > 0 && yaml.Unmarshal(x.text, &doc) == nil && len(doc.Content) > 0 {
			x.root = doc.Content[0]
		}
	}
	return x.root
}

// step is one of the path of a field: a name, or without one an index.
type step struct {
	name  string
	index int
}

// from returns what is one step down from a node, and where it begins: its name, if it has
// one.
func (s step) from(node *yaml.Node) (value, name *yaml.Node) {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		node = node.Alias
	}
	switch {
	case s.name != "" && node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == s.name {
				return node.Content[i+1], node.Content[i]
			}
		}
	case s.name == "" && node.Kind == yaml.SequenceNode && s.index < len(node.Content):
		return node.Content[s.index], node.Content[s.index]
	}
	return nil, nil
}

// steps reads the path at the beginning of a message: names with dots between, indices
// and quoted names in brackets.
func steps(message string) []step {
	var out []step
	for message != "" {
		switch {
		case message[0] == '.':
			message = message[1:]
		case strings.HasPrefix(message, `["`):
			name, err := strconv.QuotedPrefix(message[1:])
			if err != nil {
				return out
			}
			key, _ := strconv.Unquote(name)
			out = append(out, step{name: key})
			message = strings.TrimPrefix(message[1+len(name):], "]")
		case message[0] == '[':
			digits, rest, ok := strings.Cut(message[1:], "]")
			n, err := strconv.Atoi(digits)
			if !ok || err != nil || n < 0 {
				return out
			}
			out = append(out, step{index: n})
			message = rest
		default:
			end := strings.IndexAny(message, ".[ :")
			if end < 0 {
				end = len(message)
			}
			if end == 0 {
				return out
			}
			out = append(out, step{name: message[:end]})
			message = message[end:]
			if message != "" && message[0] != '.' && message[0] != '[' {
				return out
			}
		}
	}
	return out
}
