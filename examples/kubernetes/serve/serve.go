// Package serve does what a routing.Table says: it listens on its ports and sends each request
// to the pool or the Service of its rule. How requests to pools are scheduled, retried and
// accounted is the library's.
package serve

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/examples/kubernetes/extproc"
	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// Options of a Server.
type Options struct {
	// Director decides on requests for pools. Required.
	Director *director.Director
	// Host is the address to listen at. Empty: all.
	Host string
	// Drain is how long requests under way may take when a port is closed. Default 30 s.
	Drain time.Duration
	// TrustRequestHeaders lets clients set headers of the inference gateway, such as their
	// objective; the Director must trust them, too. By default only filters of routes set them.
	TrustRequestHeaders bool
	// NameEndpoint adds httptransport.HeaderEndpoint to responses.
	NameEndpoint bool
	// Logger is told of ports, and of requests that fail. Nil: silence.
	Logger *slog.Logger
}

// Server serves a Table. Its methods may be called from any goroutine.
type Server struct {
	o     Options
	table atomic.Pointer[routing.Table]
	proxy *httputil.ReverseProxy

	// Transports, for HTTP/1.1 and for h2c.
	pools    [2]*httptransport.Transport
	pickers  extproc.Client
	services [2]*http.Transport
	turn     atomic.Uint32 // of the endpoints of Services

	mu      sync.Mutex
	ports   map[int32]*port
	closing sync.WaitGroup // ports that finish what is under way
}

// New returns a Server that listens nowhere yet.
func New(o Options) *Server {
	o.Drain = cmp.Or(o.Drain, 30*time.Second)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	s := &Server{o: o, ports: make(map[int32]*port)}
	s.table.Store(new(routing.Table))
	for i := range s.pools {
		s.pools[i] = httptransport.New(o.Director)
		s.pools[i].Incoming, s.pools[i].OnRoute, s.pools[i].NameEndpoint = incoming, routed, o.NameEndpoint
	}
	for i := range s.services {
		s.services[i] = s.pools[i].Base.(*http.Transport).Clone()
	}
	speakH2C(s.pools[1].Base.(*http.Transport))
	speakH2C(s.services[1])
	s.proxy = &httputil.ReverseProxy{
		Rewrite:        s.rewrite,
		Transport:      roundTripper(s.roundTrip),
		ModifyResponse: modifyResponse,
		ErrorHandler:   s.failed,
		FlushInterval:  -1, // tokens leave as they come
		ErrorLog:       slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return s
}

func speakH2C(t *http.Transport) {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
}

// Set puts a Table in force, for all requests from now on. It returns the ports that cannot be
// listened on, which it tries again the next time.
func (s *Server) Set(t *routing.Table) map[int32]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	failed := make(map[int32]error)
	s.table.Store(t)
	s.pickers.Keep(pickersOf(t))
	for number, p := range s.ports {
		if want := t.Ports[number]; want == nil || want.TLS != p.tls {
			s.closeLocked(p)
		}
	}
	for number, want := range t.Ports {
		if s.ports[number] == nil {
			if err := s.openLocked(number, want.TLS); err != nil {
				failed[number] = err
			}
		}
	}
	return failed
}

// Close closes all ports, lets requests and sessions under way end for as long as Options.Drain, and returns
// when all have ended.
func (s *Server) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Drain)
	defer cancel()
	s.mu.Lock()
	for _, p := range s.ports {
		s.closeLocked(p)
	}
	s.mu.Unlock()
	s.closing.Wait()
	for _, t := range s.pools {
		t.EndSessions(ctx) // an error is that it was time
	}
}

// Addresses returns where the server listens, by port.
func (s *Server) Addresses() map[int32]net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[int32]net.Addr)
	for number, p := range s.ports {
		all[number] = p.address
	}
	return all
}

// roundTripper is a function that is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
