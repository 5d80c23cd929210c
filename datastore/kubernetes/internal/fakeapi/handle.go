package fakeapi

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := parse(r)
	w = &counter{ResponseWriter: w, sent: q.sent}
	s.mu.Lock()
	s.requests = append(s.requests, q)
	fail := s.fail
	s.mu.Unlock()

	var f *Failure
	if fail != nil {
		f = fail(q)
	}
	if f != nil && f.Wait > 0 && !wait(r, f.Wait) {
		return
	}
	if f != nil && f.Drop {
		panic(http.ErrAbortHandler)
	}
	if f != nil && f.Code != 0 && !f.InStream {
		f.write(w)
		return
	}
	if q.Verb == "discover" {
		s.discover(w, q.Path)
		return
	}
	s.mu.Lock()
	resource, ok := s.findLocked(q.groupVersion(), q.Resource)
	s.mu.Unlock()
	if !ok {
		// As a server answers for a path that nobody serves.
		(&Failure{Code: http.StatusNotFound, Body: []byte("404 page not found\n")}).write(w)
		return
	}
	switch q.Verb {
	case "list":
		s.list(w, r, resource, q, f)
	case "watch":
		s.watch(w, r, resource, q, f)
	default:
		s.write(w, r, resource, q)
	}
}

// parse reads verb and resource from method and path: /api/v1/… or /apis/GROUP/VERSION/…, then
// [namespaces/NAMESPACE/]PLURAL[/NAME[/SUBRESOURCE]].
func parse(r *http.Request) Request {
	q := Request{Query: r.URL.RawQuery, Header: r.Header, Path: r.URL.Path, sent: new(int64), Selector: r.URL.Query().Get("labelSelector")}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	fixed := 2
	if parts[0] == "apis" {
		fixed = 3
	}
	if len(parts) <= fixed {
		q.Verb = "discover"
		return q
	}
	rest := parts[fixed:]
	if rest[0] == "namespaces" && len(rest) > 2 {
		q.Namespace, rest = rest[1], rest[2:]
	}
	rest = append(rest, "", "")
	q.Resource, q.Name, q.Subresource = rest[0], rest[1], rest[2]
	q.Verb = verb(r.Method, q.Name != "", r.URL.Query())
	return q
}

func verb(method string, named bool, query url.Values) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	switch {
	case named:
		return "get"
	case slices.Contains([]string{"1", "true"}, query.Get("watch")):
		return "watch"
	}
	return "list"
}

func (q Request) groupVersion() string {
	parts := strings.Split(strings.Trim(q.Path, "/"), "/")
	if parts[0] == "apis" {
		return parts[1] + "/" + parts[2]
	}
	return parts[1]
}

// wait reports whether so much time has passed before the client went away.
func wait(r *http.Request, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
		return false
	}
}

// discover answers for /apis and for the resources of a group's version.
func (s *Server) discover(w http.ResponseWriter, path string) {
	s.mu.Lock()
	all := s.sortedLocked()
	s.mu.Unlock()
	path = strings.Trim(path, "/")
	if path == "apis" {
		answer(w, http.StatusOK, groups(all))
		return
	}
	want := strings.TrimPrefix(strings.TrimPrefix(path, "apis/"), "api/")
	list := []any{}
	for _, r := range all {
		if r.GroupVersion() != want {
			continue
		}
		verbs := []string{"create", "delete", "get", "list", "patch", "update", "watch"}
		list = append(list, object{"name": r.Plural, "kind": r.Kind, "namespaced": true, "verbs": verbs})
		if r.Status {
			list = append(list, object{"name": r.Plural + "/status", "kind": r.Kind, "namespaced": true, "verbs": []string{"get", "patch", "update"}})
		}
	}
	if len(list) == 0 {
		(&Failure{Code: http.StatusNotFound, Body: []byte("404 page not found\n")}).write(w)
		return
	}
	answer(w, http.StatusOK, object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": want, "resources": list})
}

func groups(all []Resource) object {
	versions := make(map[string][]string)
	var names []string
	for _, r := range all {
		if r.Group == "" {
			continue
		}
		if versions[r.Group] == nil {
			names = append(names, r.Group)
		}
		if !slices.Contains(versions[r.Group], r.GroupVersion()) {
			versions[r.Group] = append(versions[r.Group], r.GroupVersion())
		}
	}
	list := []any{}
	for _, name := range names {
		var of []any
		for _, gv := range versions[name] {
			of = append(of, object{"groupVersion": gv, "version": gv[strings.IndexByte(gv, '/')+1:]})
		}
		list = append(list, object{"name": name, "versions": of, "preferredVersion": of[0]})
	}
	return object{"kind": "APIGroupList", "apiVersion": "v1", "groups": list}
}

// counter counts what is sent.
type counter struct {
	http.ResponseWriter
	sent *int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	atomic.AddInt64(c.sent, int64(n))
	return n, err
}

func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
