package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
)

// front is an HTTP server that has a gateway.
type front struct {
	gateway *gateway.Gateway
	server  *http.Server
	done    chan struct{} // closed when it no longer serves
}

// startFront serves a gateway's APIs, nearly all of which are under /v1/, and pages, if there are any, elsewhere.
func startFront(gw *gateway.Gateway, ln net.Listener, pages http.Handler) *front {
	mux := http.NewServeMux()
	apis := proxy(gw)
	for _, path := range []string{"/v1/", "/v2/", "/rerank", "/score", "/classify", "/pooling"} {
		mux.Handle(path, apis)
	}
	if pages != nil {
		mux.Handle("/", pages)
	}
	g := &front{
		gateway: gw,
		server: &http.Server{
			Handler:           mux,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       time.Minute, // for a body as well
			IdleTimeout:       5 * time.Minute,
			ErrorLog:          log.New(io.Discard, "", 0), // clients that go away are no news
		},
		done: make(chan struct{}),
	}
	go func() {
		defer close(g.done)
		g.server.Serve(ln) // always an error: that it was closed
	}()
	return g
}

// proxy is the gateway's own, with errors of the form that clients know.
func proxy(gw *gateway.Gateway) http.Handler {
	p := gw.Proxy()
	p.ErrorHandler = func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() != nil {
			return // nobody is there to read it
		}
		writeError(w, http.StatusBadGateway, err.Error(), "upstream_unavailable")
	}
	return p
}

// identify says of which tenant a request is, among those that there are: clients choose
// neither their priority nor their target, and invent no tenants. A real gateway takes the
// tenant from the key that a client has.
func identify(r *http.Request, in *director.Incoming) {
	if tenant := r.Header.Get(director.HeaderFairness); isTenant(tenant) {
		in.FairnessID = tenant
	}
}

// shutdown lets requests and sessions finish until ctx is done, then cuts them off, and returns
// when the server has ended.
func (g *front) shutdown(ctx context.Context) {
	g.gateway.Drain(ctx, g.server) // an error is that it was time
	<-g.done
}

// listen is net.Listen with an error that says what to do.
func listen(address string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is in use by another program: stop that, or choose another address with -listen", address)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return ln, nil
}

// writeError writes an error as OpenAI does.
func writeError(w http.ResponseWriter, status int, message, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(openai.ErrorBody(status, message, "", code))
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		writeError(w, http.StatusInternalServerError, err.Error(), "internal")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Write(body)
}
