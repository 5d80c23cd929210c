package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// This file is about Envoys that are configured in other ways than ours.

// filterFirst puts a filter before all others.
func filterFirst(t *testing.T, b *envoyproxy.Bootstrap, name string, config proto.Message) {
	t.Helper()
	a, err := anypb.New(config)
	require.NoError(t, err)
	err = b.Manager(func(m *hcmv3.HttpConnectionManager) {
		m.HttpFilters = append([]*hcmv3.HttpFilter{{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: a}}}, m.HttpFilters...)
	})
	require.NoError(t, err)
}

// denying refuses by RBAC what has a header x-deny, with 403.
func denying(t *testing.T, b *envoyproxy.Bootstrap) {
	filterFirst(t, b, "envoy.filters.http.rbac", &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{
		Action: rbacconfigv3.RBAC_DENY,
		Policies: map[string]*rbacconfigv3.Policy{"deny": {
			Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Header{Header: &routev3.HeaderMatcher{
				Name: "x-deny", HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
			}}}},
			Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}},
		}},
	}})
}

// limiting lets one request through, and answers all others with 429.
func limiting(t *testing.T, b *envoyproxy.Bootstrap) {
	all := &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 100}}
	filterFirst(t, b, "envoy.filters.http.local_ratelimit", &ratelimitv3.LocalRateLimit{
		StatPrefix: "limit", FilterEnabled: all, FilterEnforced: all,
		TokenBucket: &typev3.TokenBucket{MaxTokens: 1, TokensPerFill: wrapperspb.UInt32(1), FillInterval: durationpb.New(time.Hour)},
	})
}

// extProc changes the picker's filter.
func extProc(change func(*extprocv3.ExternalProcessor)) func(*testing.T, *envoyproxy.Bootstrap) {
	return func(t *testing.T, b *envoyproxy.Bootstrap) {
		require.NoError(t, b.ExtProc(change))
	}
}

// TestEnvoysOwnAnswers: what another filter answers before the picker has heard of the
// request reaches the client as it is, whatever the modes.
func TestEnvoysOwnAnswers(t *testing.T) {
	server := serve(t, answering)
	skip := extProc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.RequestHeaderMode = extprocv3.ProcessingMode_SKIP
		p.ProcessingMode.RequestBodyMode = extprocv3.ProcessingMode_NONE
	})
	answers := func(mode extprocv3.ProcessingMode_BodySendMode) func(*testing.T, *envoyproxy.Bootstrap) {
		return extProc(func(p *extprocv3.ExternalProcessor) { p.ProcessingMode.ResponseBodyMode = mode })
	}
	open := extProc(func(p *extprocv3.ExternalProcessor) { p.FailureModeAllow = true })
	for _, tt := range []variant{
		{"full duplex", overrideHost, nil},
		{"buffered", overrideHost, bodies(extprocv3.ProcessingMode_BUFFERED)},
		{"responses streamed", overrideHost, answers(extprocv3.ProcessingMode_STREAMED)},
		{"responses not sent", overrideHost, answers(extprocv3.ProcessingMode_NONE)},
		{"FailOpen", overrideHost, open},
		{"headers skipped", overrideHost, skip},
		{"headers skipped, FailOpen", overrideHost, together(skip, open)},
		{"module", inside, nil},
		{"original dst", originalDst, nil},
		{"others", others, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			change := tt.envoy
			if change == nil {
				change = func(*testing.T, *envoyproxy.Bootstrap) {}
			}
			r := newRig(t, rigOptions{bootstrap: tt.bootstrap, envoy: together(change, denying), servers: []string{server}})
			for _, words := range []int{1, 50_000} {
				resp, body, err := r.post(t.Context(), words, "x-deny", "1")
				if err != nil || resp.StatusCode != 403 || body != "RBAC: access denied" {
					t.Errorf("%d words: %v, %v, %.200s", words, resp, err, body)
				}
			}
			req, _ := http.NewRequest(http.MethodHead, r.url+"/v1/models", nil)
			req.Header.Set("X-Deny", "1")
			if resp, err := r.client.Do(req); err != nil || resp.StatusCode != 403 {
				t.Errorf("HEAD: %v, %v", resp, err)
			}
			if resp, body, err := r.post(t.Context(), 1); err != nil || resp.StatusCode != 200 || body != restored && body != answer {
				t.Errorf("what is not denied: %v, %s", err, body)
			}
			status, text, err := r.wire("GET /v1/realtime HTTP/1.1\r\nhost: llm\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
			if err != nil || status != 403 {
				t.Errorf("an upgrade that is not allowed: %d, %v, %s", status, err, text)
			}
			r.settled()
		})
		t.Run(tt.name+", limited", func(t *testing.T) {
			change := tt.envoy
			if change == nil {
				change = func(*testing.T, *envoyproxy.Bootstrap) {}
			}
			r := newRig(t, rigOptions{bootstrap: tt.bootstrap, envoy: together(change, limiting), servers: []string{server}})
			for i := range 4 {
				want := 429
				if i == 0 {
					want = 200
				}
				if resp, body, err := r.post(t.Context(), 1); err != nil || resp.StatusCode != want || want == 429 && body != "local_rate_limited" {
					t.Errorf("request %d: %v, %v, %s; want %d", i, resp, err, body, want)
				}
			}
			r.settled()
		})
	}
}

// TestSkippedHeadersWithBodies: a picker that gets bodies of requests it does not know
// cannot work; the client is not left waiting.
func TestSkippedHeadersWithBodies(t *testing.T) {
	r := newRig(t, rigOptions{servers: []string{serve(t, answering)}, envoy: extProc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.RequestHeaderMode = extprocv3.ProcessingMode_SKIP
	})})
	if resp, body, err := r.post(t.Context(), 1); err != nil || resp.StatusCode != 503 {
		t.Errorf("%v, %v, %s, want 503", resp, err, body)
	}
	r.settled()
}

// perRoute overrides the modes of the picker's filter in the route.
func perRoute(mode *extprocv3.ProcessingMode) func(*testing.T, *envoyproxy.Bootstrap) {
	return func(t *testing.T, b *envoyproxy.Bootstrap) {
		a, err := anypb.New(&extprocv3.ExtProcPerRoute{Override: &extprocv3.ExtProcPerRoute_Overrides{Overrides: &extprocv3.ExtProcOverrides{ProcessingMode: mode}}})
		require.NoError(t, err)
		err = b.Manager(func(m *hcmv3.HttpConnectionManager) {
			m.GetRouteConfig().VirtualHosts[0].TypedPerFilterConfig = map[string]*anypb.Any{"envoy.filters.http.ext_proc": a}
		})
		require.NoError(t, err)
	}
}

// TestHeadersAlone: requests without a body, or whose body the picker does not get, go to a
// server by their headers.
func TestHeadersAlone(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d %q", r.Method, r.URL.Path, len(body), r.Header.Get("Access-Control-Request-Method"))
	})
	noBodies := perRoute(&extprocv3.ProcessingMode{ResponseBodyMode: extprocv3.ProcessingMode_FULL_DUPLEX_STREAMED, ResponseTrailerMode: extprocv3.ProcessingMode_SEND})
	for _, v := range slices.Concat(variants, []variant{
		{"bodies not sent by the route", overrideHost, noBodies},
		{"bodies not sent by the route, original dst", originalDst, noBodies},
		{"others", others, nil},
		{"others, bodies not sent by the route", others, noBodies},
	}) {
		t.Run(v.name, func(t *testing.T) {
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}})
			for _, tt := range []struct{ method, framing, want string }{
				{"OPTIONS", "origin: http://x\r\naccess-control-request-method: POST\r\n", `OPTIONS /v1/chat/completions 0 "POST"`},
				{"POST", "content-length: 0\r\n", `POST /v1/chat/completions 0 ""`},
				{"POST", "transfer-encoding: chunked\r\n", `POST /v1/chat/completions 0 ""`},
				{"PUT", "content-length: 0\r\n", `PUT /v1/chat/completions 0 ""`},
				{"DELETE", "", `DELETE /v1/chat/completions 0 ""`},
			} {
				request := tt.method + " /v1/chat/completions HTTP/1.1\r\nhost: llm\r\n" + tt.framing + "\r\n"
				if strings.Contains(tt.framing, "chunked") {
					request += "0\r\n\r\n"
				}
				if status, text, err := r.wire(request); err != nil || status != 200 || text != tt.want {
					t.Errorf("%s %q: %d, %v, %s, want %s", tt.method, tt.framing, status, err, text, tt.want)
				}
			}
			if strings.Contains(v.name, "not sent") {
				resp, body, err := r.post(t.Context(), 100)
				if want := fmt.Sprintf(`POST /v1/chat/completions %d ""`, len(chatBody(100))); err != nil || resp.StatusCode != 200 || body != want {
					t.Errorf("a body that is not sent: %v, %s, want %s", err, body, want)
				}
			}
			r.settled()
		})
	}
}

// TestOthersFile: a file that has nothing of ours works with a picker that was told
// nothing, whatever the profile's fallbacks.
func TestOthersFile(t *testing.T) {
	servers := []string{serve(t, answering), serve(t, answering), serve(t, answering)}
	for _, config := range []string{"", declaredProfile("random-picker", 2)} {
		r := newRig(t, rigOptions{bootstrap: others, servers: servers, config: config})
		by := map[string]bool{}
		for i := range 60 {
			resp, body, err := r.post(t.Context(), 1+i)
			if err != nil || resp.StatusCode != 200 || body != restored {
				t.Fatalf("%v, %v, %s", resp, err, body)
			}
			by[resp.Header.Get("x-served-by")] = true
		}
		if config != "" && len(by) != 3 {
			t.Errorf("served by %v, want all", by)
		}
		r.settled()
	}
}

// TestHeadersForProxiesFromClients: those that say which servers llm-d's proxies ask are taken
// out by our files.
func TestHeadersForProxiesFromClients(t *testing.T) {
	names := []string{
		"x-prefiller-host-port", "X-Encoder-Hosts-Ports", "x-data-parallel-host-port", "x-kv-cache-source-host-port",
		"x-llm-d-prefiller-host-port", "x-llm-d-encoder-hosts-ports", "x-llm-d-kv-cache-source-host-port",
	}
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range names {
			if r.Header.Get(name) != "" {
				w.WriteHeader(http.StatusTeapot)
			}
		}
		answering(w, r)
	})
	for _, v := range variants {
		r := newRig(t, rigOptions{bootstrap: v.bootstrap, envoy: v.envoy, servers: []string{server}})
		for _, name := range names {
			if resp, body, err := r.post(t.Context(), 1, name, "10.0.0.1:1"); err != nil || resp.StatusCode != 200 {
				t.Errorf("%s, %s: %v, %v, %s", v.name, name, resp, err, body)
			}
		}
	}
}

// echoing is a server that takes up websockets, without minding their protocol, and echoes
// what it gets; at a path with /refused it takes none.
func echoing(t *testing.T) string {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "refused") || r.Header.Get("Upgrade") != "websocket" {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, "no websocket here")
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhello\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil || line == "bye\n" {
				return
			}
			io.WriteString(c, "echo "+line)
		}
	})
}

// websockets lets Envoy take upgrades.
func websockets(t *testing.T, b *envoyproxy.Bootstrap) {
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		m.UpgradeConfigs = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}}
	})
	require.NoError(t, err)
}

const upgrading = "GET /v1/realtime HTTP/1.1\r\nhost: llm\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"

// TestWebsocket: an upgrade that Envoy allows is routed, and bytes pass both ways as they
// come.
func TestWebsocket(t *testing.T) {
	if testing.Short() {
		t.Skip("it is about bytes on the wire, many of them")
	}
	server := echoing(t)
	noBodies := extProc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.RequestBodyMode, p.ProcessingMode.ResponseBodyMode = extprocv3.ProcessingMode_NONE, extprocv3.ProcessingMode_NONE
	})
	buffered := extProc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.ResponseBodyMode = extprocv3.ProcessingMode_BUFFERED
	})
	streamed := extProc(func(p *extprocv3.ExternalProcessor) {
		p.ProcessingMode.ResponseBodyMode = extprocv3.ProcessingMode_STREAMED
	})
	for _, tt := range []variant{
		{"full duplex", overrideHost, websockets},
		{"responses streamed", overrideHost, together(websockets, streamed)},
		{"no bodies", overrideHost, together(websockets, noBodies)},
		{"buffered", overrideHost, together(websockets, bodies(extprocv3.ProcessingMode_BUFFERED))},
		{"responses buffered", overrideHost, together(websockets, buffered)},
		{"original dst", originalDst, websockets},
		{"others", others, websockets},
		{"module", inside, websockets},
		{"module, original dst", inside, together(websockets, connectedTo)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{bootstrap: tt.bootstrap, envoy: tt.envoy, servers: []string{server}})
			r.websocket()
			status, text, err := r.wire(strings.Replace(upgrading, "realtime", "realtime/refused", 1))
			if err != nil || status != 404 || text != "no websocket here" {
				t.Errorf("an upgrade that the server refuses: %d, %v, %s, want 404", status, err, text)
			}
			r.settled()
		})
	}
}

// websocket opens one, talks over it, and waits for its end.
func (r *rig) websocket() {
	r.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, upgrading)
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" {
		r.t.Errorf("%s, %v", resp.Status, resp.Header)
		return
	}
	expect := func(want string) {
		r.t.Helper()
		if line, err := in.ReadString('\n'); line != want {
			r.t.Errorf("got %q, %v, want %q", line, err, want)
		}
	}
	expect("hello\n")
	for i := range 5 {
		fmt.Fprintf(c, "%d\n", i)
		expect(fmt.Sprintf("echo %d\n", i))
	}
	big := strings.Repeat("x", 300_000) + "\n"
	io.WriteString(c, big)
	expect("echo " + big)
	io.WriteString(c, "bye\n")
	if rest, err := io.ReadAll(in); len(rest) > 0 {
		r.t.Errorf("after the end came %q, %v", rest, err)
	}
}
