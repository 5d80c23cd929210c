package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/director"
)

// This file is about what reaches a model server, byte by byte: a request that Envoy has
// taken apart wrongly is one that its client can hide another in.

// http1Trailers lets Envoy take trailers of HTTP/1 requests, which it drops by default.
func http1Trailers(t *testing.T, b *envoyproxy.Bootstrap) {
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		m.HttpProtocolOptions = &corev3.Http1ProtocolOptions{EnableTrailers: true}
	})
	require.NoError(t, err)
}

// inChunks takes the length of requests away, as others' files do.
func inChunks(t *testing.T, b *envoyproxy.Bootstrap) {
	require.NoError(t, b.ExtProc(func(p *extprocv3.ExternalProcessor) { p.AllowContentLengthHeader = false }))
}

// lengthsAndRetries makes of others' file one that is as dangerous as can be.
func lengthsAndRetries(t *testing.T, b *envoyproxy.Bootstrap) {
	http1Trailers(t, b)
	b.Proto.StaticResources.Listeners[0].PerConnectionBufferLimitBytes = wrapperspb.UInt32(1 << 20) // what is larger is not retried
	require.NoError(t, b.ExtProc(func(p *extprocv3.ExternalProcessor) { p.AllowContentLengthHeader = true }))
	err := b.Manager(func(m *hcmv3.HttpConnectionManager) {
		m.GetRouteConfig().VirtualHosts[0].RetryPolicy = &routev3.RetryPolicy{RetryOn: "5xx", NumRetries: wrapperspb.UInt32(2)}
	})
	require.NoError(t, err)
}

// together changes a configuration in several ways.
func together(changes ...func(*testing.T, *envoyproxy.Bootstrap)) func(*testing.T, *envoyproxy.Bootstrap) {
	return func(t *testing.T, b *envoyproxy.Bootstrap) {
		for _, change := range changes {
			change(t, b)
		}
	}
}

// wireFiles are the configurations that requests are sent through.
var wireFiles = []struct {
	name      string
	bootstrap string
	envoy     func(*testing.T, *envoyproxy.Bootstrap)
	retries   bool
}{
	{"envoy.yaml", overrideHost, nil, true},
	{"envoy.yaml in chunks", overrideHost, inChunks, true},
	{"envoy.yaml with HTTP1 trailers", overrideHost, http1Trailers, true},
	{"envoy.yaml buffered", overrideHost, together(bodies(extprocv3.ProcessingMode_BUFFERED), http1Trailers), true},
	{"envoy-original-dst.yaml", originalDst, nil, false},
	{"envoy-original-dst.yaml with HTTP1 trailers", originalDst, http1Trailers, false},
	{"envoy-original-dst.yaml buffered", originalDst, together(bodies(extprocv3.ProcessingMode_BUFFERED), http1Trailers), false},
	{"envoy-module.yaml", inside, nil, true},
	{"envoy-module.yaml with HTTP1 trailers", inside, http1Trailers, true},
	{"envoy-module.yaml, original dst", inside, together(connectedTo, http1Trailers), false},
	{"others", others, nil, false},
	{"others with lengths and retries", others, lengthsAndRetries, true},
}

// smuggled is a body that is a request by itself.
const smuggled = "GET /admin/smuggled HTTP/1.1\r\nhost: x\r\nx-test-id: evil\r\n\r\n"

// wireRequests are what is sent, each in all of the ways to send.
var wireRequests = []struct{ name, path, body, want string }{
	{"chat", "/v1/chat/completions", chatBody(1), routedBody(1)},
	{"chat of 100 KB", "/v1/chat/completions", chatBody(20_000), routedBody(20_000)},
	{"an unread path", "/v1/files", smuggled, smuggled},
	{"an empty body", "/v1/files", "", ""},
	{"an empty chat", "/v1/chat/completions", "", ""},
}

// wireWays are the ways in which clients send requests.
var wireWays = []struct {
	name string
	send func(r *rig, id, path, body string) (status int, text string, err error)
}{
	{"HTTP/1.1 with a length", func(r *rig, id, path, body string) (int, string, error) {
		return r.wire(head(id, path, fmt.Sprintf("content-length: %d\r\n", len(body))) + body)
	}},
	{"HTTP/1.1 in chunks", func(r *rig, id, path, body string) (int, string, error) {
		return r.wire(head(id, path, "transfer-encoding: chunked\r\n") + chunked(body) + "0\r\n\r\n")
	}},
	{"HTTP/1.1 in chunks with trailers", func(r *rig, id, path, body string) (int, string, error) {
		return r.wire(head(id, path, "transfer-encoding: chunked\r\ntrailer: x-t\r\n") + chunked(body) + "0\r\nx-t: 1\r\n\r\n")
	}},
	{"HTTP/2", func(r *rig, id, path, body string) (int, string, error) {
		return r.h2(id, path, strings.NewReader(body), false)
	}},
	{"HTTP/2 without a length", func(r *rig, id, path, body string) (int, string, error) {
		return r.h2(id, path, io.MultiReader(strings.NewReader(body)), false)
	}},
	{"HTTP/2 with trailers", func(r *rig, id, path, body string) (int, string, error) {
		return r.h2(id, path, io.MultiReader(strings.NewReader(body)), true)
	}},
	{"HTTP/2 with trailers, in time", func(r *rig, id, path, body string) (int, string, error) {
		return r.h2(id, path, inTime(body), true)
	}},
	{"HTTP/2 with a length and trailers", func(r *rig, id, path, body string) (int, string, error) {
		return r.h2(id, path, strings.NewReader(body), true)
	}},
}

func head(id, path, framing string) string {
	return "POST " + path + " HTTP/1.1\r\nhost: llm\r\ncontent-type: application/json\r\nx-test-id: " + id + "\r\n" + framing + "\r\n"
}

// chunked is a body in two chunks.
func chunked(body string) string {
	if len(body) < 2 {
		return ""
	}
	a, b := body[:len(body)/2], body[len(body)/2:]
	return fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n", len(a), a, len(b), b)
}

// wire sends bytes on a connection of their own and reads one response.
func (r *rig) wire(request string) (int, string, error) {
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func (r *rig) h2(id, path string, body io.Reader, trailers bool) (int, string, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+path, body)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Test-Id", id)
	if trailers {
		req.Trailer = http.Header{"X-T": {"1"}}
		if req.Body == http.NoBody {
			req.Body = io.NopCloser(strings.NewReader(""))
		}
	}
	resp, err := h2Client(r.t).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// TestWire: whatever a client sends, and however, a server gets once, whole and framed as
// one request; and a request that one server refuses gets so to another.
func TestWire(t *testing.T) {
	if testing.Short() {
		t.Skip("it is about bytes on the wire, many of them")
	}
	for _, file := range wireFiles {
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			servers := refusingOnce(t)
			r := newRig(t, rigOptions{bootstrap: file.bootstrap, envoy: file.envoy, servers: []string{servers[0].address, servers[1].address}})
			n := 0
			for _, way := range wireWays {
				for _, q := range wireRequests {
					for _, retried := range []bool{false, true} {
						if retried && !file.retries {
							continue
						}
						n++
						id := fmt.Sprint("r", n)
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
			r.settled()
			r.stopEnvoy() // what it still had to send it has sent
			if reqs, err := got("", servers[0], servers[1]); err != nil || len(reqs) > 0 {
				t.Errorf("at the end: %v, %v", reqs, err)
			}
		})
	}
}

// refusingOnce are two servers of which the first that gets a request whose id ends with
// -retried refuses it.
func refusingOnce(t *testing.T) [2]*rawServer {
	var mu sync.Mutex
	refused := map[string]bool{}
	react := func(q *rawRequest) reaction {
		if !strings.HasSuffix(q.id(), "-retried") {
			return serves
		}
		mu.Lock()
		defer mu.Unlock()
		if refused[q.id()] {
			return serves
		}
		refused[q.id()] = true
		return refuses
	}
	return [2]*rawServer{newRawServer(t, react), newRawServer(t, react)}
}

// wireProblems says what is wrong with what servers got of a request.
func wireProblems(id, want string, retried bool, servers [2]*rawServer) (problems []string) {
	reqs, err := got(id, servers[0], servers[1])
	if err != nil {
		problems = append(problems, err.Error())
	}
	times := 1
	if retried {
		times = 2
	}
	if len(reqs) != times {
		problems = append(problems, fmt.Sprintf("servers got it %d times, want %d", len(reqs), times))
	}
	for _, g := range reqs {
		if g.body != want {
			problems = append(problems, fmt.Sprintf("a server got %d bytes, want %d: %.200q", len(g.body), len(want), g.body))
		}
	}
	return problems
}

// TestWireBrokenOff: of a request that its client breaks off, or does not frame well, no
// server gets anything, and the next one is served.
func TestWireBrokenOff(t *testing.T) {
	if testing.Short() {
		t.Skip("it is about bytes on the wire, many of them")
	}
	body := chatBody(5000)
	for _, file := range wireFiles {
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			servers := refusingOnce(t)
			r := newRig(t, rigOptions{bootstrap: file.bootstrap, envoy: file.envoy, servers: []string{servers[0].address, servers[1].address}})
			for name, bytes := range map[string]string{
				"half a body":            head("x", "/v1/files", fmt.Sprintf("content-length: %d\r\n", len(body))) + body[:len(body)/2],
				"half a chunk":           head("x", "/v1/files", "transfer-encoding: chunked\r\n") + "2000\r\n" + body[:100],
				"no last chunk":          head("x", "/v1/files", "transfer-encoding: chunked\r\n") + chunked(body),
				"no end of trailers":     head("x", "/v1/files", "transfer-encoding: chunked\r\n") + chunked(body) + "0\r\nx-t: 1\r\n",
				"a chunk that is none":   head("x", "/v1/files", "transfer-encoding: chunked\r\n") + chunked(body) + "zz\r\n" + smuggled,
				"a length and chunks":    head("x", "/v1/files", "content-length: 5\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n" + smuggled,
				"two lengths":            head("x", "/v1/files", "content-length: 5\r\ncontent-length: 50\r\n") + "hello" + smuggled,
				"a coding that is none":  head("x", "/v1/files", "transfer-encoding: xchunked\r\n") + "0\r\n\r\n" + smuggled,
				"headers without an end": "POST /v1/files HTTP/1.1\r\nhost: llm\r\nx-test-id: x\r\n",
			} {
				require.NoError(t, r.breakOff(bytes), "%s", name)
				id := "after-" + strings.ReplaceAll(name, " ", "-")
				status, text, err := wireWays[0].send(r, id, "/v1/chat/completions", chatBody(1))
				if err != nil || status != 200 {
					t.Errorf("after %s: %d, %v, %.200s", name, status, err, text)
				}
				for _, problem := range wireProblems(id, routedBody(1), false, servers) {
					t.Errorf("%s: %s", name, problem)
				}
			}
			pr, pw := io.Pipe()
			go func() {
				io.WriteString(pw, body)
				pw.CloseWithError(io.ErrUnexpectedEOF) // HTTP/2: a reset
			}()
			if status, _, err := r.h2("x", "/v1/files", pr, true); err == nil {
				t.Errorf("a request that was reset was answered with %d", status)
			}
			r.settled()
			r.stopEnvoy()
			if reqs, err := got("", servers[0], servers[1]); err != nil || len(reqs) > 0 {
				t.Errorf("at the end: %v, %v", reqs, err)
			}
		})
	}
}

// breakOff sends bytes on a connection of their own and breaks it off when Envoy has had
// the time to pass them on. What it answers does not matter.
func (r *rig) breakOff(bytes string) error {
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, bytes); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	io.Copy(io.Discard, c)
	return nil
}

// TestUpgradeIsNoWayIn: what a client sends behind an upgrade that its server does not take up
// is no request of anybody's.
func TestUpgradeIsNoWayIn(t *testing.T) {
	for _, file := range wireFiles {
		t.Run(file.name, func(t *testing.T) {
			t.Parallel()
			change := websockets
			if file.envoy != nil {
				change = together(file.envoy, websockets)
			}
			servers := refusingOnce(t)
			r := newRig(t, rigOptions{bootstrap: file.bootstrap, envoy: change, servers: []string{servers[0].address, servers[1].address}})
			for i := range 4 {
				id := fmt.Sprint("r", i)
				request := strings.Replace(upgrading, "host: llm", "host: llm\r\nx-test-id: "+id, 1)
				if i%2 == 1 {
					request = strings.Replace(request, "GET ", "POST ", 1)
				}
				require.NoError(t, r.breakOff(request+smuggled))
			}
			r.settled()
			r.stopEnvoy()
			for _, s := range servers {
				s.close()
				for _, b := range s.broken {
					t.Errorf("no request: %s", b)
				}
				for _, q := range s.requests {
					if !strings.Contains(q.line, " /v1/realtime ") || q.body != "" {
						t.Errorf("a server got %q with %q", q.line, q.body)
					}
				}
			}
		})
	}
}

// TestTrailersWithALargeBody: what is answered in one piece has to fit into Envoy's buffer.
// If it does not, the client is told so, and no server gets anything.
func TestTrailersWithALargeBody(t *testing.T) {
	for _, file := range []string{overrideHost, others, inside} {
		servers := refusingOnce(t)
		r := newRig(t, rigOptions{bootstrap: file, envoy: http1Trailers, servers: []string{servers[0].address, servers[1].address}})
		for _, words := range []int{5_000, 20_000, 200_000, 1_000_000} { // up to 5 MB; the limits are 32 KiB and 4 MiB
			for _, way := range wireWays {
				id := "r-retried"
				if strings.Contains(way.name, "trailers") {
					id = "r"
				}
				status, text, err := way.send(r, id, "/v1/chat/completions", chatBody(words))
				reqs, problem := got(id, servers[0], servers[1])
				require.NoError(t, problem, "%s, %s, %d words", file, way.name, words)
				for _, q := range reqs {
					if q.body != routedBody(words) {
						t.Errorf("%s, %s, %d words: a server got %d bytes, want %d", file, way.name, words, len(q.body), len(routedBody(words)))
					}
				}
				if status == 413 && len(reqs) == 0 && words > 5_000 && strings.Contains(way.name, "trailers") {
					continue
				}
				if id == "r" && (err != nil || status != 200 || len(reqs) != 1) {
					t.Errorf("%s, %s, %d words: %d, %v, %d times: %.200s", file, way.name, words, status, err, len(reqs), text)
				}
			}
		}
		r.settled()
		r.stopEnvoy()
		if reqs, err := got("", servers[0], servers[1]); err != nil || len(reqs) > 0 {
			t.Errorf("at the end: %v, %v", reqs, err)
		}
	}
}

// TestPickerFailsMidway: a picker that fails when it has all of a request, of which Envoy then
// has nothing any more; with FailOpen too no server gets less of it than all, or more.
func TestPickerFailsMidway(t *testing.T) {
	panics := func(o *epp.Options) {
		o.OnRoute = func(*director.Route) { panic("on purpose") }
	}
	open := extProc(func(p *extprocv3.ExternalProcessor) { p.FailureModeAllow = true })
	for _, v := range []variant{{"FailClose", overrideHost, nil}, {"FailOpen", overrideHost, open}, {"module", inside, nil}} {
		t.Run(v.name, func(t *testing.T) {
			servers := refusingOnce(t)
			change := http1Trailers
			if v.envoy != nil {
				change = together(change, v.envoy)
			}
			r := newRig(t, rigOptions{bootstrap: v.bootstrap, servers: []string{servers[0].address, servers[1].address}, envoy: change, picker: panics})
			if in, ok := r.observed.(*inner); ok {
				in.arm("OnRoute", true)
			}
			for i, way := range wireWays {
				for _, q := range wireRequests {
					id := fmt.Sprint("r", i)
					status, _, err := way.send(r, id, q.path, q.body)
					reqs, problem := got(id, servers[0], servers[1])
					if problem != nil || len(reqs) > 1 || v.name != "FailOpen" && (status < 500 || len(reqs) > 0) {
						t.Errorf("%s, %s: %d, %v; servers got %d, %v", way.name, q.name, status, err, len(reqs), problem)
					}
					for _, g := range reqs {
						if g.body != q.body {
							t.Errorf("%s, %s: a server got %d bytes of %d", way.name, q.name, len(g.body), len(q.body))
						}
					}
				}
			}
			r.settled()
			r.stopEnvoy()
			if reqs, err := got("", servers[0], servers[1]); err != nil || len(reqs) > 0 {
				t.Errorf("at the end: %v, %v", reqs, err)
			}
		})
	}
}

// inTime is a body that Envoy gets after it has passed headers on, and whose end it gets
// after it has passed the body on.
func inTime(body string) io.Reader {
	r, w := io.Pipe()
	go func() {
		time.Sleep(20 * time.Millisecond)
		io.WriteString(w, body)
		time.Sleep(20 * time.Millisecond)
		w.Close()
	}()
	return r
}

// TestTrailersPastThePicker: where Envoy sends bodies past the picker, but trailers through
// it, and retries, the body would be sent twice. Such a request is refused, whatever Envoy
// does without a picker.
func TestTrailersPastThePicker(t *testing.T) {
	for _, open := range []bool{false, true} {
		servers := refusingOnce(t)
		r := newRig(t, rigOptions{servers: []string{servers[0].address, servers[1].address}, envoy: func(t *testing.T, b *envoyproxy.Bootstrap) {
			err := b.ExtProc(func(p *extprocv3.ExternalProcessor) {
				p.ProcessingMode.RequestBodyMode, p.FailureModeAllow = extprocv3.ProcessingMode_NONE, open
			})
			require.NoError(t, err)
		}})
		for i := range 20 {
			id := fmt.Sprint("r", i)
			if status, _, err := r.h2(id, "/v1/chat/completions", inTime(chatBody(10)), true); status != 400 {
				t.Errorf("with trailers: %d, %v, want 400", status, err)
			}
			id += "-plain"
			if status, text, err := r.h2(id, "/v1/chat/completions", strings.NewReader(chatBody(10)), false); status != 200 {
				t.Errorf("without: %d, %v, %s", status, err, text)
			}
		}
		r.settled()
		r.stopEnvoy()
		for _, s := range servers {
			for _, b := range s.broken {
				t.Errorf("no request: %s", b)
			}
			for _, q := range s.requests {
				if q.body != chatBody(10) {
					t.Errorf("%s has %d bytes, want %d", q.id(), len(q.body), len(chatBody(10)))
				}
			}
		}
	}
}
