package modelserver

import (
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// thing is what a client has made and may come back for, at the server that has it.
type thing interface {
	// view is the thing as clients see it.
	view() object
	// size is what it takes, in bytes.
	size() int
	// drop ends whatever is still going on for it.
	drop()
}

// shelf keeps the newest things, by id.
type shelf[T thing] struct {
	what        string // in errors
	most, bytes int    // bounds

	mu   sync.Mutex
	ids  []string // oldest first
	byID map[string]T
	used int // bytes
}

func newShelf[T thing](what string, most, bytes int) *shelf[T] {
	return &shelf[T]{what: what, most: most, bytes: bytes, byID: map[string]T{}}
}

// put adds a thing and drops the oldest ones for which there is no room any more.
func (s *shelf[T]) put(id string, one T) {
	s.mu.Lock()
	s.ids, s.byID[id] = append(s.ids, id), one
	s.used += one.size()
	var old []T
	for len(s.ids) > 1 && (len(s.ids) > s.most || s.used > s.bytes) {
		old = append(old, s.takeLocked(s.ids[0]))
	}
	s.mu.Unlock()
	for _, one := range old {
		one.drop()
	}
}

// takeLocked removes what is there. Caller must hold s.mu.
func (s *shelf[T]) takeLocked(id string) T {
	one := s.byID[id]
	s.used -= one.size()
	delete(s.byID, id)
	s.ids = slices.DeleteFunc(s.ids, func(other string) bool { return other == id })
	return one
}

func (s *shelf[T]) get(id string) (T, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.byID[id]
	if !ok {
		return one, s.missing(id)
	}
	return one, nil
}

func (s *shelf[T]) missing(id string) *apiError {
	e := invalid("id", "No such %s on this simulated server: '%.80s'.", s.what, id)
	e.status, e.code = http.StatusNotFound, "not_found"
	return e
}

// remove takes a thing away.
func (s *shelf[T]) remove(id string) *apiError {
	s.mu.Lock()
	if _, ok := s.byID[id]; !ok {
		s.mu.Unlock()
		return s.missing(id)
	}
	one := s.takeLocked(id)
	s.mu.Unlock()
	one.drop()
	return nil
}

// serveOne, serveList and serveRemoval are GET of one thing, GET of all, and DELETE.
func (s *shelf[T]) serveOne(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
	one, failure := s.get(r.PathValue("id"))
	if failure != nil {
		return nil, failure
	}
	return one.view(), nil
}

func (s *shelf[T]) serveRemoval(deleted string) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
		id := r.PathValue("id")
		return object{"id": id, "object": deleted, "deleted": true}, s.remove(id)
	}
}

func (s *shelf[T]) serveList(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
	s.mu.Lock()
	var all []object
	for _, id := range s.ids {
		all = append(all, s.byID[id].view())
	}
	s.mu.Unlock()
	return paged(all, r)
}

// paged returns the part of a list, oldest first, that a request asks for.
func paged(all []object, r *http.Request) (any, *apiError) {
	query := r.URL.Query()
	if query.Get("order") != "asc" {
		slices.Reverse(all)
	}
	if after := query.Get("after"); after != "" {
		at := slices.IndexFunc(all, func(one object) bool { return one["id"] == after })
		if at < 0 {
			return nil, invalid("after", "after is %.80q: there is none of that id", after)
		}
		all = all[at+1:]
	}
	limit := 20
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > 10_000 {
			return nil, invalid("limit", "limit is %.40q: want 1 to 10000", text)
		}
	}
	page := object{"object": "list", "has_more": len(all) > limit, "first_id": nil, "last_id": nil}
	all = all[:min(limit, len(all))]
	if len(all) > 0 {
		page["first_id"], page["last_id"] = all[0]["id"], all[len(all)-1]["id"]
	}
	page["data"] = append([]object{}, all...)
	return page, nil
}
