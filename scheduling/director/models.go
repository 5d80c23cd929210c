package director

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/openai"
)

// Answer is what a Director answers in place of a server.
type Answer struct {
	Status int
	Header map[string][]string
	Body   []byte // not to be sent if the method is HEAD
	Err    *Error // why, if it says that the request is refused; nil if it does not
}

// Answer answers what needs no server, and reports whether that is so: GET and HEAD of
// /v1/models and of /v1/models/NAME, with any prefix. Models are those that requests for
// Incoming.Pool, or for none, can ask for: which manifests name, and which servers say they
// serve (datastore.Snapshot.ModelsOf). Any other name is a 404. As long as no model is
// known, such a request is to be routed like others.
func (d *Director) Answer(in Incoming) (Answer, bool) {
	if in.Method != "GET" && in.Method != "HEAD" {
		return Answer{}, false
	}
	name, ok := modelPath(in.Path)
	if !ok {
		return Answer{}, false
	}
	now := d.o.Store.Snapshot()
	models := now.ModelsOf(in.Pool)
	if len(models) == 0 {
		return Answer{}, false
	}
	a := Answer{Status: 200, Header: map[string][]string{"Content-Type": {"application/json"}}}
	if name == "" {
		names := make([]string, len(models))
		var newest time.Time
		for i, m := range models {
			names[i] = m.Name
			if m.Created.After(newest) {
				newest = m.Created
			}
		}
		a.Body = openai.ModelList(names, newest, "inferpick")
		return a, true
	}
	m, ok := now.Model(in.Pool, name)
	if !ok {
		e := d.Refuse(in.Path, &Error{Status: 404, Code: CodeModelNotFound, Param: "model",
			Message: fmt.Sprintf("the model %s does not exist", strconv.Quote(name[:min(len(name), maxID)]))})
		return e.answer(), true
	}
	a.Body = openai.ModelObject(m.Name, m.Created, "inferpick")
	return a, true
}

// modelPath returns the name of a model in a path, which may have slashes and escapes in
// it, empty for the list of all, and whether the path is one of models.
func modelPath(path string) (name string, ok bool) {
	_, rest, ok := strings.Cut(withoutQuery(path), "/v1/models")
	switch {
	case !ok:
		return "", false
	case strings.Trim(rest, "/") == "":
		return "", true
	case rest[0] != '/':
		return "", false
	}
	name, err := url.PathUnescape(rest[1:])
	return name, err == nil
}
