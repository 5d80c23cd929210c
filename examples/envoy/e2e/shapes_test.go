package e2e_test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gzipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/compression/gzip/compressor/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	compressorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/compressor/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// This file is about requests and responses of all shapes, and the filters beside the picker's: with the module, which
// sees what Envoy has as it has it.

// behind puts a filter between the picker's and the router.
func behind(name string, config proto.Message) func(*testing.T, *envoyproxy.Bootstrap) {
	return func(t *testing.T, b *envoyproxy.Bootstrap) {
		a, err := anypb.New(config)
		require.NoError(t, err)
		err = b.Manager(func(m *hcmv3.HttpConnectionManager) {
			last := len(m.HttpFilters) - 1
			m.HttpFilters = append(m.HttpFilters[:last:last], &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: a}}, m.HttpFilters[last])
		})
		require.NoError(t, err)
	}
}

// before puts a filter before all others.
func before(name string, config proto.Message) func(*testing.T, *envoyproxy.Bootstrap) {
	return func(t *testing.T, b *envoyproxy.Bootstrap) { filterFirst(t, b, name, config) }
}

// TestFiltersBeside: whether others hold a request's body, or press that of a response, before or after the picker: a
// server gets all of it once, and a client what it is to get.
func TestFiltersBeside(t *testing.T) {
	gz, err := anypb.New(&gzipv3.Gzip{})
	require.NoError(t, err)
	compress := &compressorv3.Compressor{CompressorLibrary: &corev3.TypedExtensionConfig{Name: "gzip", TypedConfig: gz}}
	hold := &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(1 << 20)}
	for _, tt := range []variant{
		{"buffer before", "", before("envoy.filters.http.buffer", hold)},
		{"buffer behind", "", behind("envoy.filters.http.buffer", hold)},
		{"compressor before", "", before("envoy.filters.http.compressor", compress)},
		{"compressor behind", "", behind("envoy.filters.http.compressor", compress)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			servers := refusingOnce(t)
			r, _ := newInner(t, rigOptions{servers: []string{servers[0].address, servers[1].address}, envoy: together(http1Trailers, tt.envoy)})
			for i, way := range wireWays {
				for j, q := range wireRequests {
					for _, retried := range []bool{false, true} {
						id := fmt.Sprint("r", i, "-", j)
						if retried {
							id += "-retried"
						}
						status, text, err := way.send(r, id, q.path, q.body)
						for _, problem := range wireProblems(id, q.want, retried, servers) {
							t.Errorf("%s, %s, retried: %v: %s", way.name, q.name, retried, problem)
						}
						if err != nil || status != 200 {
							t.Errorf("%s, %s, retried: %v: %d, %v, %.200s", way.name, q.name, retried, status, err, text)
						}
					}
				}
			}
			resp, body, err := r.post(t.Context(), 1, "Accept-Encoding", "gzip")
			require.NoError(t, err)
			encoding := resp.Header.Get("Content-Encoding")
			if encoding == "gzip" {
				z, err := gzip.NewReader(strings.NewReader(body))
				require.NoError(t, err)
				text, err := io.ReadAll(z)
				require.NoError(t, err)
				body = string(text)
			}
			require.Equal(t, restored, body)
			require.Equal(t, tt.name == "compressor before", encoding == "gzip", "encoding %q", encoding)
			r.settled()
		})
	}
}

// TestShapes of requests and responses, for servers of HTTP/1 and HTTP/2.
func TestShapes(t *testing.T) {
	for _, tt := range []variant{{"HTTP/1 servers", "", upstream1Trailers}, {"HTTP/2 servers", "", upstream2}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, _ := newInner(t, rigOptions{
				servers: []string{serve2(t, shaped)}, envoy: together(http1Trailers, tt.envoy), flags: map[string]any{"max-body": 1 << 20},
			})
			t.Run("continue", r.expectsContinue)
			t.Run("byte by byte", r.byteByByte)
			t.Run("too large", r.tooLarge)
			t.Run("statuses", r.statuses)
			t.Run("trailers", r.responseTrailers)
			r.settled()
		})
	}
}

// shaped answers as the path says.
func shaped(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("X-Got", fmt.Sprint(len(body)))
	switch r.Header.Get("X-Shape") {
	case "204":
		w.WriteHeader(http.StatusNoContent)
	case "304":
		w.WriteHeader(http.StatusNotModified)
	case "trailers":
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Trailer", "X-Sum, Grpc-Status")
		io.WriteString(w, answer[:100])
		w.(http.Flusher).Flush()
		io.WriteString(w, answer[100:])
		w.Header().Set("X-Sum", "1")
		w.Header().Set("Grpc-Status", "0")
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		if r.Method != http.MethodHead {
			io.WriteString(w, answer)
		}
	}
}

// expectsContinue: who waits for 100 Continue gets it, and sends then.
func (r *rig) expectsContinue(t *testing.T) {
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	body := chatBody(1000)
	io.WriteString(c, head("x", "/v1/chat/completions", fmt.Sprintf("expect: 100-continue\r\ncontent-length: %d\r\n", len(body))))
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	require.Equal(t, 100, resp.StatusCode)
	io.WriteString(c, body)
	resp, text, err := read(http.ReadResponse(in, nil))
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, text)
	require.Equal(t, restored, text)
	require.Equal(t, fmt.Sprint(len(routedBody(1000))), resp.Header.Get("X-Got"))
}

// byteByByte: each byte in a chunk of its own.
func (r *rig) byteByByte(t *testing.T) {
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, head("x", "/v1/chat/completions", "transfer-encoding: chunked\r\n"))
	for _, b := range []byte(chatBody(50)) {
		if _, err := fmt.Fprintf(c, "1\r\n%c\r\n", b); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(c, "0\r\nx-t: 1\r\n\r\n")
	resp, text, err := read(http.ReadResponse(bufio.NewReader(c), nil))
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, text)
	require.Equal(t, restored, text)
	require.Equal(t, fmt.Sprint(len(routedBody(50))), resp.Header.Get("X-Got"))
}

// tooLarge: beyond max-body the answer is 413, with a length before the body has come.
func (r *rig) tooLarge(t *testing.T) {
	body := chatBody(250_000)
	for _, way := range wireWays {
		if strings.Contains(way.name, "in time") {
			continue
		}
		status, text, err := way.send(r, "x", "/v1/chat/completions", body)
		// Envoy may close before it has read all, and the client hear of that first.
		if err == nil && (status != 413 || !strings.Contains(text, "request_too_large")) {
			t.Errorf("%s: %d %.200s, want 413", way.name, status, text)
		}
	}
	status, text, err := r.wire(head("x", "/v1/chat/completions", fmt.Sprintf("content-length: %d\r\n", len(body))))
	require.NoError(t, err)
	require.Equal(t, 413, status, text)
}

// statuses without a body, and HEAD.
func (r *rig) statuses(t *testing.T) {
	for _, tt := range []struct {
		method, path, shape string
		want                int
	}{
		{"HEAD", "/v1/chat/completions", "", 200}, {"POST", "/v1/chat/completions", "204", 204}, {"POST", "/v1/chat/completions", "304", 304},
		{"HEAD", "/v1/models", "", 200}, {"GET", "/v1/responses/x", "204", 204}, {"HEAD", "/v1/files", "304", 304},
	} {
		for _, client := range []*http.Client{r.client, h2Client(t)} {
			body := chatBody(1)
			if tt.method != "POST" {
				body = ""
			}
			req, err := http.NewRequestWithContext(t.Context(), tt.method, r.url+tt.path, strings.NewReader(body))
			require.NoError(t, err)
			req.Header.Set("X-Shape", tt.shape)
			resp, text, err := read(client.Do(req))
			if err != nil || resp.StatusCode != tt.want || text != "" {
				t.Errorf("%s %s %s: %v, %v, %q, want %d", tt.method, tt.path, tt.shape, err, resp, text, tt.want)
			}
		}
	}
}

// responseTrailers pass, behind a body in which the model's name is put back.
func (r *rig) responseTrailers(t *testing.T) {
	for _, client := range []*http.Client{r.client, h2Client(t)} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(chatBody(1)))
		require.NoError(t, err)
		req.Header.Set("X-Shape", "trailers")
		req.Header.Set("Te", "trailers")
		resp, text, err := read(client.Do(req))
		require.NoError(t, err)
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, restored, text)
		require.Equal(t, "1", resp.Trailer.Get("X-Sum"))
		require.Equal(t, "0", resp.Trailer.Get("Grpc-Status"))
	}
}

// TestConnect: a tunnel is routed by its headers, and bytes pass both ways.
func TestConnect(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil || line == "bye\n" {
				return
			}
			io.WriteString(c, "echo "+line)
		}
	})
	r, _ := newInner(t, rigOptions{servers: []string{server}, flags: map[string]any{"allow-path": []any{"/"}}, envoy: func(t *testing.T, b *envoyproxy.Bootstrap) {
		err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
			m.UpgradeConfigs = []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "CONNECT"}}
			host := m.GetRouteConfig().VirtualHosts[0]
			connect := proto.CloneOf(host.Routes[0])
			connect.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}}
			host.Routes = append([]*routev3.Route{connect}, host.Routes...)
		})
		require.NoError(t, err)
	}})
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	require.NoError(t, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(c, "CONNECT llm:80 HTTP/1.1\r\nhost: llm:80\r\n\r\n")
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	require.NoError(t, err)
	text := ""
	if resp.StatusCode != 200 {
		data, _ := io.ReadAll(resp.Body)
		text = string(data)
	}
	require.Equal(t, 200, resp.StatusCode, "%v %s", resp.Header, text)
	for i := range 3 {
		fmt.Fprintf(c, "%d\n", i)
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("echo %d\n", i), line)
	}
	io.WriteString(c, "bye\n")
	io.Copy(io.Discard, in)
	r.settled()
}

// TestRedirectsInside: a redirect that Envoy follows by itself is another request for the picker, as it went to the
// server: the model has the name that servers know, and nothing is put back.
func TestRedirectsInside(t *testing.T) {
	var redirected atomic.Int64
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/completions" {
			io.Copy(io.Discard, r.Body)
			redirected.Add(1)
			w.Header().Set("Location", "http://"+r.Host+"/v1/chat/completions")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		answering(w, r)
	})
	r, _ := newInner(t, rigOptions{servers: []string{server}, envoy: func(t *testing.T, b *envoyproxy.Bootstrap) {
		err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
			m.GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute().InternalRedirectPolicy = &routev3.InternalRedirectPolicy{
				MaxInternalRedirects: wrapperspb.UInt32(1), RedirectResponseCodes: []uint32{307},
			}
		})
		require.NoError(t, err)
	}})
	for _, way := range wireWays[:6] {
		status, text, err := way.send(r, "x", "/v1/completions", chatBody(3))
		if err != nil || status != 200 && status != 307 || status == 200 && text != answer {
			t.Errorf("%s: %d, %v, %s", way.name, status, err, text)
		}
		if status == 307 && !strings.Contains(way.name, "trailers") {
			t.Errorf("%s: it was not followed", way.name)
		}
	}
	require.EqualValues(t, 6, redirected.Load())
	r.settled()
}

// TestMirrors: a mirror gets each request once, and a server too, whole, also with trailers and when it is tried again.
func TestMirrors(t *testing.T) {
	servers := refusingOnce(t)
	mirror := newRawServer(t, func(*rawRequest) reaction { return serves })
	r, _ := newInner(t, rigOptions{servers: []string{servers[0].address, servers[1].address}, envoy: together(http1Trailers, func(t *testing.T, b *envoyproxy.Bootstrap) {
		cluster := proto.CloneOf(b.Cluster("model_servers"))
		cluster.Name, cluster.LoadBalancingPolicy = "mirror", nil
		clusters := &b.Proto.StaticResources.Clusters
		*clusters = append(*clusters, cluster)
		other, err := envoyproxy.ReadBootstrap(inside)
		require.NoError(t, err)
		require.NoError(t, other.Servers(mirror.address))
		cluster.LoadAssignment = other.Cluster("model_servers").LoadAssignment
		cluster.LoadAssignment.ClusterName = "mirror"
		err = b.Manager(func(m *hcmv3.HttpConnectionManager) {
			m.GetRouteConfig().VirtualHosts[0].Routes[0].GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "mirror"}}
		})
		require.NoError(t, err)
	})})
	sent := map[string]string{}
	for i, way := range wireWays {
		for j, q := range wireRequests {
			for _, retried := range []bool{false, true} {
				id := fmt.Sprint("r", i, "-", j)
				if retried {
					id += "-retried"
				}
				sent[id] = q.want
				status, text, err := way.send(r, id, q.path, q.body)
				if err != nil || status != 200 {
					t.Errorf("%s, %s, retried: %v: %d, %v, %.200s", way.name, q.name, retried, status, err, text)
				}
				for _, problem := range wireProblems(id, q.want, retried, servers) {
					t.Errorf("%s, %s, retried: %v: %s", way.name, q.name, retried, problem)
				}
			}
		}
	}
	r.settled()
	r.stopEnvoy()
	mirror.close()
	for _, b := range mirror.broken {
		t.Errorf("the mirror got no request: %s", b)
	}
	for _, q := range mirror.requests {
		if want, ok := sent[q.id()]; !ok || q.body != want {
			t.Errorf("the mirror got %s of %d bytes, once more or wrong: want %d", q.id(), len(q.body), len(want))
		}
		delete(sent, q.id())
	}
	if len(sent) > 0 {
		t.Errorf("the mirror did not get %d requests", len(sent))
	}
}
