package gateway_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/telemetry"
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
	go g.Run(ctx)                 // reads the servers' metrics
	mux.Handle("/v1/", g.Proxy()) // the API

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/v1/chat/completions", strings.NewReader(`{"model": 7}`)))
	fmt.Println(w.Code)
	// Output: 400
}

// Metrics for Prometheus.
func ExampleOptions_metrics() {
	var metrics *telemetry.Metrics
	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(),
		Metrics: func(g *gateway.Gateway) (_ gateway.Metrics, err error) {
			metrics, err = telemetry.New(telemetry.Options{Pools: g.Pools, Admissions: g.Admissions})
			return metrics, err
		},
	})
	if err != nil {
		panic(err)
	}
	defer g.Close()
	http.Handle("GET /metrics", metrics.Handler())
}
