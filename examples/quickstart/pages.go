package main

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/inferpick/inferpick/scheduling"
)

//go:embed page
var pageFiles embed.FS

// newPages returns the live page and what feeds it. Streams of events end when ctx
// is done.
func newPages(ctx context.Context, v *viewer, cfg config) http.Handler {
	mux := http.NewServeMux()
	for route, file := range map[string]string{"GET /{$}": "index.html", "GET /page.css": "page.css", "GET /page.js": "page.js"} {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			// No cache: the next version of the program serves the next version of the page.
			w.Header().Set("Cache-Control", "no-cache")
			http.ServeFileFS(w, r, pageFiles, "page/"+file)
		})
	}
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { serveEvents(ctx, w, r, v) })
	mux.HandleFunc("GET /api/state", func(w http.ResponseWriter, _ *http.Request) {
		latest, _, _ := v.current()
		writeJSON(w, latest)
	})
	mux.Handle("GET /autoscale", serveScaling(v))
	mux.Handle("GET /explain", v.fleets[0].log.trail.Handler())
	mux.HandleFunc("GET /api/requests/{id}", func(w http.ResponseWriter, r *http.Request) { serveRequest(w, r, v) })
	mux.HandleFunc("POST /api/gateways/{name}/{what}", func(w http.ResponseWriter, r *http.Request) { serveGateway(ctx, w, r, v) })
	mux.HandleFunc("POST /api/rollout/{what}", func(w http.ResponseWriter, r *http.Request) { serveRollout(w, r, v.fleets[0], cfg.timeScale) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("nothing at %s; the API is under /v1/, the page at /", r.URL.Path), "not_found")
	})
	return secured(http.NewCrossOriginProtection().Handler(mux))
}

// secured says what the page may do: load from here, and nothing else.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// serveEvents streams views as server-sent events: first "history" with the points
// of the charts so far, then a "view" at each refresh.
func serveEvents(ctx context.Context, w http.ResponseWriter, r *http.Request, v *viewer) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	latest, history, next := v.current()
	if sendEvent(w, "history", history) != nil {
		return
	}
	for sendEvent(w, "view", latest) == nil {
		select {
		case <-next:
			latest, _, next = v.current()
		case <-r.Context().Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

func sendEvent(w http.ResponseWriter, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", name, data); err != nil {
		return err
	}
	return http.NewResponseController(w).Flush()
}

// serveRequest answers with one request, the explanation of its decision, and what there
// was to say of it when it came, or is now if it still waits.
func serveRequest(w http.ResponseWriter, r *http.Request, v *viewer) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil {
		writeError(w, http.StatusBadRequest, fmt.Sprintf("id is %.20q, want a number", r.PathValue("id")), "invalid_id")
		return
	}
	e, ok := v.fleets[0].log.get(id)
	if !ok {
		writeError(w, http.StatusNotFound, fmt.Sprintf("request %d is not among the last %d", id, logSize), "not_found")
		return
	}
	report := e.report
	if e.ticket != nil {
		now := e.ticket.Explain()
		report = &now
	}
	writeJSON(w, struct {
		Request     entry                   `json:"request"`
		Policy      string                  `json:"policy"`
		Admission   *reportView             `json:"admission"`   // null if it was refused, or there is no admission control
		Explanation *scheduling.Explanation `json:"explanation"` // null if it was refused, or waits
		// Peers are what other gateways had said of servers, by their IDs.
		Peers map[string][]string `json:"peers"`
	}{e, v.fleets[0].policy.name, newReportView(report), e.explanation, e.peers})
}

// serveGateway stops, starts, cuts off or joins a gateway of the first fleet. Stopping goes on when it has answered.
func serveGateway(ctx context.Context, w http.ResponseWriter, r *http.Request, v *viewer) {
	gateways := v.fleets[0].gateways
	i := slices.IndexFunc(gateways, func(g *instance) bool { return g.name == r.PathValue("name") })
	if i < 0 {
		writeError(w, http.StatusNotFound, fmt.Sprintf("no gateway %.40q", r.PathValue("name")), "not_found")
		return
	}
	g := gateways[i]
	switch what := r.PathValue("what"); {
	case what == "cut", what == "join":
		g.cut(what == "cut")
	case i == 0:
		writeError(w, http.StatusBadRequest, "the first gateway has the page, and goes on", "invalid_request")
		return
	case what == "stop":
		go g.stop(ctx)
	case what == "start":
		if err := g.start(ctx); err != nil {
			writeError(w, http.StatusInternalServerError, err.Error(), "internal")
			return
		}
	default:
		writeError(w, http.StatusNotFound, fmt.Sprintf("%.40q is not stop, start, cut or join", what), "not_found")
		return
	}
	w.WriteHeader(http.StatusAccepted)
}
