// Package extproc asks endpoint pickers outside of the gateway, which speak the Endpoint Picker
// Protocol over Envoy's ext_proc. A request is decided when all of it is there; the answer
// streams through the picker, so that it learns what became of its choice.
package extproc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Picker is where to ask.
type Picker struct {
	// Addresses are those of its ready pods, host:port.
	Addresses []string
	// Plaintext asks without TLS. With TLS its certificate is not verified: pickers make one
	// for themselves when they start.
	Plaintext bool
}

// ErrUnavailable is that there is no picker to ask, or none that answers.
var ErrUnavailable = errors.New("extproc: the endpoint picker is not available")

// Client has the connections to pickers. The zero value is ready; its methods may be called
// from any goroutine.
type Client struct {
	turn atomic.Uint32

	mu          sync.Mutex
	connections map[target]*grpc.ClientConn
}

// patience is how long a pod may take to connect, and how long one that did not is left alone.
var patience = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: time.Second,
}

type target struct {
	address   string
	plaintext bool
}

// Keep closes the connections to pickers that are not among those given.
func (c *Client) Keep(pickers []Picker) {
	wanted := make(map[target]bool)
	for _, p := range pickers {
		for _, a := range p.Addresses {
			wanted[target{a, p.Plaintext}] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, connection := range c.connections {
		if !wanted[t] {
			connection.Close()
			delete(c.connections, t)
		}
	}
}

// open opens a stream to a pod of a picker: that whose turn it is, or the next one that
// answers.
func (c *Client) open(ctx context.Context, p Picker) (grpc.BidiStreamingClient[extprocv3.ProcessingRequest, extprocv3.ProcessingResponse], error) {
	if len(p.Addresses) == 0 {
		return nil, fmt.Errorf("%w: it has no ready pod", ErrUnavailable)
	}
	first := int(c.turn.Add(1))
	var last error
	for i := range p.Addresses {
		connection, err := c.connection(target{p.Addresses[(first+i)%len(p.Addresses)], p.Plaintext})
		if err == nil {
			var stream grpc.BidiStreamingClient[extprocv3.ProcessingRequest, extprocv3.ProcessingResponse]
			if stream, err = extprocv3.NewExternalProcessorClient(connection).Process(ctx); err == nil {
				return stream, nil
			}
		}
		last = err
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, last)
}

func (c *Client) connection(t target) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if connection := c.connections[t]; connection != nil {
		return connection, nil
	}
	transport := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
	if t.plaintext {
		transport = insecure.NewCredentials()
	}
	connection, err := grpc.NewClient("passthrough:///"+t.address, grpc.WithTransportCredentials(transport), grpc.WithConnectParams(patience))
	if err != nil {
		return nil, err
	}
	if c.connections == nil {
		c.connections = make(map[target]*grpc.ClientConn)
	}
	c.connections[t] = connection
	return connection, nil
}
