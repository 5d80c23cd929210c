package config

import "slices"

// Types of parsers. What they parse is told apart by path here, so that all but one have
// nothing to say.
const typePassthrough = "passthrough-parser"

var parserTypes = []string{"anthropic-parser", typeParser, typePassthrough, "sglanghttp-parser", "vllmgrpc-parser", "vllmhttp-parser"}

// parsers reads which parsers are in use: one at the top, or several of the request
// handler, as newer versions have it. Bodies are not looked at if one that does not comes
// before all that do: it takes every request.
func (t *translation) parsers() {
	var used []string
	read := func(f fields) {
		if f.m != nil {
			used = append(used, t.parser(f))
		}
	}
	read(t.object("parser"))
	handler := t.object("requestHandler")
	read(handler.object("parser"))
	handler.each("parsers", read)
	handler.done()
	t.passthrough = len(used) > 0 && !slices.ContainsFunc(used, func(typeName string) bool { return typeName != typePassthrough })
}

// parser returns the type of the parser that is referred to. As there, it need not be
// declared.
func (t *translation) parser(f fields) string {
	ref := f.need("pluginRef")
	defer f.done()
	switch d := t.byName[ref]; {
	case d == nil && slices.Contains(parserTypes, ref):
		return ref
	case ref == "":
	case d == nil:
		t.Failf(f.at("pluginRef"), "%s", t.noPlugin(ref))
	case d.bad:
	case !slices.Contains(parserTypes, d.typeName):
		t.Failf(f.at("pluginRef"), "is %q of type %s, want one of %s", ref, d.typeName, listed(parserTypes))
	default:
		d.used = true
		return d.typeName
	}
	return ""
}
