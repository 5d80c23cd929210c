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
	"net"
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
	ln, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	if err := serve(ctx, ln, strings.Split(*endpoints, ",")); err != nil {
		log.Fatal(err)
	}
}

// grace is how long requests and sessions under way may go on at the end.
const grace = 10 * time.Second

// serve serves a gateway on ln until ctx is done and what is under way then has ended.
func serve(ctx context.Context, ln net.Listener, endpoints []string) error {
	g, err := newGateway(endpoints)
	if err != nil {
		return err
	}
	defer g.Close()
	server := &http.Server{
		Handler:           g.Proxy(),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, // for slow and unfinished uploads
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	return g.Drain(ctx, server)
}

// newGateway returns a gateway that reads the servers' metrics until it is closed.
func newGateway(endpoints []string) (*gateway.Gateway, error) {
	g, err := gateway.New(gateway.Options{Profile: plugins.Default(), Servers: gateway.Addresses(endpoints...)})
	if err != nil {
		return nil, err
	}
	go g.Run(context.Background())
	return g, nil
}
