package loader

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"
)

// What an Error can wrap, beside what made a request fail, such as context.DeadlineExceeded.
var (
	// ErrOff: the server has no path to load adapters by.
	ErrOff = errors.New("adapters cannot be loaded at run time")
	// ErrNoSource: there is no adapter where it should be loaded from.
	ErrNoSource = errors.New("no adapter at the source")
	// ErrTaken: the name is that of a base model, or of an adapter from another source.
	ErrTaken = errors.New("the name is taken")
	// ErrRefused: the server cannot load the adapter, or may not for us.
	ErrRefused = errors.New("refused")
	// ErrNotServed: the server does not list the adapter, or does not answer requests for it.
	ErrNotServed = errors.New("not served")
	// ErrUnknownEngine: Auto does not know how the server loads adapters.
	ErrUnknownEngine = errors.New("unknown engine")
	// ErrName: the adapter's name, or its source, cannot be one.
	ErrName = errors.New("bad name")
)

// Error is the error of loaders: what went wrong where, and what to do.
type Error struct {
	Op      string // load, unload, list, probe or detect
	URL     string // that was asked; empty: none
	Adapter string // its name; empty for list and detect
	Status  int    // of the answer; 0: there was none
	What    string // went wrong
	Words   string // those of the server, at most 300 bytes
	Do      string // what can be done about it
	Err     error  // one of the errors above, or what made the request fail; nil: neither
}

// Error returns all of it in one line. What is wrong comes first, for there are places that cut.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("loader: " + e.Op)
	if e.Adapter != "" {
		fmt.Fprintf(&b, " %q", e.Adapter)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	if e.What != "" {
		b.WriteString(": " + e.What)
	}
	if e.Words != "" {
		fmt.Fprintf(&b, ": the server says %q", e.Words)
	}
	switch {
	case e.URL != "" && e.Status != 0:
		fmt.Fprintf(&b, " (status %d of %s)", e.Status, e.URL)
	case e.URL != "":
		b.WriteString(" (" + e.URL + ")")
	}
	if e.Do != "" {
		b.WriteString(": " + e.Do)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Permanent reports whether the same call will fail again until somebody changes the server or the plan. Of an
// adapter that is not at its source, or that an engine cannot load, that is not known: files may still be on their way.
func (e *Error) Permanent() bool {
	for _, lasting := range []error{ErrOff, ErrTaken, ErrUnknownEngine, ErrName} {
		if errors.Is(e.Err, lasting) {
			return true
		}
	}
	return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
}

// fail returns an Error about an answer. The adapter is filled in by named.
func (a *answer) fail(what, do string, err error) error {
	return &Error{Op: a.op, URL: a.url, Status: a.status, What: what, Words: words(a.body), Do: do, Err: err}
}

// refused returns the error of an answer that is not what was wanted, for all reasons that any request can have.
func (a *answer) refused(err error) error {
	switch {
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return a.fail("", "Options.Header must have a key that the server takes", ErrRefused)
	case a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable:
		return a.fail("the server has too much to do, or is not ready", "try again later", err)
	case a.status >= 300 && a.status < 400:
		what := fmt.Sprintf("it sends us on to %q, which is not followed", shorten(a.onward))
		return a.fail(what, "let Options.URL name the server itself", err)
	}
	return a.fail("", "", err)
}

// named returns err with the adapter's name in it.
func named(err error, adapter string) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		e.Adapter = adapter
	}
	return err
}

// serverError is the body of an error, in the forms that engines have for it.
type serverError struct {
	Error        json.RawMessage `json:"error"` // an object with message and type, or a text
	Message      string          `json:"message"`
	Type         string          `json:"type"`
	Detail       json.RawMessage `json:"detail"` // FastAPI's: a text or a list
	ErrorMessage string          `json:"error_message"`
}

// says returns the message of an error's body and its type, both empty if it has none.
func says(body []byte) (message, kind string) {
	var e serverError
	if json.Unmarshal(body, &e) != nil {
		return "", ""
	}
	var inner struct{ Message, Type string }
	var text string
	switch {
	case json.Unmarshal(e.Error, &inner) == nil && inner.Message != "":
		return inner.Message, inner.Type
	case json.Unmarshal(e.Error, &text) == nil && text != "":
		return text, ""
	case e.ErrorMessage != "":
		return e.ErrorMessage, ""
	case e.Message != "":
		return e.Message, e.Type
	}
	return "", ""
}

// words returns what a body says, for people.
func words(body []byte) string {
	text, _ := says(body)
	if text == "" {
		text = string(body)
	}
	return shorten(text)
}

// shorten makes one line of a text that is not ours, of at most maxWords bytes.
func shorten(s string) string {
	if len(s) > 4*maxWords {
		s = s[:4*maxWords]
	}
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "�")), " ")
	if len(s) <= maxWords {
		return s
	}
	const more = "…"
	s = s[:maxWords-len(more)]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + more
}
