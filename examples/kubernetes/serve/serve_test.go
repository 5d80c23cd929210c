package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/kubernetes/internal/manifests"
	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/examples/kubernetes/serve"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/types"
)

// rig is a Server on loopback with a pool llama and a Service web of one server each.
type rig struct {
	*testing.T
	*serve.Server
	port    int
	objects string
}

// seen is what a server says of a request.
type seen struct {
	Server, Path, Host, Proto, Body string
	Header                          http.Header
}

func newRig(t *testing.T) *rig {
	pool, web := echo(t, "llama"), echo(t, "web")
	g, err := gateway.New(gateway.Options{
		Profile: plugins.Default(), Director: director.Options{TrustRequestHeaders: true},
	})
	require.NoError(t, err)
	t.Cleanup(g.Close)
	require.NoError(t, g.Store.SetEndpoints(types.NamespacedName{Namespace: "app", Name: "llama"}, []datastore.EndpointSpec{{Address: pool, NoMetrics: true}}))
	s := serve.New(serve.Options{Director: g.Director, Host: "127.0.0.1", Drain: 5 * time.Second})
	t.Cleanup(s.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &rig{T: t, Server: s, port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	_, webPort, _ := net.SplitHostPort(web)
	r.objects = strings.NewReplacer("PORT", strconv.Itoa(r.port), "WEB", webPort).Replace(objects)
	return r
}

// set puts a route with these rules in force, after changes of the objects.
func (r *rig) set(rules string, oldnew ...string) {
	r.Helper()
	route := "\n---\nkind: HTTPRoute\nmetadata: {name: r, namespace: app}\nspec:\n  parentRefs: [{name: gw}]\n  rules:\n" + rules
	table, _ := routing.Build(manifests.Read(r.T, strings.NewReplacer(oldnew...).Replace(r.objects)+route), routing.Options{Controller: "inferpick.io/gateway"})
	require.Empty(r, r.Set(table))
}

const objects = `
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: inferpick.io/gateway}
---
kind: Gateway
metadata: {name: gw, namespace: app}
spec: {gatewayClassName: ours, listeners: [{name: http, port: PORT, protocol: HTTP}]}
---
kind: InferencePool
metadata: {name: llama, namespace: app}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
---
kind: Service
metadata: {name: web, namespace: app}
spec: {ports: [{port: 80}]}
---
kind: Service
metadata: {name: empty, namespace: app}
spec: {ports: [{port: 80}]}
---
kind: EndpointSlice
metadata: {name: web-1, namespace: app, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: WEB, name: ""}]
endpoints: [{addresses: [127.0.0.1]}]
`

const toPool = "backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: llama}]"
const toWeb = "backendRefs: [{name: web, port: 80}]"

// echo is a server that says what it got; it streams for as long as the client reads, if the
// path ends in /stream.
func echo(t *testing.T, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/stream"):
			for i := 0; i < 3 && r.Context().Err() == nil; i++ {
				fmt.Fprintf(w, "data: {\"n\":%d}\n\n", i)
				w.(http.Flusher).Flush()
				if i == 0 {
					<-r.Context().Done()
				}
			}
			return
		case strings.HasSuffix(r.URL.Path, "/slow"):
			select {
			case <-r.Context().Done():
			case <-time.After(10 * time.Second):
			}
		}
		w.Header().Set("X-Server", name)
		_ = json.NewEncoder(w).Encode(seen{name, r.URL.Path, r.Host, r.Proto, string(body), r.Header})
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// ask sends a request and returns the answer.
func (r *rig) ask(method, path, body string, header ...string) (int, seen, http.Header) {
	r.Helper()
	req, err := http.NewRequest(method, fmt.Sprintf("http://127.0.0.1:%d%s", r.port, path), strings.NewReader(body))
	require.NoError(r, err)
	req.Host = "api.example.com"
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Timeout: 20 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	require.NoError(r, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(r, err)
	var s seen
	_ = json.Unmarshal(text, &s)
	if s.Server == "" {
		s.Body = string(text)
	}
	return resp.StatusCode, s, resp.Header
}

const prompt = `{"model":"m","prompt":"hello"}`

// TestBackends: pools and Services get requests as the route has them.
func TestBackends(t *testing.T) {
	r := newRig(t)
	r.set(`
  - {matches: [{path: {value: /v1}}], ` + toPool + `}
  - {matches: [{path: {value: /web}}], ` + toWeb + `}
  - {matches: [{path: {value: /empty}}], backendRefs: [{name: empty, port: 80}]}
  - {matches: [{path: {value: /missing}}], backendRefs: [{name: missing, port: 80}]}
  - matches: [{path: {value: /edited}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-gateway-inference-objective, value: batch}, {name: x-a, value: "1"}]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-b, value: "2"}], remove: [x-server]}}
    - {type: URLRewrite, urlRewrite: {hostname: in.example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}
    ` + toWeb + `
  - {matches: [{path: {value: /moved}}], filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example.com, port: 80, statusCode: 301}}]}`)

	status, s, _ := r.ask("POST", "/v1/completions", prompt, "X-Gateway-Destination-Endpoint", "10.0.0.1:1", "X-Gateway-Inference-Objective", "critical")
	require.Equal(t, 200, status, s.Body)
	require.Equal(t, "llama", s.Server)
	require.Equal(t, prompt, s.Body)
	require.Equal(t, "api.example.com", s.Header.Get("X-Forwarded-Host"))
	require.Empty(t, s.Header.Get("X-Gateway-Destination-Endpoint"))
	require.Empty(t, s.Header.Get("X-Gateway-Inference-Objective"), "clients do not say what matters")

	status, s, _ = r.ask("GET", "/web/x", "")
	require.Equal(t, 200, status)
	require.Equal(t, "web", s.Server)
	require.Equal(t, "api.example.com", s.Host)

	status, s, h := r.ask("GET", "/edited/x", "", "X-A", "0")
	require.Equal(t, 200, status)
	require.Equal(t, "/x", s.Path)
	require.Equal(t, "in.example.com", s.Host)
	require.Equal(t, "1", s.Header.Get("X-A"))
	require.Equal(t, "batch", s.Header.Get("X-Gateway-Inference-Objective"), "routes do")
	require.Equal(t, "2", h.Get("X-B"))
	require.Empty(t, h.Get("X-Server"))

	status, _, h = r.ask("GET", "/moved/x", "")
	require.Equal(t, 301, status)
	require.Equal(t, "http://new.example.com/moved/x", h.Get("Location"))

	for path, want := range map[string]string{
		"/empty":                `503 {"error":{"message":"the Service has no ready endpoint"`,
		"/missing":              `500 {"error":{"message":"the route has no backend"`,
		"/none":                 `404 {"error":{"message":"no HTTPRoute is for this request"`,
		"/web/../v1/x":          `400 {"error":{"message":"the path has segments that lead upwards"`,
		"/web/%2e%2e/v1/x":      `400 {"error":{"message":"the path has segments that lead upwards"`,
		"/v1/load_lora_adapter": `403 {"error":{"message":"GET \"/v1/load_lora_adapter\" is not for clients`,
	} {
		status, s, _ := r.ask("GET", path, "")
		require.Contains(t, fmt.Sprintf("%d %s", status, s.Body), want, path)
	}
}

// TestSetWhileServing: a new table counts for the next request, also on a connection that is
// there; a port that goes lets its requests end.
func TestSetWhileServing(t *testing.T) {
	r := newRig(t)
	r.set("  - {" + toWeb + "}")
	_, s, _ := r.ask("GET", "/", "")
	require.Equal(t, "web", s.Server)
	r.set("  - {matches: [{path: {value: /v1}}], " + toPool + "}")
	status, _, _ := r.ask("GET", "/", "")
	require.Equal(t, 404, status)

	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprintf(c, "POST /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(prompt), prompt)
	reader := bufio.NewReader(c)
	resp, err := http.ReadResponse(reader, nil)
	require.NoError(t, err)
	first := make([]byte, 14)
	_, err = io.ReadFull(resp.Body, first)
	require.NoError(t, err)
	require.Equal(t, "data: {\"n\":0}\n", string(first), "it streams")

	require.Empty(t, r.Set(new(routing.Table)))
	_, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	require.Error(t, err, "the port is closed")
	require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = resp.Body.Read(make([]byte, 100))
	require.NotErrorIs(t, err, io.EOF, "the stream goes on")

	r.set("  - {" + toWeb + "}")
	_, s, _ = r.ask("GET", "/", "")
	require.Equal(t, "web", s.Server, "the port is open again")
}

// TestPortInUse: it is told, and tried again.
func TestPortInUse(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	require.NoError(t, err)
	table, _ := routing.Build(manifests.Read(t, r.objects), routing.Options{Controller: "inferpick.io/gateway"})
	require.Len(t, r.Set(table), 1)
	l.Close()
	require.Empty(t, r.Set(table))
	require.Len(t, r.Addresses(), 1)
}

// TestTimeout: a route's limit is a 504.
func TestTimeout(t *testing.T) {
	r := newRig(t)
	r.set("  - {timeouts: {request: 50ms}, " + toWeb + "}\n  - {matches: [{path: {value: /v1}}], timeouts: {backendRequest: 50ms}, " + toPool + "}")
	for _, path := range []string{"/slow", "/v1/slow"} {
		status, s, _ := r.ask("GET", path, "")
		require.Equal(t, 504, status, s.Body)
	}
}

// TestTLS: the certificate is that of the listener for the host, which is the only one that the
// connection is for.
func TestTLS(t *testing.T) {
	r := newRig(t)
	secrets := ""
	for _, host := range []string{"a.example.com", "b.example.com"} {
		secrets += "---\n{kind: Secret, metadata: {name: " + host + ", namespace: app}, type: kubernetes.io/tls, data: " + manifests.Certificate(t, host) + "}\n"
	}
	listener := func(host string) string {
		return "{name: " + host[:1] + ", port: " + strconv.Itoa(r.port) + ", protocol: HTTPS, hostname: " + host + ", tls: {certificateRefs: [{name: " + host + "}]}}"
	}
	r.objects += secrets
	r.set("  - {"+toWeb+"}", fmt.Sprintf("{name: http, port: %d, protocol: HTTP}", r.port), listener("a.example.com")+", "+listener("b.example.com"))

	address := fmt.Sprintf("127.0.0.1:%d", r.port)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
	defer client.CloseIdleConnections()
	for _, host := range []string{"a.example.com", "b.example.com"} {
		resp, err := client.Get("https://" + host + "/")
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode, string(body))
		require.Equal(t, []string{host}, resp.TLS.PeerCertificates[0].DNSNames)
		require.Equal(t, "HTTP/2.0", resp.Proto)
		require.True(t, bytes.Contains(body, []byte(`"X-Forwarded-Proto":["https"]`)), string(body))
	}
	req, err := http.NewRequest("GET", "https://a.example.com/", nil)
	require.NoError(t, err)
	req.Host = "b.example.com"
	resp, err := client.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 421, resp.StatusCode)
	_, err = client.Get("https://c.example.com/")
	require.ErrorContains(t, err, "tls: ")
}
