// Reverseproxy is a complete inference gateway, a httputil.ReverseProxy:
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
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/gateway"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address to serve")
	endpoints := flag.String("endpoints", "127.0.0.1:8000", "model servers: host:port,host:port")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	handler, err := newGateway(ctx, strings.Split(*endpoints, ","))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr: *listen, Handler: handler,
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, // for slow and unfinished uploads
	}
	context.AfterFunc(ctx, func() { server.Close() })
	log.Print(server.ListenAndServe())
}

// newGateway returns a gateway that reads the servers' metrics until ctx is done.
func newGateway(ctx context.Context, endpoints []string) (http.Handler, error) {
	g, err := gateway.New(gateway.Options{Profile: plugins.Default(), Servers: gateway.Addresses(endpoints...)})
	if err != nil {
		return nil, err
	}
	go g.Run(ctx)
	return g.Proxy(), nil
}
