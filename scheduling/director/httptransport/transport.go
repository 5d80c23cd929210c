package httptransport

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// HeaderEndpoint is the response header that names the endpoint that served the
// request, if Transport.NameEndpoint is set.
const HeaderEndpoint = "X-Inferpick-Endpoint"

// DefaultMaxBodies is the default of Transport.MaxBodies.
const DefaultMaxBodies = 1 << 30

// Transport is an http.RoundTripper that sends each request to the endpoint that
// a Director chooses. Of the request's URL only path and query matter.
//
// It reads the request body whole (but see Early), asks the director, sends the body with the
// target model's name in it, and goes on to the fallbacks as long as the client has had
// no byte: see the package comment. Response bodies stream; what was used is accounted
// when the body is read to its end or closed. To be able to go on, it returns a response
// only when there is something of its body to pass on, or its end.
//
// A request that admission control revokes is ended at its server, and gets the refusal
// as its response, or, if it has had bytes of another, an *director.Error from the body.
//
// A request that the director refuses gets a response with the error in the form
// of the API, not an error of RoundTrip. GET /v1/models is answered from the
// store. Headers that no client may set are removed. A websocket is a session: the body of its
// response is the connection to the server, as a httputil.ReverseProxy expects it; see EndSessions.
// Other upgrades that a client offers are not taken up.
//
// All methods may be called from any goroutine; the fields must not change after
// the first use.
type Transport struct {
	// Director decides. Required.
	Director *director.Director
	// Base sends the requests. Default: an http.Transport of its own for each Transport
	// made by New, without transparent compression. With another kind of RoundTripper, who
	// is to blame for an error is told from the error and from what it reports to
	// net/http/httptrace, if anything.
	Base http.RoundTripper
	// Scheme is that of the endpoints, "http" or "https". Default "http".
	Scheme string
	// MaxBody bounds a request body in bytes: 413. Default: the largest that the
	// Director's Limits accept.
	MaxBody int64
	// MaxBodies bounds in bytes what is held of the bodies of all requests under way, as
	// they come in and until their requests have ended: beyond it 503. Default
	// DefaultMaxBodies.
	MaxBodies int64
	// Early, if it is more than 0, is after how many bytes of a request body its server is chosen if that can be done,
	// and the body sent on as it comes in: see the package comment. 32 KiB is a good value. It is for bodies of which
	// the length is known and at least twice as much. Incoming then sees the beginning of the body, and OnRoute is told of
	// a route for it, and of another one if the bet was lost. Default: bodies are read whole.
	Early int64
	// EarlyTimeout bounds for how long the rest of such a body may keep a place at its server. Default
	// DefaultEarlyTimeout.
	EarlyTimeout time.Duration
	// PrefillTimeout bounds how long an endpoint may take to compute a prompt for another.
	// Default DefaultPrefillTimeout.
	PrefillTimeout time.Duration
	// MaxPrefillAnswer bounds, in bytes, the answer of an endpoint that computed a prompt for
	// another: what it says to that one, and about itself. It counts against MaxBodies. Default
	// DefaultMaxPrefillAnswer. See also disagg.Options.MaxParams.
	MaxPrefillAnswer int64
	// Linger is how long a leg of a request in two places goes on when its client has left, or it was revoked, as long as
	// the prefill engine may keep a KV cache that nothing else frees: a prefill leg after which the decode leg is sent,
	// and a decode leg of which nothing has come. A prompt that takes longer is given up, and its cache is kept for a
	// lease if the engine was done with it at that very moment. Default DefaultLinger.
	Linger time.Duration
	// NameEndpoint adds HeaderEndpoint to responses.
	NameEndpoint bool
	// Explain keeps the explanation of each decision in its Route.
	Explain bool
	// Pool is the pool of every request. Zero: the one that serves the model.
	Pool types.NamespacedName
	// Incoming may say what the gateway knows of a request: its tenant, objective and so
	// on, or another pool. It is called before the request is routed, must be quick, and
	// must not change Method, Path, Header and Body, nor keep Body. Optional. If it panics, the request
	// gets a 500.
	Incoming func(*http.Request, *director.Incoming)
	// OnRoute is told of each request that was routed, before it is sent, for
	// those who want to follow it. Optional; it must be quick. If it panics, the request
	// gets a 500. The memory of the request's body is used again when the request has
	// ended: who wants it for longer copies it. Bodies of models that have another name at their servers
	// are copied so that Route.Body has them; if OnRoute does not look at it, have Incoming set Pieces.
	OnRoute func(*http.Request, *director.Route)

	held      atomic.Int64 // of MaxBodies
	sessions  sessions
	odds      odds // of Early
	freshOnce sync.Once
	fresh     http.RoundTripper // for a connection that nobody has used
}

// New returns a Transport for d with a connection pool fit for model servers:
// many connections a host, no compression, no limit to how long a response may
// take. It starts from http.DefaultTransport, if that is an *http.Transport.
func New(d *director.Director) *Transport { return &Transport{Director: d, Base: newBase()} }

func newBase() *http.Transport {
	base, ok := http.DefaultTransport.(*http.Transport)
	if ok {
		base = base.Clone()
	} else {
		base = &http.Transport{ForceAttemptHTTP2: true}
	}
	base.MaxIdleConns = 0
	base.MaxIdleConnsPerHost = 256
	base.DisableCompression = true
	base.Proxy = nil
	base.DialContext = dialWire(base.DialContext)
	return base
}

// CloseIdleConnections closes the idle connections of Base.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.Base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// once returns what sends a request over a connection of its own, if it can be made from
// Base, or Base.
func (t *Transport) once() http.RoundTripper {
	base, ok := t.base().(*http.Transport)
	if !ok {
		return t.base()
	}
	t.freshOnce.Do(func() {
		own := base.Clone()
		own.DisableKeepAlives = true
		t.fresh = own
	})
	return t.fresh
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := overHTTP2(req); err != nil {
		closeBody(req)
		return t.refuse(req, err)
	}
	x := &exchange{t: t, req: req, body: held{t: t}, session: director.AsksForWebsocket(req.Method, req.Header)}
	defer x.abandon() // unless the response owns its end
	if x.session {
		closeBody(req)
	} else if b, err := x.receive(); err != nil {
		return t.refuse(req, err)
	} else if b != nil {
		return x.send(b)
	}
	if err := x.arrive(x.body.data); err != nil {
		return t.refuse(req, err)
	}
	if answer, ok := t.Director.Answer(x.in); ok {
		return respond(req, answer.Status, answer.Header, answer.Body), nil
	}
	if err := x.book(); err != nil {
		return x.refuse(err)
	}
	if err := x.tell(); err != nil {
		return t.refuse(req, err)
	}
	return x.send(nil)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
