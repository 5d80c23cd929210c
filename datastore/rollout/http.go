package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/types"
)

// maxBody bounds the body of a request to the Handler, in bytes.
const maxBody = 64 << 10

// Handler returns what serves rollouts to people and programs. Whoever can reach it can move traffic: it is for an
// administrative port, never for the one of clients.
//
//	GET    /rollouts                                  all, as a list of Status; for a browser a page
//	GET    /rollouts/{namespace}/{kind}/{name}        one, with each server
//	PUT    /rollouts/{namespace}/{kind}/{name}        Start with the plan in the body
//	DELETE /rollouts/{namespace}/{kind}/{name}        Delete
//	POST   /rollouts/{namespace}/{kind}/{name}/pause  and resume, promote, abort, retry
//
// ?rule=N names a rule of an InferenceModelRewrite, from 0. Bodies are JSON, with that content type, so that no page
// of another site can send them; of a POST it may be empty, or
//
//	{"why": "text for people", "full": true}
//
// where full is for promote: to the last step. Errors are {"error": "…"}: 400 for what is malformed, 404 for what is
// not there, 409 for what cannot be done now, 415 for another content type.
func (c *Controller) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /rollouts", c.serveAll)
	const one = "/rollouts/{namespace}/{kind}/{name}"
	mux.HandleFunc("GET "+one, serveObject(c.serveOne))
	mux.HandleFunc("PUT "+one, serveObject(c.servePlan))
	mux.HandleFunc("DELETE "+one, serveObject(func(w http.ResponseWriter, _ *http.Request, o Object) { c.answer(w, o, c.Delete(o)) }))
	mux.HandleFunc("POST "+one+"/{command}", serveObject(c.serveCommand))
	return http.NewCrossOriginProtection().Handler(mux)
}

// serveObject reads which object a request is about.
func serveObject(serve func(http.ResponseWriter, *http.Request, Object)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		o := Object{Kind: r.PathValue("kind"), Name: types.NamespacedName{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}}
		if text := r.URL.Query().Get("rule"); text != "" {
			rule, err := strconv.Atoi(text)
			if err != nil || rule < 0 {
				writeError(w, http.StatusBadRequest, fmt.Sprintf("rule is %.20q, want a number from 0", text))
				return
			}
			o.Rule = rule
		}
		serve(w, r, o)
	}
}

func (c *Controller) serveAll(w http.ResponseWriter, r *http.Request) {
	all := c.Status()
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		writePage(w, all)
		return
	}
	writeJSON(w, http.StatusOK, all)
}

func (c *Controller) serveOne(w http.ResponseWriter, _ *http.Request, o Object) {
	s, ok := c.Get(o)
	if !ok {
		writeError(w, http.StatusNotFound, fmt.Sprintf("%v: %s", ErrNotFound, o))
		return
	}
	writeJSON(w, http.StatusOK, s)
}

func (c *Controller) servePlan(w http.ResponseWriter, r *http.Request, o Object) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	p, err := DecodePlan(body, o)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	c.answer(w, o, c.Start(p))
}

// order is the body of a POST.
type order struct {
	Why  string `json:"why"`
	Full bool   `json:"full"`
}

// maxWhy bounds the reason that somebody gives, in bytes.
const maxWhy = 200

func (c *Controller) serveCommand(w http.ResponseWriter, r *http.Request, o Object) {
	body, ok := readBody(w, r)
	if !ok {
		return
	}
	var say order
	if len(body) > 0 {
		if err := strictjson.Decode(body, &say, strictjson.Options{Package: "rollout"}); err != nil {
			writeError(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	command := r.PathValue("command")
	switch {
	case len(say.Why) > maxWhy:
		writeError(w, http.StatusBadRequest, fmt.Sprintf("why has %d bytes, want at most %d", len(say.Why), maxWhy))
		return
	case say.Full && command != "promote":
		writeError(w, http.StatusBadRequest, "full is for promote")
		return
	}
	switch command {
	case "pause":
		c.answer(w, o, c.Pause(o, say.Why))
	case "resume":
		c.answer(w, o, c.Resume(o, say.Why))
	case "promote":
		c.answer(w, o, c.Promote(o, say.Full, say.Why))
	case "abort":
		c.answer(w, o, c.Abort(o, say.Why))
	case "retry":
		c.answer(w, o, c.Retry(o, say.Why))
	default:
		writeError(w, http.StatusNotFound, fmt.Sprintf("%.40q is not pause, resume, promote, abort or retry", command))
	}
}

// answer answers a request to do something: with where the rollout is now.
func (c *Controller) answer(w http.ResponseWriter, o Object, err error) {
	switch {
	case errors.Is(err, ErrNotFound), errors.Is(err, datastore.ErrNoObject):
		writeError(w, http.StatusNotFound, err.Error())
	case err != nil:
		writeError(w, http.StatusConflict, err.Error())
	default:
		if s, ok := c.Get(o); ok {
			writeJSON(w, http.StatusOK, s)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

// readBody reads a body of JSON. If it is none, or too large, it has answered.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		writeError(w, http.StatusUnsupportedMediaType, "Content-Type must be application/json")
		return nil, false
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		writeError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", maxBody))
		return nil, false
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, "the body could not be read")
		return nil, false
	}
	return body, true
}

func writeError(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	head(w, "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // who asked has gone
}

func head(w http.ResponseWriter, kind string) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

// writePage writes a page for people, without anything to press.
func writePage(w http.ResponseWriter, all []Status) {
	var b strings.Builder
	b.WriteString("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rollouts</title><h1>Rollouts</h1>\n")
	if len(all) == 0 {
		b.WriteString("<p>There are none.</p>\n")
	}
	text := func(format string, args ...any) { b.WriteString(html.EscapeString(fmt.Sprintf(format, args...))) }
	for i := range all {
		s := &all[i]
		b.WriteString("<h2>")
		text("%s", s.Object())
		b.WriteString("</h2>\n<p>")
		if s.Phase != "" {
			text("%s to %s: %s, step %d of %d, %.4g %% of the traffic, since %s.",
				s.Plan.Stable, s.Plan.Canary, s.Phase, s.Step+1, len(s.Plan.Steps), s.Weight, s.Since.UTC().Format(time.RFC3339))
		}
		for _, one := range [...]struct{ what, text string }{
			{"Refused", s.Refused}, {"Paused", s.Paused}, {"Holding", s.Holding}, {"Trouble", s.Trouble}, {"Reason", s.Reason},
		} {
			if one.text != "" {
				text(" %s: %s.", one.what, one.text)
			}
		}
		b.WriteString("</p>\n<ul>\n")
		for _, v := range s.Verdicts {
			b.WriteString("<li>")
			text("%s: %s. %s", v.Metric, v.Result, v.Reason)
			b.WriteString("</li>\n")
		}
		for n := len(s.Events) - 1; n >= 0; n-- {
			b.WriteString("<li>")
			text("%s %s: %s", s.Events[n].At.UTC().Format(time.RFC3339), s.Events[n].Kind, s.Events[n].Text)
			b.WriteString("</li>\n")
		}
		b.WriteString("</ul>\n")
	}
	head(w, "text/html; charset=utf-8")
	_, _ = io.WriteString(w, b.String())
}
