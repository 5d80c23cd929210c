package trail

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// mostListed is how many sessions are listed if none is named.
const mostListed = 100

// Handler returns a handler for GET /explain, which answers in JSON:
//
//	?session=ID   a Story; 404 if nothing is kept of it
//	?program=ID   {"sessions": …}: those of a program
//	neither       {"sessions": …}: the last ones, without steps
//
// each of the tenant that ?tenant= names, or of requests without one. It checks nobody's identity: serve it where only
// operators reach it, or set the tenant yourself.
func (t *Trail) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "trail: only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		q := r.URL.Query()
		tenant := q.Get("tenant")
		type sessions struct {
			Sessions []Story `json:"sessions"`
		}
		switch id := q.Get("session"); {
		case id != "":
			story, ok := t.Session(tenant, id)
			if !ok {
				http.Error(w, fmt.Sprintf("trail: nothing is kept of session %.80q of tenant %.80q", id, tenant), http.StatusNotFound)
				return
			}
			answer(w, story)
		case q.Get("program") != "":
			answer(w, sessions{append([]Story{}, t.Program(tenant, q.Get("program"))...)})
		default:
			answer(w, sessions{append([]Story{}, t.Recent(tenant, mostListed)...)})
		}
	})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // an error is that the client has gone
}
