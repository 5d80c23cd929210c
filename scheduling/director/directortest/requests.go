package directortest

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// odd is a request that no ordinary client sends.
type odd struct {
	name    string
	method  string // default POST
	head    string // all before the body, with lines ending in LF; %d is the length of the body
	body    string // default: that of a chat completion; a blank: none
	want    int    // status, 0: any; a 200 is checked byte by byte
	answers int    // number of responses, default 1
}

const chat = "POST /v1/chat/completions HTTP/1.1\nHost: kit\nContent-Type: application/json\n"

func odds() []odd {
	sized := "Content-Length: %d\n"
	plain := string(Ask{User: "odd"}.Body())
	chunked := func(trailer string, n int) string {
		var b strings.Builder
		for rest := plain; rest != ""; {
			piece := rest[:min(n, len(rest))]
			rest = rest[len(piece):]
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(piece), piece)
		}
		return b.String() + "0\r\n" + trailer + "\r\n"
	}
	return []odd{
		{name: "options", method: "OPTIONS", head: "OPTIONS /v1/chat/completions HTTP/1.1\nHost: kit\nOrigin: https://x\nAccess-Control-Request-Method: POST\n", body: " ", want: 204},
		{name: "head", method: "HEAD", head: "HEAD /health HTTP/1.1\nHost: kit\n", body: " ", want: 200},
		{name: "get_with_a_body", method: "GET", head: "GET /v1/chat/completions HTTP/1.1\nHost: kit\n" + sized},
		{name: "absolute_target", head: strings.Replace(chat, "POST /", "POST https://x/", 1) + sized, want: 200},
		{name: "absolute_target_of_http", head: strings.Replace(chat, "POST /", "POST http://10.255.255.1:9/", 1) + sized, want: 200},
		{name: "absolute_target_of_another_scheme", head: strings.Replace(chat, "POST /", "POST ftp://x/", 1) + sized},
		{name: "asterisk", method: "OPTIONS", head: "OPTIONS * HTTP/1.1\nHost: kit\n", body: " "},
		{name: "target_without_a_slash", head: strings.Replace(chat, "POST /", "POST ", 1) + sized},
		{name: "upgrade_to_h2c", head: chat + "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\n" + sized, want: 200},
		{name: "upgrade_to_a_websocket", method: "GET", head: "GET /v1/realtime HTTP/1.1\nHost: kit\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n", body: " "},
		{name: "expect_100", head: chat + "Expect: 100-continue\n" + sized, want: 200},
		{name: "expect_something_else", head: chat + "Expect: kit\n" + sized},
		{name: "chunked", head: chat + "Transfer-Encoding: chunked\n", body: chunked("", 50), want: 200},
		{name: "chunked_byte_by_byte", head: chat + "Transfer-Encoding: chunked\n", body: chunked("", 1), want: 200},
		{name: "chunked_with_trailers", head: chat + "Transfer-Encoding: chunked\nTrailer: X-Kit-End\n", body: chunked("X-Kit-End: 1\r\n", 50), want: 200},
		{name: "chunked_with_forbidden_trailers", head: chat + "Transfer-Encoding: chunked\nTrailer: X-Gateway-Destination-Endpoint\n", body: chunked("X-Gateway-Destination-Endpoint: 10.255.255.1:9\r\n", 50)},
		{name: "length_and_chunked", head: chat + "Content-Length: 3\nTransfer-Encoding: chunked\n", body: chunked("", 50)},
		{name: "chunk_of_no_size", head: chat + "Transfer-Encoding: chunked\n", body: "x\r\nkit\r\n0\r\n\r\n"},
		{name: "http_1_0", head: strings.Replace(chat, "HTTP/1.1", "HTTP/1.0", 1) + sized, want: 200},
		{name: "hop_by_hop_headers", head: chat + "Connection: X-Kit-Hop, keep-alive\nX-Kit-Hop: 1\nKeep-Alive: 5\nProxy-Connection: keep-alive\nTE: trailers\n" + sized, want: 200},
		{name: "connection_close", head: chat + "Connection: close\n" + sized, want: 200},
		{name: "two_in_a_row", head: chat + sized, answers: 2, want: 200},
		{name: "without_a_type", head: strings.Replace(chat, "Content-Type: application/json\n", "", 1) + sized, want: 200},
		{name: "another_type", head: strings.Replace(chat, "application/json", "text/plain", 1) + sized},
		{name: "multipart", head: strings.Replace(chat, "application/json", "multipart/form-data; boundary=x", 1) + sized},
		{name: "encoded_body", head: chat + "Content-Encoding: br\n" + sized},
		{name: "empty_body", head: chat + "Content-Length: 0\n", body: " "},
		{name: "body_that_is_no_json", head: chat + sized, body: "\x00\xff{{{{"},
		{name: "body_of_null", head: chat + sized, body: "null"},
		{name: "deep_body", head: chat + sized, body: strings.Repeat(`{"messages":[`, 20000)},
		{name: "unknown_method", method: "KIT", head: strings.Replace(chat, "POST", "KIT", 1) + sized},
		{name: "trace", method: "TRACE", head: "TRACE /v1/chat/completions HTTP/1.1\nHost: kit\n", body: " "},
		{name: "connect", method: "CONNECT", head: "CONNECT 10.255.255.1:9 HTTP/1.1\nHost: 10.255.255.1:9\n", body: " "},
		{name: "delete", method: "DELETE", head: "DELETE /v1/files/x HTTP/1.1\nHost: kit\n", body: " "},
		{name: "long_path", head: strings.Replace(chat, "/v1/", "/"+strings.Repeat("x", 8000)+"/v1/", 1) + sized},
		{name: "path_with_escapes", head: strings.Replace(chat, "/v1/", "/%00%0d%0aX:1/v1/", 1) + sized},
		{name: "many_headers", head: chat + strings.Repeat("X-Kit-Many: "+strings.Repeat("x", 50)+"\n", 1000) + sized},
		{name: "another_host", head: strings.Replace(chat, "Host: kit", "Host: 10.255.255.1:9", 1) + sized, want: 200},
		{name: "targets_without_sense", head: chat + "X-Slo-Ttft-Ms: 9223372036854.7754\nX-Slo-Tpot-Ms: 0x1p43\n" + sized},
		{name: "targets_with_marks", head: chat + "X-Slo-Ttft-Ms: 1_000\nX-Request-Id: " + strings.Repeat("i", 4000) + "\n" + sized},
	}
}

// requests: whatever clients send is answered and puts out no server.
func (r *runner) requests(t *testing.T) {
	for _, o := range odds() {
		r.sub(t, o.name, func(t *testing.T) {
			f := r.fleet(t, standard, same(3, standard.Behaviour)...)
			for range 4 {
				f.sendOdd(o)
			}
			f.even("after such requests", 0, mixed, f.healthyOnly)
		})
	}
	r.sub(t, "bodies_pass_untouched", func(t *testing.T) {
		f := r.fleet(t, standard, same(3, standard.Behaviour)...)
		for _, s := range f.servers {
			s.Keep(64)
		}
		bodies := []string{
			`{"model":"tiny","messages":[{"role":"user","content":"hi"}],"seed":12345678901234567890123,"x":1.0e-400}`,
			"\n { \"messages\" : [ ] ,\r\n\t\"model\" : \"tiny\" } \n",
			`{"model":"tiny","messages":[{"role":"user","content":"\u00e9\ud83d\ude00\/ \u2028 é"}],"a":1,"a":2}`,
			`{"z":{},"model":"tiny","messages":[],"y":[[[]]],"tools":null}`,
			`{"model":"tiny","messages":[{"role":"user","content":"` + strings.Repeat("long ", 40000) + `"}]}`,
		}
		for _, body := range bodies {
			res := Raw(f.client.Addr(), "POST", []byte(crlf(fmt.Sprintf(chat+"Content-Length: %d\n\n", len(body)))+body), r.o.Patience)
			if res.Status == 0 {
				f.wrong(noStatus, "%.80q: %v", body, res)
			}
		}
		for _, body := range bodies {
			n := 0
			for _, s := range f.servers {
				for _, seen := range s.Seen() {
					if bytes.Equal(seen.Body, []byte(body)) {
						n++
					}
				}
			}
			if n != 1 {
				f.wrong(untrue, "%.80q came %d times as it was, want once", body, n)
			}
		}
	})
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// sendOdd sends o over a new connection and checks the answers.
func (f *fleet) sendOdd(o odd) {
	ask := Ask{User: "odd"}
	body := cmp.Or(o.body, string(ask.Body()))
	if body == " " {
		body = ""
	}
	head := o.head
	if strings.Contains(head, "Content-Length: %d") {
		head = strings.Replace(head, "%d", fmt.Sprint(len(body)), 1)
	}
	one := crlf(head+"\n") + body
	answers := max(o.answers, 1)
	c, err := dial(f.client.Addr(), []byte(strings.Repeat(one, answers)), f.r.o.Patience)
	if err != nil {
		f.wrong(noStatus, "%v", err)
		return
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for range answers {
		res := readAnswer(in, cmp.Or(o.method, "POST"))
		switch {
		case res.Status == 0:
			f.wrong(noStatus, "%v", res)
			return
		case o.want != 0 && res.Status != o.want:
			f.wrong(notGood, "%v, want status %d", res, o.want)
		case o.want == 200 && o.method == "" && !bytes.Equal(res.Body, f.engine.Answer(ask.path(), ask.Body()).Body()):
			f.wrong(notGood, "%v, want the server's answer", res)
		case res.Status >= 500 && res.Status != 501 && res.Status != 505:
			f.wrong(lost, "%v, the servers would have answered", res)
		}
	}
}

// trust: clients can neither reach administrative paths nor control the gateway.
func (r *runner) trust(t *testing.T) {
	r.sub(t, "paths", func(t *testing.T) {
		for _, path := range r.o.Admin {
			r.sub(t, underscored(strings.TrimPrefix(path, "/")), func(t *testing.T) { r.forbidden(t, path) })
		}
	})
	r.sub(t, "headers", func(t *testing.T) {
		for _, h := range []struct{ name, value string }{
			{"X-Gateway-Destination-Endpoint", ""},
			{"x-gateway-destination-endpoint", ""},
			{"X-Gateway-Destination-Endpoint-Subset", ""},
			{"X-Gateway-Destination-Endpoint-Served", ""},
			{"X-Gateway-Destination-Endpoint-Fallback", ""},
			{"X-Gateway-Inference-Objective", "vip"},
			{"X-Gateway-Inference-Fairness-Id", "somebody"},
			{"X-Gateway-Model-Name-Rewrite", "private"},
			{"X-Gateway-Kit", ""},
			{"X-Envoy-Original-Dst-Host", ""},
			{"X-Forwarded-Host", ""},
			{"X-Http-Method-Override", "DELETE"},
			{"X-Original-Url", "/metrics"},
		} {
			r.sub(t, h.name, func(t *testing.T) { r.forged(t, h.name, h.value) })
		}
	})
}

// disguises returns targets that a server, or a gateway before it, may understand as path.
func disguises(path string) []string {
	last := path[len(path)-1:]
	escaped := path[:len(path)-1] + fmt.Sprintf("%%%02x", last)
	first := fmt.Sprintf("/%%%02X", path[1:2]) + path[2:]
	return []string{
		path, path + "/", "/" + path, "//" + path + "//", "/." + path, "/v1/.." + path, "/v1/chat/completions/../../.." + path,
		"/%2e%2e" + path, "/v1/%2E%2E" + path, "/%2f" + path[1:], strings.ToUpper(path), escaped, first, path + ";x=1", path + "/.", path + "/x/..",
		"http://kit" + path, "https://kit/" + path, path + "%20", path + "%00", path + "?", strings.ReplaceAll(path, "/", "/./"), strings.ReplaceAll(path, "/", "//"),
		`/\` + path[1:],
	}
}

func (r *runner) forbidden(t *testing.T, path string) {
	quick := Engine{Metrics: VLLM}
	f := r.fleet(t, quick, same(2, quick.Behaviour)...)
	for _, s := range f.servers {
		s.Keep(4096)
	}
	methods := []string{"GET", "POST", "HEAD"}
	for i, target := range disguises(path) {
		for _, method := range methods[:1+i%3] {
			with := target
			if !strings.Contains(with, "?") {
				with += "?"
			}
			head := method + " " + with + Probe + " HTTP/1.1\nHost: kit\nX-Kit: probe\n"
			body := ""
			if method == "POST" {
				body = string(Ask{User: "probe"}.Body())
				head += fmt.Sprintf("Content-Type: application/json\nContent-Length: %d\n", len(body))
			}
			if res := Raw(f.client.Addr(), method, []byte(crlf(head+"\n")+body), r.o.Patience); res.Status == 0 {
				f.wrong(noStatus, "%s %s: %v", method, target, res)
			}
		}
	}
	for _, s := range f.servers {
		for _, seen := range s.Seen() {
			if probe(&seen) {
				f.wrong(reached, "%s %s", seen.Method, seen.Target)
			}
		}
	}
}

func (r *runner) forged(t *testing.T, name, value string) {
	f := r.fleet(t, standard, same(3, standard.Behaviour)...)
	for _, s := range f.servers {
		s.Keep(256)
	}
	value = cmp.Or(value, f.servers[0].Addr())
	ask := func(i int) Ask { a := mixed(i); a.Header = []string{name + ": " + value}; return a }
	f.even("requests that name the first of them", 0, ask, f.healthyOnly)
	canonical := http.CanonicalHeaderKey(name)
	for _, s := range f.servers {
		for _, seen := range s.Seen() {
			if seen.Method != http.MethodPost {
				continue
			}
			if m := field(seen.Body, "model"); m != DefaultModel || seen.Path() != "/v1/chat/completions" {
				f.wrong(untrue, "%s %s, model %q", seen.Method, seen.Target, m)
			}
			if strings.HasPrefix(canonical, "X-Gateway-Destination") && seen.Header[canonical] != nil {
				f.wrong(reached, "%s: %s", name, seen.Header.Get(name))
			}
		}
	}
}
