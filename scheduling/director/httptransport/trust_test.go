package httptransport_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// speak sends a request as it is to a gateway in front of f, and returns the answer.
func (f *rawFixture) speak(t *testing.T, text string) reply {
	t.Helper()
	gateway := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: f.Transport, FlushInterval: -1})
	defer gateway.Close()
	c, err := net.Dial("tcp", gateway.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, text)
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	require.NoError(t, err, "%q", text[:min(len(text), 40)])
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp, string(b), err}
}

func post(target string, header ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s", target, strings.Join(append(header, ""), "\r\n"), len(request), request)
}

// TestTargetsOfClients: scheme, host, port and user of a target are not the endpoint's.
func TestTargetsOfClients(t *testing.T) {
	var seen *http.Request
	s := serveRaw(t, func(c net.Conn, r *http.Request) bool {
		seen = r
		return says(okEvents)(c, r)
	})
	f := newRaw(t, nil, s.Addr().String(), dead(t))
	for _, target := range []string{
		"/v1/chat/completions?a=b", "https://x/v1/chat/completions", "http://x:1/v1/chat/completions", "ftp://x/v1/chat/completions",
		"HTTPS://user:secret@x/v1/chat/completions", "wss://x/v1/chat/completions",
	} {
		g := f.speak(t, post(target))
		if g.StatusCode != 200 || g.body != streamed || len(f.left) != 0 {
			t.Errorf("%s: %d %s", target, g.StatusCode, g.body)
			continue
		}
		if seen.Header.Get("Authorization") != "" || seen.Host != s.Addr().String() {
			t.Errorf("%s: the server got %v", target, seen)
		}
	}
}

// TestUpgrades: offers that may be ignored are, and do not reach the server. A websocket is one, unless it is asked for
// by GET.
func TestUpgrades(t *testing.T) {
	var seen *http.Request
	s := serveRaw(t, func(c net.Conn, r *http.Request) bool {
		seen = r
		return says(okEvents)(c, r)
	})
	f := newRaw(t, nil, s.Addr().String())
	for offer, status := range map[string]int{
		"h2c": 200, "H2C": 200, "TLS/1.0": 200, "h2c, TLS/1.2": 200, "HTTP/2.0": 200, "foo": 200, "websocket": 200, "WebSocket": 200, "h2c, websocket": 200,
	} {
		g := f.speak(t, post("/v1/chat/completions", "Connection: Upgrade, HTTP2-Settings", "Upgrade: "+offer, "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"))
		if g.StatusCode != status || status == 200 && (g.body != streamed || seen.Header.Get("Upgrade")+seen.Header.Get("Http2-Settings")+seen.Header.Get("Connection") != "") {
			t.Errorf("%s: %d %s, the server got %v", offer, g.StatusCode, g.body, seen.Header)
		}
	}
}

// TestAdministrationDoesNotPass, and methods of known paths do, as they are.
func TestAdministrationDoesNotPass(t *testing.T) {
	s := serveRaw(t, func(c net.Conn, r *http.Request) bool {
		body := r.Method + " " + r.RequestURI
		if r.Method == "HEAD" {
			body = ""
		}
		return says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))(c, r)
	})
	f := newRaw(t, nil, s.Addr().String())
	for _, request := range []string{"OPTIONS /v1/chat/completions", "HEAD /health", "GET /v1/files/a%20b?x=%2F", "DELETE /v1/responses/r", "GET //v1//files/"} {
		g := f.speak(t, request+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if g.StatusCode != 200 || g.body != request && request[:4] != "HEAD" {
			t.Errorf("%s: %d %q", request, g.StatusCode, g.body)
		}
	}
	before := s.requests.Load()
	for _, request := range []string{"GET /metrics", "POST /v1/load_lora_adapter", "POST /sleep", "GET /%6detrics", "GET /v1/%2e%2e/metrics", "GET //metrics", "GET /v1/models/..%2f..%2fmetrics", "GET http://x/metrics"} {
		g := f.speak(t, request+" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
		if g.StatusCode != 403 || !strings.Contains(g.body, `"code":"path_not_allowed"`) {
			t.Errorf("%s: %d %q", request, g.StatusCode, g.body)
		}
	}
	if n := s.requests.Load() - before; n != 0 {
		t.Errorf("%d reached the server", n)
	}
}

// TestIncoming: a gateway says what it knows, and clients say nothing.
func TestIncoming(t *testing.T) {
	s := serveRaw(t, says(okEvents))
	f := newRaw(t, nil, s.Addr().String())
	var tenants []string
	f.OnRoute = func(_ *http.Request, r *director.Route) { tenants = append(tenants, r.Request.FairnessID) }
	f.Incoming = func(r *http.Request, in *director.Incoming) {
		if r.Header.Get("Authorization") == "Bearer key" {
			in.FairnessID = "acme"
		}
	}
	for _, key := range []string{"Bearer key", "Bearer other"} {
		f.speak(t, post("/v1/chat/completions", "Authorization: "+key, director.HeaderFairness+": evil"))
	}
	if strings.Join(tenants, ",") != "acme," {
		t.Errorf("tenants are %q", tenants)
	}
}

// TestNamesThroughTheGateway: what the servers have, of the pool, and HEAD as GET.
func TestNamesThroughTheGateway(t *testing.T) {
	s := serveRaw(t, says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nits"))
	f := newRaw(t, nil, s.Addr().String())
	if g := f.speak(t, "GET /v1/models/m HTTP/1.1\r\nHost: x\r\n\r\n"); g.body != "its" {
		t.Errorf("nothing is known, and the answer is %d %s", g.StatusCode, g.body)
	}
	f.store.SetModels(f.store.Snapshot().Pool(pool).Endpoints()[0].Load, []string{"org/base"})
	f.Pool = pool
	for request, want := range map[string]string{
		"GET /v1/models": `"id":"org/base"`, "GET /v1/models/org/base": `{"id":"org/base"`, "GET /v1/models/org%2Fbase": `{"id":"org/base"`,
		"GET /v1/models/other": `"code":"model_not_found"`, "GET /v1/models/org": `"code":"model_not_found"`,
	} {
		g := f.speak(t, request+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if !strings.Contains(g.body, want) || (g.StatusCode == 404) != strings.Contains(want, "not_found") {
			t.Errorf("%s: %d %s", request, g.StatusCode, g.body)
		}
		h := f.speak(t, "HEAD"+request[3:]+" HTTP/1.1\r\nHost: x\r\n\r\n")
		if h.StatusCode != g.StatusCode || h.body != "" || h.ContentLength != int64(len(g.body)) {
			t.Errorf("HEAD of %s: %d %q, length %d, want %d", request, h.StatusCode, h.body, h.ContentLength, len(g.body))
		}
	}
	f.Pool = types.NamespacedName{Name: "none"}
	if g := f.speak(t, "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"); strings.Contains(g.body, "org/base") {
		t.Errorf("another pool's models are listed: %s", g.body)
	}
}

// TestTrailersAndExpectations of clients do not reach the server: all of the body is there.
func TestTrailersAndExpectations(t *testing.T) {
	s := serveRaw(t, says(okEvents))
	f := newRaw(t, nil, s.Addr().String())
	chunk := hex(len(request)) + "\r\n" + request + "\r\n0\r\nX-Sum: 1\r\n\r\n"
	g := f.speak(t, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"+chunk)
	if g.StatusCode != 200 || g.body != streamed {
		t.Errorf("with trailers: %d %s", g.StatusCode, g.body)
	}
	req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(request))
	req.Header.Set("Expect", "100-continue")
	begun := time.Now()
	if g := f.send(t, req); g.StatusCode != 200 || time.Since(begun) > 800*time.Millisecond {
		t.Errorf("after %v: %d %s", time.Since(begun), g.StatusCode, g.body)
	}
}
