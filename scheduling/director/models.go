package director

import (
	"net/url"
	"strings"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// modelOwner is the owner that the list of models names.
const modelOwner = "inferpick"

// ModelAnswer answers a GET or HEAD of the list of models, or of one of them, which need no
// server: ok tells whether the request is one. The names are those that manifests give and,
// where models that no manifest names are passed on, those that the servers say they serve,
// of the given pool or, if it is zero, of those that requests without a pool may ask for. A
// model that is not in the list gets a 404 in OpenAI's form; while nothing is known of any,
// the request is left to a server.
func (d *Director) ModelAnswer(method, path string, pool types.NamespacedName) (status int, body []byte, ok bool) {
	name, list := modelPath(path)
	if method != "GET" && method != "HEAD" || !list && name == "" {
		return 0, nil, false
	}
	now := d.o.Store.Snapshot()
	if list {
		return 200, modelList(now.ModelsOf(pool)), true
	}
	if m, ok := now.Model(pool, name); ok {
		return 200, openai.ModelObject(m.Name, m.Created, modelOwner), true
	}
	if len(now.ModelsOf(pool)) == 0 {
		return 0, nil, false
	}
	e := modelNotFound(name)
	return e.Status, e.Body(), true
}

// ModelList answers the request for the list of models of all pools: see ModelAnswer.
func (d *Director) ModelList(method, path string) (body []byte, ok bool) {
	if _, list := modelPath(path); !list {
		return nil, false
	}
	_, body, ok = d.ModelAnswer(method, path, types.NamespacedName{})
	return body, ok
}

// Models returns the body of GET /v1/models for requests that name no pool.
func (d *Director) Models() []byte { return modelList(d.o.Store.Snapshot().Models()) }

func modelList(models []datastore.Model) []byte {
	names := make([]string, len(models))
	var newest time.Time
	for i, m := range models {
		names[i] = m.Name
		if m.Created.After(newest) {
			newest = m.Created
		}
	}
	return openai.ModelList(names, newest, modelOwner)
}

// modelPath returns whether a path is that of the list of models, or else the name of the
// model whose path it is. A name may have slashes in it, escaped or not.
func modelPath(path string) (name string, list bool) {
	path, _, _ = strings.Cut(path, "?")
	const models = "/v1/models"
	i := strings.Index(path, models)
	if i < 0 {
		return "", false
	}
	rest := path[i+len(models):]
	if rest == "" || rest == "/" {
		return "", true
	}
	if rest[0] != '/' {
		return "", false
	}
	name = rest[1:]
	if decoded, err := url.PathUnescape(name); err == nil {
		name = decoded
	}
	return name, false
}
