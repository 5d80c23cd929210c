package config

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// Verdict is what Loader.Inspect finds of an object.
type Verdict int

const (
	// Loads: it is good by itself.
	Loads Verdict = iota
	// Fails: it is for an endpoint picker, and something is wrong with it.
	Fails
	// Skips: it is not for an endpoint picker, or a template of something.
	Skips
)

// AnotherKind is the Reason of an object of a kind that is not for an endpoint picker.
const AnotherKind = "another kind"

// Item is an object that Loader.Inspect found, or a document of which nothing can be read.
type Item struct {
	// File, Document and Line say where it begins, as in Error. Within is where in an
	// object that holds it as text, such as data["plugins.yaml"] of a ConfigMap.
	File           string
	Document, Line int
	Within         string

	Kind       string // empty: it has none that is known
	APIVersion string
	Name       types.NamespacedName

	Verdict Verdict
	// Reason is why it is skipped.
	Reason string
	// Err joins an *Error for each thing that is wrong with it.
	Err error
	// Warnings are those of its document, at the first object of that.
	Warnings []string
}

// Inspect looks at each object of a file by itself, whatever else is in the file: is it
// for an endpoint picker, and would it be read? Those that others hold as text are found
// too, as an EndpointPickerConfig in the data of a ConfigMap or in values for Helm. What
// objects say of each other is not looked at. name says as in Parse whether data is JSON.
func (l Loader) Inspect(name string, data []byte) []Item {
	l.PoolsElsewhere = false
	f := file{name: name, data: data}
	docs, syntax := documents(data, f.isJSON())
	var items []Item
	for i := range docs {
		items = append(items, l.inspect(name, &docs[i], "")...)
	}
	if syntax != nil {
		item := Item{File: name, Line: syntax.line, Verdict: Skips, Reason: "unreadable"}
		if kind := kindIn(data); kind != "" {
			item.Kind, item.Verdict = kind, Fails
			item.Err = &Error{File: name, Line: syntax.line, Err: syntax.err}
		}
		items = append(items, item)
	}
	return items
}

// inspect looks at one document. within: where it is in another one, which has its number.
func (l Loader) inspect(name string, d *document, within string) []Item {
	b := newBuilder(l, nil)
	b.under.within = within
	b.document(name, d)
	var items []Item
	first := func(item Item) Item {
		item.File, item.Document, item.Within = name, d.number, within
		if len(items) == 0 {
			item.Warnings = b.config.Warnings
		}
		return item
	}
	for _, o := range b.config.objects {
		items = append(items, first(Item{Line: o.line, Kind: o.id.kind, Name: o.id.name, Verdict: Loads}))
	}
	for _, r := range b.config.Rejected {
		item := Item{Line: r.Line, Kind: r.Kind, Name: r.Name, Verdict: Fails, Err: r.Err}
		if reason := d.noObject(item.Kind); reason != "" {
			item.Verdict, item.Reason = Skips, reason
		}
		items = append(items, first(item))
	}
	for _, kind := range slices.Sorted(maps.Keys(b.config.Skipped)) {
		for range b.config.Skipped[kind] {
			items = append(items, first(Item{Line: d.line, Kind: kind, Verdict: Skips, Reason: AnotherKind}))
		}
	}
	if within == "" {
		items = append(items, l.embedded(name, d)...)
	}
	return items
}

var placeholder = regexp.MustCompile(`\$\{?[A-Z][A-Z0-9_]+\}?`)

// noObject returns why a document that cannot be read as one of ours is no failure: it is
// none, or a template of one. kind is what it says it is.
func (d *document) noObject(kind string) string {
	switch {
	case bytes.Contains(d.text, []byte("{{")):
		return "a template of Helm"
	case placeholder.Match(d.text):
		return "a template for the shell"
	case slices.Contains(kindNames, kind), kind != "" && check.Nearest(kind, kindNames) != "":
		return ""
	}
	if _, syntax := d.toJSON(); len(syntax) > 0 {
		return "unreadable"
	}
	return "no object of Kubernetes"
}

// embedded looks at the documents that the strings of a document hold.
func (l Loader) embedded(name string, d *document) []Item {
	if !bytes.Contains(d.text, []byte(kindPicker)) {
		return nil
	}
	data, syntax := d.toJSON()
	if len(syntax) > 0 || data == nil {
		return nil
	}
	tree, err := parseTree(data, d.start)
	if err != nil {
		return nil
	}
	lines := &lineIndex{text: d.text, start: d.start}
	var items []Item
	eachText(tree, "", func(path, text string) {
		if !strings.Contains(text, "\n") || kindIn([]byte(text)) == "" {
			return
		}
		for _, inner := range yamlDocuments([]byte(text)) {
			from := lines.ofText(path)
			inner.number, inner.start, inner.line = d.number, from+inner.start-1, from+inner.line-1
			items = append(items, l.inspect(name, &inner, path)...)
		}
	})
	return items
}

// eachText calls fn for each string in a tree.
func eachText(v any, path string, fn func(path, text string)) {
	switch v := v.(type) {
	case string:
		fn(path, v)
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			at := check.Join(path, key)
			if strings.ContainsAny(key, ".[ :") {
				at = path + "[" + strconv.Quote(key) + "]"
			}
			eachText(v[key], at, fn)
		}
	case []any:
		for i := range v {
			eachText(v[i], index(path, i), fn)
		}
	}
}
