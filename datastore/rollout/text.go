package rollout

import (
	"fmt"
	"strconv"
)

// This file is how things are called in logs and on pages.

// String returns kind and name, and the rule of a rewrite unless that is the first.
func (o Object) String() string {
	text := o.Kind + " " + o.Name.String()
	if o.Rule > 0 {
		text += " rule " + strconv.Itoa(o.Rule)
	}
	return text
}

// String returns the state in a word: "unknown", "missing", "loading", "failed" or "loaded".
func (h Has) String() string {
	switch h {
	case HasUnknown:
		return "unknown"
	case HasNot:
		return "missing"
	case HasLoading:
		return "loading"
	case HasFailed:
		return "failed"
	case HasIt:
		return "loaded"
	}
	return "Has(" + strconv.Itoa(int(h)) + ")"
}

// errorf returns an error of this package.
func errorf(format string, args ...any) error { return fmt.Errorf("rollout: "+format, args...) }
