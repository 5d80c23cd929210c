package epp_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// TestExplainIsOff: who may read metrics may not find out what is cached for whom.
func TestExplainIsOff(t *testing.T) {
	t.Parallel()
	r := start(t, base, nil)
	for _, method := range []string{"POST", "GET", "PUT"} {
		code, _, text := fetch(t, method, "http://"+r.MetricsAddress()+"/explain", `{"model": "chat", "messages": []}`)
		require.Equal(t, http.StatusForbidden, code)
		require.Contains(t, text, "-explain")
		require.NotContains(t, text, "rank")
	}
	code, _, _ := fetch(t, "GET", "http://"+r.MetricsAddress()+"/debug/pprof/", "")
	require.Equal(t, http.StatusNotFound, code)
}

// page asks for a page of the metrics' address with a header Authorization, unless it is
// empty.
func (r *running) page(method, path, authorization string) (status int, header http.Header, text string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.MetricsAddress()+path, strings.NewReader(`{"model": "chat", "messages": []}`))
	require.NoError(r.t, err)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, resp.Header, string(data)
}

// TestMetricsToken: with a token, nothing is told without it, and one that is put in its
// place counts at once.
func TestMetricsToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	put(t, file, "first-token\n")
	r := start(t, base, func(o *epp.Options) { o.MetricsTokenFile, o.Explain, o.Pprof = file, true, true })
	pages := []struct{ method, path string }{{"GET", "/metrics"}, {"POST", "/explain"}, {"GET", "/debug/pprof/"}}
	for _, p := range pages {
		for _, wrong := range []string{
			"", "Bearer", "Bearer ", "Bearer first", "Bearer first-token2", "Bearer FIRST-TOKEN", "Basic first-token", "first-token", "Bearer first-token first-token",
		} {
			code, header, _ := r.page(p.method, p.path, wrong)
			require.Equal(t, http.StatusUnauthorized, code, "%s with %q", p.path, wrong)
			require.Contains(t, header.Get("WWW-Authenticate"), "Bearer")
		}
		for _, right := range []string{"Bearer first-token", "bearer first-token", "Bearer  first-token "} {
			code, _, _ := r.page(p.method, p.path, right)
			require.Equal(t, http.StatusOK, code, "%s with %q", p.path, right)
		}
	}
	status := func(token string) int {
		code, _, _ := r.page("GET", "/metrics", "Bearer "+token)
		return code
	}
	put(t, file, "second")
	require.Equal(t, http.StatusUnauthorized, status("first-token"))
	require.Equal(t, http.StatusOK, status("second"))
	put(t, file, "")
	require.Equal(t, http.StatusInternalServerError, status(""), "an empty token lets nobody through")
	require.Equal(t, http.StatusInternalServerError, status("second"))
	require.NoError(t, os.Remove(file))
	require.Equal(t, http.StatusInternalServerError, status("second"))
	require.Equal(t, 1, strings.Count(r.log.String(), "nobody is let at the metrics"), "a flood is told of once a minute")
	put(t, file, "third")
	require.Equal(t, http.StatusOK, status("third"))
}

// TestMetricsTLS: the metrics' port has TLS of its own.
func TestMetricsTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cert, key, pool := certificate(t, "metrics")
	put(t, certFile, cert)
	put(t, keyFile, key)
	get := func(r *running, c *tls.Config) error {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
		resp, err := client.Get("https://" + r.MetricsAddress() + "/metrics")
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	r := start(t, base, func(o *epp.Options) {
		o.MetricsTLS = epp.TLS{CertFile: certFile, KeyFile: keyFile, MinVersion: tls.VersionTLS13}
	})
	require.NoError(t, get(r, &tls.Config{RootCAs: pool}))
	require.Error(t, get(r, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}))

	r = start(t, base, func(o *epp.Options) {
		o.MetricsTLS = epp.TLS{CertFile: certFile, KeyFile: keyFile, ClientCAFile: certFile}
	})
	require.Error(t, get(r, &tls.Config{RootCAs: pool}), "who has no certificate")
	own, err := tls.X509KeyPair([]byte(cert), []byte(key))
	require.NoError(t, err)
	require.NoError(t, get(r, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}))
}

// TestTrapPlainConnectionIsSilent: an Envoy that was not told of TLS gets nothing, and
// the log says why.
func TestTrapPlainConnectionIsSilent(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.TLS = epp.TLS{} })
	for range 2 {
		conn, err := net.Dial("tcp", r.Address())
		require.NoError(t, err)
		_, err = conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		require.NoError(t, err)
		_, _ = conn.Read(make([]byte, 100))
		conn.Close()
	}
	eventually(t, "the log says so", func() bool { return strings.Contains(r.log.String(), "transport_socket") })
	require.Equal(t, 1, strings.Count(r.log.String(), "transport_socket"), "once")
}

// faulty is a Tracer whose functions panic, one at a time.
type faulty struct{ in string }

func (f faulty) at(name string) {
	if f.in == name {
		panic("on purpose, in " + name)
	}
}

func (f faulty) Start(ctx context.Context, _, _ string, _ map[string][]string) (context.Context, exchange.Span) {
	f.at("Start")
	return ctx, f
}
func (f faulty) Routed(*director.Route)            { f.at("Routed") }
func (f faulty) Refused(*director.Error)           { f.at("Refused") }
func (f faulty) Response(int, *types.Endpoint)     { f.at("Response") }
func (f faulty) Propagate(pairs []string) []string { f.at("Propagate"); return pairs }
func (f faulty) End()                              { f.at("End") }
func (f faulty) route(*director.Route)             { f.at("OnRoute") }
func (f faulty) served(*director.Route, string)    { f.at("OnServed") }

// TestTrapPanicEndsTheProcess: whatever an embedder's function does, it costs one
// request, whose booking is given back. A panic that gets out ends this test's process.
func TestTrapPanicEndsTheProcess(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"Start", "Routed", "Refused", "Response", "Propagate", "End", "OnRoute", "OnServed"} {
		t.Run(in, func(t *testing.T) {
			f := faulty{in}
			r := start(t, base, func(o *epp.Options) {
				o.Tracer, o.OnRoute, o.OnServed, o.RefuseUnknownModels = f, f.route, f.served, true
			})
			c := r.client()
			model := "chat"
			if in == "Refused" {
				model = "unheard-of"
			}
			for range 2 { // the second finds the process as the first did
				x := open(t, c)
				x.send(requestHeaders())
				x.send(bodyFor(model))
				for {
					m, err := x.s.Recv()
					if in == "End" && errors.Is(err, io.EOF) { // it has had its answer
						break
					}
					if err != nil {
						require.Equal(t, codes.Internal, status.Code(err), "%v", err)
						break
					}
					if m.GetRequestBody() != nil {
						x.play()
					}
				}
			}
			eventually(t, "nothing is booked", func() bool { return r.Open() == 0 })
			require.Contains(t, r.log.String(), "on purpose, in "+in)
			require.Equal(t, serving, checkHealth(t, r.HealthAddress(), "readiness"))
		})
	}
}
