package e2e_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/e2e/testmodule/control"
)

var soak = flag.Duration("soak", 3*time.Second, "how long TestSoak loads Envoy and the picker")

// TestSoak is full load while endpoints come, go and fail, the configuration is
// changed, for the worse too, and clients give up; with requests that Envoy answers by
// itself, trailers, upgrades, empty bodies and OPTIONS among it: every answer is right or
// says why not, memory and goroutines stay flat, and nothing is booked at the end.
//
//	go test ./e2e -run TestSoak -soak 10m -timeout 15m -v
func TestSoak(t *testing.T) {
	for _, v := range adapters {
		t.Run(v.name, func(t *testing.T) {
			if *soak < time.Minute {
				t.Parallel()
			}
			soakOne(t, v)
		})
	}
}

func soakOne(t *testing.T, v variant) {
	const clients = 24
	var servers []string
	for range 6 {
		servers = append(servers, serve(t, soakServer))
	}
	r := newRig(t, rigOptions{bootstrap: v.bootstrap, servers: servers, envoy: together(denying, websockets), flags: map[string]any{"max-body": 1 << 20}})
	load := &soakLoad{rig: r, h2: h2Client(t)}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(c), 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				load.once(rnd)
			}
		})
	}
	wg.Go(func() { changeConfiguration(r, servers, done) })

	start := time.Now()
	warm := min(*soak/3, time.Minute)
	var first, last sample
	for tick := time.NewTicker(max(*soak/40, 100*time.Millisecond)); time.Since(start) < *soak; <-tick.C {
		s := r.sample()
		if time.Since(start) < warm {
			first = s
		}
		last = s
		if *soak > time.Minute {
			t.Logf("%4.0fs: %v, %d open, answered %d", time.Since(start).Seconds(), s, s.state.Open, load.counts[200].Load())
		}
	}
	close(done)
	wg.Wait()
	r.configure(servers...) // whatever was last
	r.settled()

	t.Logf("%v: by status%s; of them %d with trailers, %d of Envoy's own, %d empty, %d OPTIONS, %d upgrades; %d clients gave up; first %v, last %v",
		*soak, load.list(), load.trailers.Load(), load.denied.Load(), load.empty.Load(), load.options.Load(), load.upgrades.Load(), load.gone.Load(), first, last)
	if n := load.wrong.Load(); n > 0 {
		t.Errorf("%d answers were wrong", n)
	}
	if load.counts[200].Load() == 0 || load.counts[101].Load() == 0 || load.counts[403].Load() == 0 {
		t.Error("nothing was served")
	}
	if *soak >= 3*time.Minute {
		first.grown(t, last)
	}
}

// soakLoad sends requests and counts what comes.
type soakLoad struct {
	*rig
	h2 *http.Client

	counts                                     [600]atomic.Int64 // by status
	wrong, gone                                atomic.Int64
	trailers, denied, empty, options, upgrades atomic.Int64 // that were answered as they should
}

// list is what was answered, by status.
func (l *soakLoad) list() string {
	var list strings.Builder
	for status := range l.counts {
		if n := l.counts[status].Load(); n > 0 {
			fmt.Fprintf(&list, " %d: %d", status, n)
		}
	}
	return list.String()
}

// once sends one request of a random kind and checks what comes.
func (l *soakLoad) once(rnd *rand.Rand) {
	switch kind := rnd.IntN(26); {
	case kind < 20:
		l.chat(kind, rnd)
	case kind == 20:
		l.withTrailers(rnd)
	case kind == 21:
		l.simple(&l.denied, http.StatusForbidden, "RBAC: access denied", http.MethodPost, chatBody(1+rnd.IntN(2000)), "X-Deny", "1")
	case kind == 22:
		l.simple(&l.empty, http.StatusOK, answer, http.MethodPost, "")
	case kind == 23:
		l.simple(&l.options, http.StatusOK, answer, http.MethodOptions, "", "Origin", "http://x")
	case kind == 24:
		l.upgrade()
	default:
		l.givesUp()
	}
}

// check counts a status, and what is wrong: what is not right, nor that of a request for a
// server which none could serve.
func (l *soakLoad) check(what string, status int, ok *atomic.Int64, right, server bool, text string) {
	l.counts[status].Add(1)
	switch {
	case right:
		ok.Add(1)
	case server && (status == 502 || status == 503): // all that were tried failed, or the pool is empty
	case l.wrong.Add(1) < 10:
		l.t.Logf("%s: %d %.300s", what, status, text)
	}
}

// failed is for a request without an answer: a server that broke the connection after its
// headers, of which Envoy can but do the same.
func (l *soakLoad) failed(what string, err error) {
	if !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "stream error") {
		l.wrong.Add(1)
		l.t.Logf("%s: %v", what, err)
	}
}

func (l *soakLoad) withTrailers(rnd *rand.Rand) {
	words := []int{1, 100, 2000, 44_000}[rnd.IntN(4)]
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.url+"/v1/chat/completions", io.MultiReader(strings.NewReader(chatBody(words))))
	if err != nil {
		l.t.Error(err)
		return
	}
	req.Trailer = http.Header{"X-T": {"1"}}
	resp, text, err := read(l.h2.Do(req))
	if err != nil {
		l.failed("with trailers", err)
		return
	}
	right := resp.StatusCode == 200 && text == restored && resp.Header.Get("X-Got") == fmt.Sprint(len(routedBody(words)))
	l.check("with trailers", resp.StatusCode, &l.trailers, right, true, text)
}

// simple sends a request for one known answer.
func (l *soakLoad) simple(ok *atomic.Int64, status int, want, method, body string, header ...string) {
	req, err := http.NewRequestWithContext(l.t.Context(), method, l.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		l.t.Error(err)
		return
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, text, err := read(l.client.Do(req))
	if err != nil {
		l.failed(method, err)
		return
	}
	l.check(method+" for "+fmt.Sprint(status), resp.StatusCode, ok, resp.StatusCode == status && text == want, status == 200, text)
}

// upgrade opens a websocket, sends a line and gets it back, and closes.
func (l *soakLoad) upgrade() {
	c, err := net.Dial("tcp", strings.TrimPrefix(l.url, "http://"))
	if err != nil {
		l.failed("upgrade", err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(c)
	io.WriteString(c, upgrading)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		l.failed("upgrade", err)
		return
	}
	resp.Body.Close()
	var line string
	if resp.StatusCode == http.StatusSwitchingProtocols {
		io.WriteString(c, "bye\n")
		line, err = in.ReadString('\n')
	}
	l.check("upgrade", resp.StatusCode, &l.upgrades, resp.StatusCode == 101 && line == "echo bye\n", true, fmt.Sprint(line, err))
}

func (l *soakLoad) givesUp() {
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.url+"/v1/chat/completions", strings.NewReader(strings.Replace(chatBody(100), "{", `{"stream": true, `, 1)))
	if err != nil {
		l.t.Error(err)
		return
	}
	if resp, err := l.client.Do(req); err == nil {
		resp.Body.Close()
	}
	l.gone.Add(1)
}

// read reads a response to its end.
func read(resp *http.Response, err error) (*http.Response, string, error) {
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// soakServer streams to those that ask for a stream, and fails now and then.
func soakServer(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	switch n := rand.IntN(1000); {
	case n < 5:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	case n < 8:
		panic(http.ErrAbortHandler) // the connection breaks
	}
	if r.Header.Get("Upgrade") != "" {
		if c, rw, err := w.(http.Hijacker).Hijack(); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")
			line, _ := rw.ReadString('\n')
			io.WriteString(c, "echo "+line)
			rw.ReadString('\n') // the client closes
			c.Close()
		}
		return
	}
	// What the server got is in the answer, for the client to check.
	w.Header().Set("X-Got", fmt.Sprint(len(body)))
	if !strings.Contains(string(body), `"stream": true`) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, answer)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for range 5 {
		io.WriteString(w, soakEvent)
		w.(http.Flusher).Flush()
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

const soakEvent = "data: {\"id\":\"1\",\"model\":\"llama-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n"

// chat sends a chat request: a stream, a whole, a malformed or too large one.
func (l *soakLoad) chat(kind int, rnd *rand.Rand) {
	words := []int{1, 100, 2000, 44_000}[rnd.IntN(4)]
	body, want, got := chatBody(words), restored, len(routedBody(words))
	switch {
	case kind < 6:
		body = strings.Replace(body, "{", `{"stream": true, `, 1)
		want, got = strings.Repeat(strings.Replace(soakEvent, "llama-8b", "chat", 1), 5)+"data: [DONE]\n\n", got+len(`"stream": true, `)
	case kind == 6:
		body = `{"model": "chat", "messages": [` // malformed
	case kind == 7:
		body = chatBody(250_000) // too large
	}
	resp, text, err := l.do(l.t.Context(), "/v1/chat/completions", body)
	if err != nil {
		if kind != 7 { // where Envoy may close before it has read all
			l.failed(fmt.Sprint("kind ", kind), err)
		}
		return
	}
	var right bool
	switch kind {
	case 6:
		right = resp.StatusCode == 400
	case 7:
		right = resp.StatusCode == 413
	default:
		right = resp.StatusCode == 200 && text == want && resp.Header.Get("X-Got") == fmt.Sprint(got)
	}
	l.check(fmt.Sprintf("kind %d, %d words", kind, words), resp.StatusCode, new(atomic.Int64), right, kind != 6, text)
}

// changeConfiguration takes endpoints out and in, empties the pool for a moment, and
// writes configurations that are no good.
func changeConfiguration(r *rig, servers []string, done <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		case <-time.After(150 * time.Millisecond):
		}
		switch i % 8 {
		case 3:
			r.options.config = declaredProfile("random-picker", 2)
		case 5:
			r.options.config = "kind: Nonsense\n"
		case 7:
			r.options.config = ""
		}
		keep := servers[:2+i%(len(servers)-1)]
		if i%40 == 39 {
			keep = nil
		}
		r.configure(keep...)
	}
}

// sample is what the picker and Envoy hold at a time.
type sample struct {
	state control.State
	rss   int // of Envoy, in bytes; 0: it is not known
}

// String implements fmt.Stringer.
func (s sample) String() string {
	return fmt.Sprintf("heap %d MB, %d goroutines, Envoy's memory %d MB", s.state.Heap>>20, s.state.Goroutines, s.rss>>20)
}

// sample takes one.
func (r *rig) sample() sample {
	s := sample{state: r.state(true)}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", r.envoy.PID()))
	if fields := strings.Fields(string(data)); err == nil && len(fields) > 1 { // Linux
		pages, _ := strconv.Atoi(fields[1])
		s.rss = pages * os.Getpagesize()
	}
	return s
}

// grown fails the test if there is much more in a later sample.
func (s sample) grown(t *testing.T, last sample) {
	t.Helper()
	if last.state.Heap > 2*s.state.Heap+32<<20 {
		t.Errorf("the heap grew from %d to %d MB", s.state.Heap>>20, last.state.Heap>>20)
	}
	if last.state.Goroutines > 2*s.state.Goroutines+100 {
		t.Errorf("goroutines grew from %d to %d", s.state.Goroutines, last.state.Goroutines)
	}
	if last.rss > s.rss*3/2+64<<20 {
		t.Errorf("Envoy's memory grew from %d to %d MB", s.rss>>20, last.rss>>20)
	}
}
