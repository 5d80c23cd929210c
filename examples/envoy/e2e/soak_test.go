package e2e_test

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

var soak = flag.Duration("soak", 3*time.Second, "how long TestSoak loads Envoy and the picker")

// TestSoak is full load while endpoints come, go and fail, the configuration is
// changed, for the worse too, and clients give up: every answer is right or says why
// not, memory and goroutines stay flat, and nothing is booked at the end.
//
//	go test ./e2e -run TestSoak -soak 10m -timeout 15m -v
func TestSoak(t *testing.T) {
	const clients = 24
	var servers []string
	for range 6 {
		servers = append(servers, serve(t, soakServer))
	}
	r := newRig(t, rigOptions{servers: servers, picker: func(o *epp.Options) { o.MaxBody = 1 << 20 }})
	var counts [600]atomic.Int64
	var wrong, gone atomic.Int64
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
				soakOnce(t, r, rnd, &counts, &wrong, &gone)
			}
		})
	}
	wg.Go(func() { changeConfiguration(r, servers, done) })

	start := time.Now()
	warm := min(*soak/3, time.Minute)
	var first, last sample
	for tick := time.NewTicker(max(*soak/40, 100*time.Millisecond)); time.Since(start) < *soak; <-tick.C {
		s := takeSample()
		if time.Since(start) < warm {
			first = s
		}
		last = s
		if *soak > time.Minute {
			t.Logf("%4.0fs: heap %d MB, %d goroutines, %d open, answered %d", time.Since(start).Seconds(), s.heap>>20, s.goroutines, r.picker.app.Open(), counts[200].Load())
		}
	}
	close(done)
	wg.Wait()
	r.configure(servers...) // whatever was last
	r.settled()

	var list strings.Builder
	for status := range counts {
		if n := counts[status].Load(); n > 0 {
			fmt.Fprintf(&list, " %d: %d", status, n)
		}
	}
	t.Logf("%v: by status%s; %d clients gave up; heap %d → %d MB, goroutines %d → %d", *soak, list.String(), gone.Load(),
		first.heap>>20, last.heap>>20, first.goroutines, last.goroutines)
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d answers were wrong", n)
	}
	if counts[200].Load() == 0 {
		t.Error("nothing was served")
	}
	if *soak >= 5*time.Minute {
		if last.heap > 2*first.heap+32<<20 {
			t.Errorf("the heap grew from %d to %d MB", first.heap>>20, last.heap>>20)
		}
		if last.goroutines > 2*first.goroutines+100 {
			t.Errorf("goroutines grew from %d to %d", first.goroutines, last.goroutines)
		}
	}
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

// soakOnce sends one request of a random kind and checks what comes.
func soakOnce(t *testing.T, r *rig, rnd *rand.Rand, counts *[600]atomic.Int64, wrong, gone *atomic.Int64) {
	words := []int{1, 100, 2000, 44_000}[rnd.IntN(4)]
	body, want, got := chatBody(words), restored, len(routedBody(words))
	kind := rnd.IntN(20)
	ctx := t.Context()
	switch {
	case kind < 6:
		body = strings.Replace(body, "{", `{"stream": true, `, 1)
		want, got = strings.Repeat(strings.Replace(soakEvent, "llama-8b", "chat", 1), 5)+"data: [DONE]\n\n", got+len(`"stream": true, `)
	case kind == 6:
		body = `{"model": "chat", "messages": [` // malformed
	case kind == 7:
		body = chatBody(250_000) // too large
	case kind == 8:
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/v1/chat/completions", strings.NewReader(strings.Replace(body, "{", `{"stream": true, `, 1)))
		if err != nil {
			t.Error(err)
			return
		}
		resp, err := r.client.Do(req)
		if err == nil {
			resp.Body.Close() // gives up
		}
		gone.Add(1)
		return
	}
	resp, text, err := r.do(ctx, "/v1/chat/completions", body)
	if err != nil {
		// A server that broke the connection after its headers: Envoy can but do the
		// same, and does so by ending the response early.
		if kind != 7 && !strings.Contains(err.Error(), "EOF") {
			wrong.Add(1)
			t.Logf("kind %d: %v", kind, err)
		}
		return
	}
	counts[resp.StatusCode].Add(1)
	var ok bool
	switch resp.StatusCode {
	case 200:
		ok = text == want && resp.Header.Get("X-Got") == fmt.Sprint(got) && kind != 6 && kind != 7
	case 400:
		ok = kind == 6
	case 413:
		ok = kind == 7
	case 502, 503:
		ok = kind != 6 // all that were tried failed, or the pool is empty
	}
	if !ok {
		if wrong.Add(1) < 10 {
			t.Logf("kind %d, %d words: %s %v %.300s", kind, words, resp.Status, resp.Header, text)
		}
	}
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

type sample struct {
	heap       uint64
	goroutines int
}

func takeSample() sample {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return sample{m.HeapAlloc, runtime.NumGoroutine()}
}
