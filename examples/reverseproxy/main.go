// Reverseproxy is a complete inference gateway in a httputil.ReverseProxy:
// it schedules, streams, goes on to a fallback while no byte has come back, and
// accounts how each request ended.
//
//	go run ./examples/reverseproxy -endpoints 10.0.0.1:8000,10.0.0.2:8000
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	endpoints := flag.String("endpoints", "127.0.0.1:8000", "model servers: host:port,host:port")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	gateway, err := newGateway(ctx, strings.Split(*endpoints, ","))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr: *listen, Handler: gateway,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, // for slow and unfinished uploads
	}
	context.AfterFunc(ctx, func() { server.Close() })
	log.Print(server.ListenAndServe())
}

// newGateway returns a gateway that reads the servers' metrics until ctx is done.
func newGateway(ctx context.Context, endpoints []string) (http.Handler, error) {
	store := datastore.New(datastore.Options{})
	for _, address := range endpoints {
		if err := store.UpsertEndpoint(types.NamespacedName{Name: "pool"}, datastore.EndpointSpec{Address: address}); err != nil {
			return nil, err
		}
	}
	scheduler, err := scheduling.New(plugins.Default())
	if err != nil {
		return nil, err
	}
	d, err := director.New(director.Options{Store: store, Scheduler: scheduler})
	if err != nil {
		return nil, err
	}
	scraper, err := scrape.New(store, scrape.Options{})
	if err != nil {
		return nil, err
	}
	go scraper.Run(ctx)
	return &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {}, // the director's choice replaces the host
		Transport:     httptransport.New(d),
		FlushInterval: -1, // tokens leave as they come
	}, nil
}
