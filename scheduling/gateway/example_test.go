package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/scheduling/gateway"
)

func Example() {
	ctx, mux := context.Background(), http.NewServeMux()

	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(),
		Servers: gateway.Addresses("10.0.0.1:8000", "10.0.0.2:8000"),
	})
	if err != nil {
		panic(err) // says which option is wrong
	}
	defer g.Close()
	go g.Run(ctx)                                   // reads the servers' metrics
	mux.Handle("/v1/", g.Proxy())                   // the API
	mux.Handle("GET /metrics", g.Metrics.Handler()) // for Prometheus

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"model": 7}`)))
	fmt.Println(w.Code)
	// Output: 400
}

// parts is a gateway by hand, without admission control, metrics and a scraper.
func parts(store *datastore.Store) (http.Handler, error) {
	scheduler, err := scheduling.New(plugins.Default())
	if err != nil {
		return nil, err
	}
	d, err := director.New(director.Options{Store: store, Scheduler: scheduler})
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {}, // the director's choice replaces the host
		Transport:     httptransport.New(d),
		FlushInterval: -1, // tokens leave as they come
	}, nil
}

// The parts that New puts together work without it.
func Example_parts() {
	handler, err := parts(datastore.New(datastore.Options{}))
	if err != nil {
		panic(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"model": "llama-3"}`)))
	fmt.Println(w.Code)
	// Output: 503
}
