package directortest_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/directortest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var (
	matrix = flag.Bool("matrix", false, "run the kit against every gateway, not against the first alone")
	storm  = flag.Int("chaos", 3000, "how many requests of chaos there are")
)

// gatewayOf makes a gateway of a director.
type gatewayOf func(*testing.T, *director.Director) http.Handler

// gateways are the ways to embed the director.
var gateways = []struct {
	name  string
	admit bool
	make  gatewayOf
}{
	{"reverse_proxy", false, reverseProxy},
	{"reverse_proxy_admission", true, reverseProxy},
	{"by_hand", false, byHand},
	{"by_hand_admission", true, byHand},
	{"client", false, client},
	{"client_admission", true, client},
	{"reverse_proxy_early", false, early},
}

func TestRun(t *testing.T) {
	if raceEnabled || testing.Short() {
		t.Skip("takes long, and the race detector changes the times that much of this is about; TestChaos and TestPanics run with it")
	}
	for i, g := range gateways {
		if i > 0 && !*matrix {
			break
		}
		t.Run(g.name, func(t *testing.T) {
			var o directortest.Options
			if !*matrix { // beside other tests, on a machine that has other things to do
				o.Skew, o.Skip = 2.5, []string{"hangs"}
			}
			directortest.RunWith(t, o, func(t *testing.T, endpoints []string) http.Handler {
				return g.make(t, newDirector(t, endpoints, g.admit))
			})
		})
	}
}

func TestChaos(t *testing.T) {
	for i, g := range gateways {
		if i > 1 && !*matrix {
			break
		}
		t.Run(g.name, func(t *testing.T) {
			directortest.Chaos(t, func(t *testing.T, endpoints []string) http.Handler {
				return g.make(t, newDirector(t, endpoints, g.admit))
			}, directortest.ChaosOptions{Requests: *storm})
		})
	}
}

// newDirector wires a director as examples/reverseproxy does.
func newDirector(t *testing.T, endpoints []string, admit bool) *director.Director {
	t.Helper()
	store := datastore.New(datastore.Options{})
	for _, address := range endpoints {
		must(t, store.UpsertEndpoint(types.NamespacedName{Name: "pool"}, datastore.EndpointSpec{Address: address}))
	}
	scheduler, err := scheduling.New(plugins.Default())
	must(t, err)
	o := director.Options{Store: store, Scheduler: scheduler}
	if admit {
		o.Admission = func(types.NamespacedName) *admission.Options { return &admission.Options{} }
	}
	d, err := director.New(o)
	must(t, err)
	scraper, err := scrape.New(store, scrape.Options{})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = scraper.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		d.Close()
	})
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	require.NoError(t, err)
}

// reverseProxy is the wiring of examples/reverseproxy.
func reverseProxy(t *testing.T, d *director.Director) http.Handler {
	transport := httptransport.New(d)
	t.Cleanup(transport.CloseIdleConnections)
	return &httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {},
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
}

// early is reverseProxy with bodies that go out as they come in.
func early(t *testing.T, d *director.Director) http.Handler {
	proxy := reverseProxy(t, d).(*httputil.ReverseProxy)
	proxy.Transport.(*httptransport.Transport).Early = 64
	return proxy
}

// client is a handler that sends requests on with an http.Client.
func client(t *testing.T, d *director.Director) http.Handler {
	transport := httptransport.New(d)
	t.Cleanup(transport.CloseIdleConnections)
	c := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		out := in.Clone(in.Context())
		out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", "model"
		resp, err := c.Do(out)
		if err != nil {
			http.Error(w, "no answer", http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		copyHeader(w.Header(), resp.Header)
		w.WriteHeader(resp.StatusCode)
		flush(w)
		buf := make([]byte, 4096)
		for {
			n, err := resp.Body.Read(buf)
			if _, writeErr := w.Write(buf[:n]); writeErr != nil {
				return
			}
			flush(w)
			if err == io.EOF {
				return
			}
			if err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	})
}

// byHand is a data plane of its own, as the README has it.
func byHand(t *testing.T, d *director.Director) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableCompression = true
	t.Cleanup(transport.CloseIdleConnections)
	return http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, in.Body, 32<<20))
		if err != nil {
			e := &director.Error{Status: http.StatusBadRequest, Code: "incomplete_body", Message: "request body could not be read", Err: err}
			if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
				e.Status = http.StatusRequestEntityTooLarge
			}
			refuse(w, d.Refuse(in.URL.Path, e))
			return
		}
		incoming := director.Incoming{Method: in.Method, Path: in.URL.EscapedPath(), Header: in.Header, Body: body}
		if a, ok := d.Answer(incoming); ok {
			copyHeader(w.Header(), a.Header)
			w.WriteHeader(a.Status)
			_, _ = w.Write(a.Body)
			return
		}
		route, err := d.Route(in.Context(), incoming)
		if err != nil {
			refuse(w, director.AsError(err))
			return
		}
		defer route.Done(nil)
		for ep := route.Endpoint(); ep != nil; ep = route.Next() {
			out, err := http.NewRequestWithContext(in.Context(), in.Method, "http://"+ep.Address+in.URL.RequestURI(), bytes.NewReader(route.Body))
			if err != nil {
				http.Error(w, "bad target", http.StatusBadRequest)
				return
			}
			copyHeader(out.Header, in.Header)
			out.Header["X-Idempotency-Key"] = nil // a connection closed while it was idle is tried again
			director.StripControlHeaders(out.Header)
			for _, hop := range []string{"Connection", "Upgrade", "Http2-Settings", "Te", "Keep-Alive", "Proxy-Connection", "Expect"} {
				out.Header.Del(hop)
			}
			resp, err := transport.RoundTrip(out)
			if err != nil {
				if in.Context().Err() != nil {
					route.Done(context.Canceled)
					return
				}
				route.Failed(err, false)
				continue
			}
			route.ResponseHeader(resp.StatusCode, resp.Header)
			if !director.IsAnswer(resp.StatusCode) || director.Retryable(route.Status()) && len(route.Fallbacks()) > 0 {
				resp.Body.Close()
				continue
			}
			if err := pass(w, in, route, resp); err == nil {
				return
			} else {
				route.Failed(err, false)
			}
		}
		http.Error(w, "no server answered", http.StatusBadGateway)
	})
}

// pass passes an answer on. It returns an error if there was nothing of it.
func pass(w http.ResponseWriter, in *http.Request, route *director.Route, resp *http.Response) error {
	defer resp.Body.Close()
	begun := false
	write := func(b []byte) bool {
		if !begun {
			begun = true
			copyHeader(w.Header(), resp.Header)
			w.WriteHeader(resp.StatusCode)
		}
		_, err := w.Write(b)
		flush(w)
		return err == nil
	}
	buf := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(buf)
		if out := route.Data(buf[:n]); len(out) > 0 && !write(out) {
			route.Done(context.Canceled)
			return nil
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			write(route.End())
			return nil
		case in.Context().Err() != nil:
			route.Done(context.Canceled)
			return nil
		case !begun:
			return err
		default:
			route.Done(err)
			panic(http.ErrAbortHandler) // so that the client sees it
		}
	}
}

func refuse(w http.ResponseWriter, e *director.Error) {
	copyHeader(w.Header(), e.Header())
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.Body())
}

func copyHeader(to, from http.Header) {
	for name, values := range from {
		to[name] = values
	}
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
