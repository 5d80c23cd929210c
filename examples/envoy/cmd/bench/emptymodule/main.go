// Emptymodule is a module of Envoy's that looks at nothing: it takes a request's body, has another goroutine
// name the next server, gives the body back as it came and lets the request go on, in the way of the endpoint
// picker's module. What it costs is the way itself. Its configuration is {"servers": ["ip:port", …]}.
package main

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/examples/envoy/module/hooks"
)

func init() {
	// As with the picker's module: garbage may gather, and no worker of Envoy's waits for another one.
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	}
	hooks.Register(module{room: make([]byte, 128<<20)})
}

func main() {} // Envoy's is the one that counts

type module struct {
	room []byte // counts as in use, and takes no memory
}

// NewFilter implements filter.Module.
func (module) NewFilter(_ string, config []byte, _ bool) (filter.Factory, error) {
	var c struct{ Servers []string }
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, err
	}
	if len(c.Servers) == 0 {
		return nil, errors.New("the configuration has no servers")
	}
	return &factory{servers: c.Servers}, nil
}

// NewRoute implements filter.Module.
func (module) NewRoute(string, []byte) (*filter.Settings, error) { return &filter.Settings{}, nil }

type factory struct {
	servers []string
	next    atomic.Uint64
}

// NewStream implements filter.Factory.
func (f *factory) NewStream() filter.Hooks { return &stream{f: f} }

// Close implements filter.Factory.
func (*factory) Close() {}

// stream is one request: its client is the benchmark's, which never gives up.
type stream struct {
	f      *factory
	body   []byte
	server string
}

// RequestHeaders implements filter.Hooks.
func (s *stream) RequestHeaders(h filter.Host, end bool) filter.Status {
	length := 0
	for key, value := range h.Fields(filter.RequestHeaders) {
		if key == "content-length" {
			length, _ = strconv.Atoi(value)
		}
	}
	s.body = make([]byte, 0, length)
	if end {
		s.choose(h)
	}
	return filter.StopIteration
}

// RequestBody implements filter.Hooks.
func (s *stream) RequestBody(h filter.Host, end bool) filter.Status {
	before := len(s.body)
	for _, piece := range h.Pieces(filter.ReceivedRequest) {
		s.body = append(s.body, piece...)
	}
	h.Drain(filter.ReceivedRequest, len(s.body)-before)
	if end {
		s.choose(h)
	}
	return filter.StopNoBuffer
}

// RequestTrailers implements filter.Hooks.
func (s *stream) RequestTrailers(h filter.Host) filter.Status {
	s.choose(h)
	return filter.StopIteration
}

func (s *stream) choose(h filter.Host) {
	waker := h.Waker()
	go func() {
		defer waker.Release()
		s.server = s.f.servers[s.f.next.Add(1)%uint64(len(s.f.servers))]
		waker.Wake()
	}()
}

// Woken implements filter.Hooks.
func (s *stream) Woken(h filter.Host) {
	h.Set(filter.RequestHeaders, exchange.KeyDestination, s.server)
	h.SetMetadata(exchange.NamespaceLB, exchange.KeyDestination, s.server)
	h.Append(filter.BufferedRequest, s.body)
	h.Go()
}

// ResponseHeaders implements filter.Hooks.
func (*stream) ResponseHeaders(filter.Host, bool) filter.Status { return filter.Continue }

// ResponseBody implements filter.Hooks.
func (*stream) ResponseBody(filter.Host, bool) filter.Status { return filter.Continue }

// ResponseTrailers implements filter.Hooks.
func (*stream) ResponseTrailers(filter.Host) filter.Status { return filter.Continue }

// Destroy implements filter.Hooks.
func (*stream) Destroy() {}
