package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// serveAdmin serves /healthz, /readyz, /metrics and /rollouts, and returns what ends that.
func (g *Gateway) serveAdmin(ctx context.Context) (closeAll func(), err error) {
	if g.o.Admin == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", g.o.Admin)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := g.notReady(ctx); why != "" {
			http.Error(w, why, http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", g.metricsPage())
	if g.home != nil {
		mux.Handle("/rollouts", g.rolloutsPage())
		mux.Handle("/rollouts/", g.rolloutsPage())
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			g.o.Logger.Error("the admin port is served no more", slog.Any("error", err))
		}
	}()
	return func() { server.Close() }, nil
}

// notReady returns why clients should not come, empty if they should.
func (g *Gateway) notReady(ctx context.Context) string {
	switch {
	case ctx.Err() != nil:
		return "ending"
	case !closed(g.ready):
		return "the objects of the Gateway API are not listed yet"
	case !closed(g.source.Synced()):
		return "pools and their pods are not listed yet"
	}
	return ""
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
