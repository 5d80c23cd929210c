package httptransport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

const (
	okEvents = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + streamed
	okJSON   = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 24\r\n\r\n" + `{"model":"m","choices":0`
	chunked  = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)

// event is a stream with one event, as one chunk and cleanly ended.
func event(data string) string {
	data = "data: " + data + "\n\n"
	return chunked + hex(len(data)) + "\r\n" + data + "\r\n0\r\n\r\n"
}

func hex(n int) string {
	const digits = "0123456789abcdef"
	if n < 16 {
		return digits[n : n+1]
	}
	return hex(n/16) + digits[n%16:n%16+1]
}

// TestUntilTheFirstByte: whatever a server does before the client has a byte, the next one
// answers, and if there is none, the client has an answer in the form of the API.
func TestUntilTheFirstByte(t *testing.T) {
	for name, tt := range map[string]struct {
		bytes  string
		left   types.Outcome // Err: whether there is one
		alone  int           // status that the client gets if there is no other server
		broken bool          // it gets the head of an answer that breaks off
	}{
		"closed at once":               {"", types.Outcome{Err: io.EOF}, 502, false},
		"half a status line":           {"HTTP/1.1 20", types.Outcome{Err: io.EOF}, 502, false},
		"half a head":                  {"HTTP/1.1 200 OK\r\nContent-Ty", types.Outcome{Err: io.EOF}, 502, false},
		"garbage":                      {"garbage\r\n\r\n", types.Outcome{Err: io.EOF}, 502, false},
		"head and length, then closed": {"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", types.Outcome{Status: 200, Err: io.EOF}, 502, false},
		"head and chunks, then closed": {chunked, types.Outcome{Status: 200, Err: io.EOF}, 502, false},
		"bad chunk":                    {chunked + "xyz\r\n", types.Outcome{Status: 200, Err: io.EOF}, 502, false},
		"a 404 that breaks off":        {"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\n", types.Outcome{Status: 404, Err: io.EOF}, 502, false},
		"half a first event":           {chunked + "8\r\ndata: {\"\r\n", types.Outcome{Status: 200, Err: io.EOF}, 200, true},
		"101 unasked":                  {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", types.Outcome{Status: 101, Err: io.EOF}, 502, false},
		"101 and bytes":                {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbytes", types.Outcome{Status: 101, Err: io.EOF}, 502, false},
		"status 001":                   {"HTTP/1.1 001 X\r\nContent-Length: 0\r\n\r\n", types.Outcome{Status: 1, Err: io.EOF}, 502, false},
		"status 099":                   {"HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\nhi", types.Outcome{Status: 99, Err: io.EOF}, 502, false},
		"status 000":                   {"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n", types.Outcome{Err: io.EOF}, 502, false},
		"status 600":                   {"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n", types.Outcome{Status: 600, Err: io.EOF}, 502, false},
		"status 999":                   {"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\nhi", types.Outcome{Status: 999, Err: io.EOF}, 502, false},
		"502":                          {"HTTP/1.1 502 X\r\nContent-Length: 2\r\n\r\nhi", types.Outcome{Status: 502}, 502, false},
		"503":                          {"HTTP/1.1 503 X\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\nhi", types.Outcome{Status: 503, RetryAfter: 9 * time.Second}, 503, false},
		"504":                          {"HTTP/1.1 504 X\r\nContent-Length: 2\r\n\r\nhi", types.Outcome{Status: 504}, 504, false},
		"529":                          {"HTTP/1.1 529 X\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\nhi", types.Outcome{Status: 529, RetryAfter: 9 * time.Second}, 529, false},
		"429":                          {"HTTP/1.1 429 X\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\nhi", types.Outcome{Status: 429, RetryAfter: 9 * time.Second}, 429, false},
		"first event busy":             {event(`{"error":{"message":"full","code":503}}`), types.Outcome{Status: 503, Err: io.EOF}, 200, false},
		"first event too many":         {event(`{"error":{"message":"full","type":"rate_limit_error","code":429}}`), types.Outcome{Status: 429}, 200, false},
		"JSON busy in a 200":           {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 39\r\n\r\n" + `{"error":{"message":"full","code":503}}`, types.Outcome{Status: 503, Err: io.EOF}, 200, false},
	} {
		t.Run(name, func(t *testing.T) {
			bad, good := serveRaw(t, says(tt.bytes)), serveRaw(t, says(okEvents))
			f := newRaw(t, nil, bad.Addr().String(), good.Addr().String())
			if g := f.chat(t); g.StatusCode != 200 || g.body != streamed || g.err != nil {
				t.Errorf("with another server: status %d, %v, %q", g.StatusCode, g.err, g.body)
			}
			left := next(t, f.left)
			if left.id != "0" || left.Status != tt.left.Status || (left.Err != nil) != (tt.left.Err != nil) || left.RetryAfter != tt.left.RetryAfter || left.Unsent {
				t.Errorf("left %+v, want %+v", left, tt.left)
			}
			if end := next(t, f.ended); end.id != "1" || !end.Served() {
				t.Errorf("ended %+v", end)
			}

			f = newRaw(t, nil, bad.Addr().String())
			g := f.chat(t)
			if g.StatusCode != tt.alone || (g.err != nil) != tt.broken || !tt.broken && g.body == "" {
				t.Errorf("alone: status %d, %v, %q", g.StatusCode, g.err, g.body)
			}
			if tt.alone == 502 && tt.left.Status != 502 && (!strings.Contains(g.body, `"code":"upstream_unavailable"`) || g.Header.Get("Content-Type") != "application/json") {
				t.Errorf("alone: %v %s", g.Header, g.body)
			}
			if end := next(t, f.ended); end.Unsent || end.Status != tt.left.Status && !tt.broken {
				t.Errorf("alone: ended %+v", end)
			}
			if len(f.ended)+len(f.left) != 0 {
				t.Error("more has ended")
			}
		})
	}
}

// TestFailureInPlaceOfAFirstToken: a stream that begins well and then says that the server failed
// is answered by another one.
func TestFailureInPlaceOfAFirstToken(t *testing.T) {
	bad, good := serveRaw(t, says(event(`{"error":{"message":"x","code":500}}`))), serveRaw(t, says(okEvents))
	f := newRaw(t, nil, bad.Addr().String(), good.Addr().String())
	if g := f.chat(t); g.StatusCode != 200 || good.accepted.Load() != 1 || strings.Contains(g.body, "error") {
		t.Errorf("status %d, %q", g.StatusCode, g.body)
	}
}

// TestErrorEventsOfTheRequest pass at once: no other server would answer otherwise.
func TestErrorEventsOfTheRequest(t *testing.T) {
	for _, code := range []string{"400", "404"} {
		body := event(`{"error":{"message":"x","code":` + code + `}}`)
		bad, good := serveRaw(t, says(body)), serveRaw(t, says(okEvents))
		f := newRaw(t, nil, bad.Addr().String(), good.Addr().String())
		if g := f.chat(t); g.StatusCode != 200 || !strings.Contains(g.body, code) || good.accepted.Load() != 0 {
			t.Errorf("%s: status %d, %q", code, g.StatusCode, g.body)
		}
		if end := next(t, f.ended); end.Failed() {
			t.Errorf("%s: ended %+v", code, end)
		}
	}
}

// TestAllAreBusy: the client gets the answer of the last one, with its headers, also if
// others could not be reached.
func TestAllAreBusy(t *testing.T) {
	busy := func(status, after string) string {
		return "HTTP/1.1 " + status + " Busy\r\nRetry-After: " + after + "\r\nX-Queue: full\r\nContent-Length: 4\r\n\r\nbusy"
	}
	one, two := serveRaw(t, says(busy("503", "7"))), serveRaw(t, says(busy("429", "3")))
	for name, tt := range map[string]struct {
		servers       []string
		status, after string
	}{
		"all":               {[]string{one.Addr().String(), two.Addr().String()}, "429", "3"},
		"the last is dead":  {[]string{one.Addr().String(), dead(t)}, "503", "7"},
		"the first is dead": {[]string{dead(t), one.Addr().String()}, "503", "7"},
		"two of three":      {[]string{one.Addr().String(), two.Addr().String(), dead(t)}, "429", "3"},
	} {
		f := newRaw(t, nil, tt.servers...)
		g := f.chat(t)
		if g.Status[:3] != tt.status || g.Header.Get("Retry-After") != tt.after || g.Header.Get("X-Queue") != "full" || g.body != "busy" || g.ContentLength != 4 {
			t.Errorf("%s: %s, %v, %q", name, g.Status, g.Header, g.body)
		}
	}
	endless := serveRaw(t, func(c net.Conn, _ *http.Request) bool { // its answer is not waited for
		_, _ = io.WriteString(c, "HTTP/1.1 503 X\r\nContent-Length: 5\r\n\r\nbu")
		time.Sleep(3 * time.Second)
		return false
	})
	good := serveRaw(t, says(okEvents))
	f := newRaw(t, nil, endless.Addr().String(), good.Addr().String())
	begun := time.Now()
	if g := f.chat(t); g.body != streamed || time.Since(begun) > 2*time.Second {
		t.Errorf("after %v: %d, %q", time.Since(begun), g.StatusCode, g.body)
	}
}

// TestBusyWithoutAnAnswer: of a busy server whose answer is not to be had in full the client
// gets the status, and when to come again, if no other server answers.
func TestBusyWithoutAnAnswer(t *testing.T) {
	const head = " X\r\nRetry-After: 7\r\nContent-Encoding: br\r\nContent-Length: "
	for name, tt := range map[string]struct {
		bytes         string
		status, after string
		alone         bool
	}{
		"breaks off":           {"HTTP/1.1 429" + head + "500\r\n\r\nbusy", "429", "7", false},
		"before the first one": {"HTTP/1.1 503" + head + "500\r\n\r\n", "503", "7", true},
		"long":                 {"HTTP/1.1 429" + head + "200000\r\n\r\n" + strings.Repeat("x", 200000), "429", "7", false},
		"an event":             {event(`{"error":{"message":"full","code":503}}`), "503", "", false},
	} {
		busy := serveRaw(t, says(tt.bytes))
		for _, servers := range [][]string{{busy.Addr().String(), dead(t)}, {dead(t), busy.Addr().String()}} {
			if !tt.alone && servers[1] == busy.Addr().String() {
				continue // some of its answer has gone to the client
			}
			g := newRaw(t, nil, servers...).chat(t)
			if g.err != nil || g.Status[:3] != tt.status || g.Header.Get("Retry-After") != tt.after || g.Header.Get("Content-Encoding") != "" ||
				!strings.Contains(g.body, `"error"`) || g.ContentLength != int64(len(g.body)) {
				t.Errorf("%s: %s, %v, %v, %q", name, g.Status, g.err, g.Header, g.body)
			}
		}
	}
}

// restoring makes "m" another name of the target "target-model".
func restoring(t *testing.T, f *rawFixture) {
	t.Helper()
	objs, err := types.DecodeManifests([]byte(`{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"a"},"spec":{"modelName":"m","poolRef":{"name":"pool"},"targetModels":[{"name":"target-model"}]}}`))
	if err == nil {
		err = f.store.Apply(objs...)
	}
	require.NoError(t, err)
}

// TestHeldBackIsNothing: what is held back to restore the model's name the client has not
// had, so that another server can answer, and else there is a 502.
func TestHeldBackIsNothing(t *testing.T) {
	const half = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n" + `{"model":"target-model","choices":[`
	const whole = `{"model":"target-model","choices":[]}`
	bad := serveRaw(t, says(half))
	good := serveRaw(t, says("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 37\r\n\r\n"+whole))
	restore := func(o *director.Options) { o.RestoreModel = true }
	f := newRaw(t, restore, bad.Addr().String(), good.Addr().String())
	restoring(t, f)
	want := strings.Replace(whole, "target-model", "m", 1)
	if g := f.chat(t); g.StatusCode != 200 || g.body != want || g.ContentLength != int64(len(want)) {
		t.Errorf("status %d, length %d, %q", g.StatusCode, g.ContentLength, g.body)
	}
	f = newRaw(t, restore, bad.Addr().String())
	restoring(t, f)
	if g := f.chat(t); g.StatusCode != 502 || !strings.Contains(g.body, "no server answered") {
		t.Errorf("status %d, %q", g.StatusCode, g.body)
	}
}

// TestSignsOfLifePassAtOnce: comments of a stream, and white space before a JSON value.
func TestSignsOfLifePassAtOnce(t *testing.T) {
	for name, tt := range map[string]struct{ kind, ping, rest string }{
		"comments":    {"text/event-stream", ": ping\n", streamed},
		"empty lines": {"text/event-stream", "\n", streamed},
		"white space": {"application/json", "\n  ", `{"model":"target-model"}`},
	} {
		for _, restore := range []bool{false, true} {
			step := make(chan struct{})
			s := serveRaw(t, func(c net.Conn, _ *http.Request) bool {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: "+tt.kind+"\r\nConnection: close\r\n\r\n")
				for range 3 {
					_, _ = io.WriteString(c, tt.ping)
					<-step
				}
				_, _ = io.WriteString(c, tt.rest)
				return false
			})
			f := newRaw(t, func(o *director.Options) { o.RestoreModel = restore }, s.Addr().String(), dead(t))
			restoring(t, f)
			req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(request))
			resp, err := f.RoundTrip(req)
			require.NoError(t, err)
			buf := make([]byte, len(tt.ping))
			for range 3 {
				if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != tt.ping {
					t.Fatalf("%s: read %q, %v", name, buf, err)
				}
				step <- struct{}{}
			}
			if b, err := io.ReadAll(resp.Body); err != nil || restore == strings.Contains(string(b), "target-model") && tt.kind[0] == 'a' {
				t.Errorf("%s: the rest is %q, %v", name, b, err)
			}
			resp.Body.Close()
		}
	}
}

// TestTheFirstPieceIsNotWaitedOut: an answer that is not streamed passes as it comes.
func TestTheFirstPieceIsNotWaitedOut(t *testing.T) {
	step := make(chan struct{})
	s := serveRaw(t, func(c net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(c, okJSON[:len(okJSON)-3])
		<-step
		_, _ = io.WriteString(c, okJSON[len(okJSON)-3:])
		return false
	})
	f := newRaw(t, nil, s.Addr().String(), dead(t))
	req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(request))
	resp, err := f.RoundTrip(req) // returns before the rest is there
	require.NoError(t, err)
	step <- struct{}{}
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 24 {
		t.Errorf("%q, %v", b, err)
	}
	resp.Body.Close()
}

// TestHangs: an endpoint that gives no sign of life is left when patience is over, wherever
// it hangs; one that gives some is waited for.
func TestHangs(t *testing.T) {
	hasty := strings.Replace(request, `"m"`, `"hasty"`, 1)
	steady := strings.Replace(request, `"m"`, `"steady"`, 1)
	for name, tt := range map[string]struct {
		bytes []string
		waits bool // for longer than the patience in all
	}{
		"no head":            {[]string{""}, false},
		"half a head":        {[]string{"HTTP/1.1 200 OK\r\n"}, false},
		"head alone":         {[]string{chunked}, false},
		"half a first event": {[]string{chunked + "8\r\ndata: {\"\r\n"}, false},
		"slow but alive":     {[]string{chunked + "3\r\ndat\r\n", "3\r\na: \r\n", "6\r\n[DONE]\r\n", "2\r\n\n\n\r\n0\r\n\r\n"}, true},
		"pings, then slow":   {[]string{chunked + "8\r\n: ping\n\n\r\n", "", "", "", "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, pause := hasty, 25*time.Millisecond
			if tt.waits {
				body, pause = steady, 350*time.Millisecond
			}
			over := make(chan struct{})
			defer close(over)
			slow := serveRaw(t, func(c net.Conn, _ *http.Request) bool {
				for _, b := range tt.bytes {
					_, _ = io.WriteString(c, b)
					time.Sleep(pause)
				}
				if !tt.waits {
					<-over
				}
				return false
			})
			good := serveRaw(t, says(okEvents))
			f := newRaw(t, nil, slow.Addr().String(), good.Addr().String())
			g := f.ask(t, "POST", "/v1/chat/completions", body)
			if g.StatusCode != 200 || tt.waits == (g.body == streamed) || g.err != nil {
				t.Errorf("status %d, %q, %v", g.StatusCode, g.body, g.err)
			}
			if !tt.waits {
				if left := next(t, f.left); !errors.Is(left.Err, context.DeadlineExceeded) || left.Unsent || left.Cancelled {
					t.Errorf("left %+v", left)
				}
			}
			if len(f.left) != 0 {
				t.Errorf("left %+v", <-f.left)
			}
		})
	}
	// Without a fallback it is waited for, for there is no other.
	slow := serveRaw(t, func(c net.Conn, _ *http.Request) bool {
		time.Sleep(150 * time.Millisecond)
		_, _ = io.WriteString(c, okEvents)
		return false
	})
	f := newRaw(t, nil, slow.Addr().String())
	if g := f.ask(t, "POST", "/v1/chat/completions", hasty); g.body != streamed {
		t.Errorf("%d, %q", g.StatusCode, g.body)
	}
}

// TestServedOrGone: who leaves with the whole of an answer was served.
func TestServedOrGone(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	for name, tt := range map[string]struct {
		bytes  string
		read   int
		served bool
	}{
		"after [DONE]":      {chunked + hex(len(streamed)) + "\r\n" + streamed + "\r\n", len(streamed), true},
		"before [DONE]":     {chunked + "8\r\ndata: {}\r\n", 8, false},
		"whole length":      {"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 4\r\n\r\nabcd", 4, true},
		"not all of it":     {"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 5\r\n\r\nabcd", 4, false},
		"JSON without end":  {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", 2, true},
		"nothing was asked": {"HTTP/1.1 204 No\r\n\r\n", 0, true},
	} {
		s := serveRaw(t, func(c net.Conn, _ *http.Request) bool {
			_, _ = io.WriteString(c, tt.bytes)
			<-hold
			return false
		})
		f := newRaw(t, nil, s.Addr().String())
		req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(request))
		resp, err := f.RoundTrip(req)
		require.NoError(t, err)
		if _, err := io.ReadFull(resp.Body, make([]byte, tt.read)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		resp.Body.Close()
		if end := next(t, f.ended); end.Served() != tt.served || end.Cancelled == tt.served || end.Err != nil {
			t.Errorf("%s: %+v", name, end)
		}
	}
}

// TestBodiesWithoutBytes are complete: HEAD, 204, 304, a length of 0.
func TestBodiesWithoutBytes(t *testing.T) {
	for request, answer := range map[string]string{
		"HEAD /v1/files/x": "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n",
		"GET /v1/files/x":  "HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n",
		"GET /health":      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"POST /v1/files":   "HTTP/1.1 204 No Content\r\n\r\n",
	} {
		s := serveRaw(t, says(answer))
		f := newRaw(t, func(o *director.Options) { o.RestoreModel = true }, s.Addr().String(), dead(t))
		restoring(t, f)
		method, path, _ := strings.Cut(request, " ")
		g := f.ask(t, method, path, "")
		if g.err != nil || g.body != "" || len(f.left) != 0 || method == "HEAD" && g.ContentLength != 500 {
			t.Errorf("%s: %d, %v, %q, length %d", request, g.StatusCode, g.err, g.body, g.ContentLength)
		}
		if end := next(t, f.ended); !end.Served() {
			t.Errorf("%s: %+v", request, end)
		}
	}
}

// TestStalled: the time in which a client does not read is told, that in which the server
// has nothing is not.
func TestStalled(t *testing.T) {
	read := make(chan struct{})
	s := serveRaw(t, func(c net.Conn, _ *http.Request) bool {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
		for _, part := range strings.SplitAfter(streamed, "\n\n") {
			_, _ = io.WriteString(c, part)
		}
		<-read
		time.Sleep(80 * time.Millisecond)
		_, _ = io.WriteString(c, "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n")
		return false
	})
	f := newRaw(t, nil, s.Addr().String())
	req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(request))
	resp, err := f.RoundTrip(req)
	require.NoError(t, err)
	for n := 0; n < len(streamed); { // piece by piece, the slowest first
		time.Sleep(15 * time.Millisecond)
		k, err := resp.Body.Read(make([]byte, 30))
		if n += k; err != nil {
			t.Fatal(err)
		}
	}
	close(read)
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if end := next(t, f.ended); end.Stalled < 0 || end.Stalled > end.Duration-80*time.Millisecond || end.Tokens != 2 || end.Reads == 0 {
		t.Errorf("%+v", end)
	}
}
