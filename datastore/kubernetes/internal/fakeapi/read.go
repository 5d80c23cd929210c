package fakeapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
)

func parseFilter(q Request) (filter, error) {
	query, err := url.ParseQuery(q.Query)
	if err != nil {
		return filter{}, err
	}
	f := filter{namespace: q.Namespace}
	if f.labels, err = labels.Parse(query.Get("labelSelector")); err != nil {
		return f, err
	}
	f.fields, err = fields.ParseSelector(query.Get("fieldSelector"))
	return f, err
}

// list answers with a page. A continue token is the revision of the first page and the key of
// the last object: pages show the objects as they are now, which is enough for tests.
func (s *Server) list(w http.ResponseWriter, r *http.Request, resource Resource, q Request, f *Failure) {
	chosen, err := parseFilter(q)
	if err != nil {
		badRequest(err).write(w)
		return
	}
	query := r.URL.Query()
	limit, _ := strconv.Atoi(query.Get("limit"))
	s.mu.Lock()
	revision, after := s.revision, ""
	if token := query.Get("continue"); token != "" {
		from, key, _ := strings.Cut(token, "|")
		if revision, _ = strconv.ParseInt(from, 10, 64); revision < s.oldest {
			s.mu.Unlock()
			Expired().write(w)
			return
		}
		after = key
	}
	var page []object
	next, remaining := "", 0
	for _, o := range s.selectLocked(resource, chosen) {
		switch key := keyOf(o); {
		case key <= after:
		case limit > 0 && len(page) == limit:
			remaining++
		default:
			page = append(page, o)
			next = key
		}
	}
	s.mu.Unlock()

	about := object{"resourceVersion": strconv.FormatInt(revision, 10)}
	if remaining > 0 {
		about["continue"] = strconv.FormatInt(revision, 10) + "|" + next
		about["remainingItemCount"] = remaining
	}
	if page == nil {
		page = []object{}
	}
	answer := object{"kind": resource.Kind + "List", "apiVersion": resource.GroupVersion(), "metadata": about, "items": page}
	data, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	if f != nil && f.Truncate > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		data = data[:min(f.Truncate, len(data))]
	}
	if f != nil && f.Pace > 0 {
		for piece := range slices.Chunk(data, len(data)/10+1) {
			_, _ = w.Write(piece)
			_ = http.NewResponseController(w).Flush()
			if !wait(r, f.Pace) {
				return
			}
		}
		return
	}
	_, _ = w.Write(data)
}

// watch sends events from the revision on that the client names, until the client goes, the
// watch is cut, its time is up, or its resource is no longer served.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, resource Resource, q Request, f *Failure) {
	query := r.URL.Query()
	chosen, err := parseFilter(q)
	if err == nil && query.Get("sendInitialEvents") == "true" {
		err = fmt.Errorf("sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
	}
	from, e := strconv.ParseInt(query.Get("resourceVersion"), 10, 64)
	if err == nil && e != nil {
		err = fmt.Errorf("resourceVersion: %w", e)
	}
	if err != nil {
		badRequest(err).write(w)
		return
	}
	s.mu.Lock()
	oldest, cut := s.oldest, s.cut
	s.mu.Unlock()
	if from < oldest {
		Expired().write(w)
		return
	}
	timeout := time.Hour
	if seconds, err := strconv.Atoi(query.Get("timeoutSeconds")); err == nil {
		timeout = time.Duration(seconds) * time.Second
	}
	over := time.NewTimer(timeout)
	defer over.Stop()

	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	if f != nil && f.InStream {
		_ = send(w, "ERROR", f.status())
		return
	}
	bookmarks := query.Get("allowWatchBookmarks") == "true" || query.Get("allowWatchBookmarks") == "1"
	for {
		s.mu.Lock()
		news, moved := s.sinceLocked(from), s.moved
		served := s.resources[resource] != nil
		s.mu.Unlock()
		for _, c := range news {
			from = c.revision
			if err := tell(w, resource, chosen, c, bookmarks); err != nil {
				return
			}
		}
		if !served {
			return
		}
		select {
		case <-moved:
		case <-over.C:
			return
		case <-cut:
			panic(http.ErrAbortHandler) // in the middle of the stream
		case <-r.Context().Done():
			return
		}
	}
}

func (s *Server) sinceLocked(revision int64) []change {
	i := len(s.log)
	for i > 0 && s.log[i-1].revision > revision {
		i--
	}
	return s.log[i:len(s.log):len(s.log)]
}

// tell sends a change as who watches the chosen objects sees it.
func tell(w http.ResponseWriter, resource Resource, chosen filter, c change, bookmarks bool) error {
	if c.bookmark {
		if !bookmarks {
			return nil
		}
		return send(w, "BOOKMARK", object{"kind": resource.Kind, "apiVersion": resource.GroupVersion(),
			"metadata": object{"resourceVersion": strconv.FormatInt(c.revision, 10)}})
	}
	if c.resource != resource {
		return nil
	}
	switch before, now := chosen.matches(c.old), chosen.matches(c.new); {
	case before && now:
		return send(w, "MODIFIED", c.new)
	case now:
		return send(w, "ADDED", c.new)
	case before:
		last := clone(c.old)
		meta(last)["resourceVersion"] = strconv.FormatInt(c.revision, 10)
		return send(w, "DELETED", last)
	}
	return nil
}

func send(w http.ResponseWriter, kind string, o object) error {
	if err := json.NewEncoder(w).Encode(object{"type": kind, "object": o}); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}
