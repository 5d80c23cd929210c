package directortest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/director/directortest"
	"github.com/stretchr/testify/require"
)

func start(t *testing.T, b directortest.Behaviour) (*directortest.Server, *directortest.Client) {
	t.Helper()
	s := directortest.Start(b)
	c := directortest.NewClient(s.Addr())
	t.Cleanup(func() { c.Close(); s.Close() })
	return s, c
}

func do(t *testing.T, c *directortest.Client, a directortest.Ask) directortest.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.Do(ctx, a)
}

// Each case does to a plain client what its Harm says.
func TestCases(t *testing.T) {
	names := map[string]bool{}
	for _, c := range directortest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			if names[c.Name] {
				t.Error("the name is not the only one")
			}
			names[c.Name] = true
			e := directortest.Engine{}
			s, client := start(t, c.Make(e))
			asks := []directortest.Ask{c.Ask}
			if c.Ask.Path == "" && c.Ask.Header == nil && !c.Ask.Stream {
				asks = append(asks, directortest.Ask{Stream: true, User: "u"})
			}
			for _, a := range asks {
				res := do(t, client, a)
				whole := e.Answer(or(a.Path, "/v1/chat/completions"), a.Body())
				want := whole
				if c.Want != nil {
					want = c.Want(e, a)
				}
				switch c.Harm {
				case directortest.Good, directortest.ClientFault, directortest.Says, directortest.Refuses:
					if res.Err != nil || res.Status != want.Code() || !bytes.Equal(res.Body, want.Body()) {
						t.Errorf("got %v, want status %d, %d bytes", res, want.Code(), len(want.Body()))
					}
				case directortest.Before:
					if c.Name == "1000_times_100" {
						break // this client passes over them
					}
					if res.Status < 500 && res.Err == nil && len(res.Body) > 0 && res.Status != 1 && res.Status != 0 && res.Status != 101 {
						t.Errorf("got %v, want nothing of an answer", res)
					}
				case directortest.After:
					if res.Status != 200 || res.Err == nil || !bytes.HasPrefix(whole.Body(), res.Body) && c.Name != "garbage_in_the_middle" {
						t.Errorf("got %v, want the beginning of an answer and an error", res)
					}
				}
			}
			if n := s.Requests(); n != len(asks) && c.Name != "refuses" && !strings.HasSuffix(c.Name, "_at_accept") {
				t.Errorf("it counted %d requests, want %d", n, len(asks))
			}
		})
	}
	if len(names) < 100 {
		t.Errorf("%d cases, want more than 100", len(names))
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// To the byte, over a raw connection: what is sent before it ends, and that nothing follows.
func TestBreakPoints(t *testing.T) {
	e := directortest.Engine{}
	const patience = 200 * time.Millisecond
	healthy := directortest.Start(e.Behaviour())
	defer healthy.Close()
	all := map[bool]wired{}
	for _, stream := range []bool{false, true} {
		all[stream] = wire(t, healthy.Addr(), directortest.Ask{Stream: stream}, patience)
	}
	for _, how := range []directortest.How{directortest.Close, directortest.Reset, directortest.Hang} {
		for at := directortest.AtAccept; at <= directortest.AtLastChunk; at++ {
			for _, stream := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v_at_%v_stream_%t", how, at, stream), func(t *testing.T) {
					a := directortest.Ask{Stream: stream}
					whole := all[stream]
					s := directortest.Start(e.Break(at, how))
					defer s.Close()
					got := wire(t, s.Addr(), a, patience)
					head := bytes.Index(whole.sent, []byte("\r\n\r\n")) + 4
					want := map[directortest.Point]int{
						directortest.AtStatusLine: bytes.IndexByte(whole.sent, '\n') + 1,
						directortest.AtHead:       head,
					}
					switch {
					case at < directortest.AtStatusLine:
						if len(got.sent) > 0 {
							t.Errorf("it sent %q, want nothing", got.sent)
						}
					case how == directortest.Reset: // what was sent may be lost
					case !bytes.HasPrefix(whole.sent, got.sent):
						t.Errorf("it sent %q, want the beginning of %q", got.sent, whole.sent)
					case want[at] > 0 && len(got.sent) != want[at]:
						t.Errorf("it sent %d bytes, want %d", len(got.sent), want[at])
					case at.Sent() && (len(got.sent) <= head || len(got.sent) >= len(whole.sent)):
						t.Errorf("it sent %d bytes, want between %d and %d", len(got.sent), head, len(whole.sent))
					case at == directortest.AtLastChunk && stream && !bytes.HasSuffix(got.sent, []byte("data: [DONE]\n\n\r\n")):
						t.Errorf("it sent %q, want all but the last chunk", got.sent)
					}
					if hung := how == directortest.Hang; got.timedOut != hung {
						t.Errorf("the connection stays: %v, want %v (%v)", got.timedOut, hung, got.err)
					}
					if how == directortest.Reset && at > directortest.AtAccept && !errors.Is(got.err, syscall.ECONNRESET) {
						t.Errorf("it ended with %v, want a reset", got.err)
					}
				})
			}
		}
	}
}

type wired struct {
	sent     []byte
	err      error
	timedOut bool
}

// wire sends a request and returns every byte that comes within a time.
func wire(t *testing.T, addr string, a directortest.Ask, patience time.Duration) (w wired) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return wired{err: err}
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	body := a.Body()
	_, _ = c.Write(append(a.Head(len(body)), body...))
	w.sent, w.err = io.ReadAll(c)
	var timeout net.Error
	w.timedOut = errors.As(w.err, &timeout) && timeout.Timeout()
	return w
}

// A server counts what it saw, and keeps bodies byte for byte.
func TestServerCounts(t *testing.T) {
	s, c := start(t, directortest.Engine{Metrics: directortest.VLLM}.Behaviour())
	s.Keep(3)
	do(t, c, directortest.Ask{Method: "GET", Path: "/metrics"})
	do(t, c, directortest.Ask{Method: "GET", Path: "/metrics?" + directortest.Probe})
	body := "{\"model\": \"tiny\",\r\n \"seed\":12345678901234567890123 }"
	res := directortest.Raw(s.Addr(), "POST", []byte("POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: a\r\nX-A: b\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"+
		fmt.Sprintf("%x\r\n%s\r\n%x\r\n%s\r\n0\r\nX-T: 1\r\n\r\n", 10, body[:10], len(body)-10, body[10:])), time.Second)
	if res.Status != 200 {
		t.Fatal(res)
	}
	for range 3 {
		do(t, c, directortest.Ask{})
	}
	if s.Requests() != 5 || s.Reads() != 1 {
		t.Errorf("%d requests and %d reads, want 5 and 1", s.Requests(), s.Reads())
	}
	require.Equal(t, 2, s.Connections(), "connections")
	seen := s.Seen()
	if len(seen) != 3 || seen[0].Path() != "/v1/chat/completions" {
		t.Fatalf("it kept %v, want 3", seen)
	}
	s.Keep(1)
	directortest.Raw(s.Addr(), "POST", []byte(fmt.Sprintf("POST /x HTTP/1.1\r\nHost: a\r\nX-A: b\r\nContent-Length: %d\r\n\r\n%s", len(body), body)), time.Second)
	if got := s.Seen(); len(got) != 1 || string(got[0].Body) != body || got[0].Header.Get("X-A") != "b" || got[0].Target != "/x" || got[0].Host != "a" {
		t.Errorf("it kept %q, want the last one byte for byte", got)
	}
}

// A port that is closed can be opened again.
func TestRefusing(t *testing.T) {
	s, c := start(t, directortest.Engine{}.Behaviour())
	for range 3 {
		must(t, s.Set(directortest.Refusing()))
		do(t, c, directortest.Ask{}) // over the connection that it had
		if res := do(t, c, directortest.Ask{}); !errors.Is(res.Err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want that it refuses", res)
		}
		must(t, s.Set(directortest.Engine{}.Behaviour()))
		if res := do(t, c, directortest.Ask{}); res.Status != 200 {
			t.Errorf("got %v, want 200", res)
		}
	}
}

// An engine takes its time, has so many places, and says on its page who works and waits.
func TestEngineTakesItsTime(t *testing.T) {
	e := directortest.Engine{Tokens: 5, Prefill: 20 * time.Millisecond, PerToken: 5 * time.Millisecond, Places: 2, Metrics: directortest.VLLM}
	s, c := start(t, e.Behaviour())
	for _, stream := range []bool{false, true} {
		if res := do(t, c, directortest.Ask{Stream: stream}); res.Took < 40*time.Millisecond {
			t.Errorf("an answer took %v, want at least 40 ms", res.Took)
		}
	}
	began := time.Now()
	var clients sync.WaitGroup
	for range 6 {
		clients.Go(func() { do(t, c, directortest.Ask{}) })
	}
	full := false
	for range 100 {
		page := string(do(t, c, directortest.Ask{Method: "GET", Path: "/metrics"}).Body)
		if full = strings.Contains(page, `num_requests_running{engine="0",model_name="tiny"} 2`) && strings.Contains(page, `num_requests_waiting{engine="0",model_name="tiny"} 4`); full {
			break
		}
	}
	clients.Wait()
	if took := time.Since(began); took < 110*time.Millisecond {
		t.Errorf("six requests at two places took %v, want at least 120 ms", took)
	}
	require.True(t, full, "the page never said that 2 run and 4 wait")
	_ = s
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	b := directortest.Engine{}.Behaviour()
	b.Idle = 20 * time.Millisecond
	s, _ := start(t, b)
	began := time.Now()
	w := wire(t, s.Addr(), directortest.Ask{}, 5*time.Second)
	if took := time.Since(began); w.timedOut || took < 15*time.Millisecond || took > 3*time.Second {
		t.Errorf("closed after %v: %v", took, w.err)
	}
}

func TestFirstThenAndPoisoned(t *testing.T) {
	e := directortest.Engine{}
	bad := func() directortest.Behaviour { return e.Always("503", directortest.JSON(503, "{}")) }
	_, c := start(t, directortest.FirstThen(2, bad(), e.Behaviour()))
	for i, want := range []int{503, 503, 200, 200} {
		if res := do(t, c, directortest.Ask{}); res.Status != want {
			t.Errorf("request %d: %v, want %d", i, res, want)
		}
	}
	_, c = start(t, directortest.Poisoned("arsenic", bad(), e.Behaviour()))
	for prompt, want := range map[string]int{"water": 200, "arsenic": 503} {
		if res := do(t, c, directortest.Ask{Prompt: prompt}); res.Status != want {
			t.Errorf("%s: %v, want %d", prompt, res, want)
		}
	}
}

// Clients leave where they say, and the server sees it.
func TestLeaves(t *testing.T) {
	e := directortest.Engine{Prefill: 10 * time.Millisecond, PerToken: time.Millisecond}
	for _, at := range directortest.Leaves() {
		t.Run(at.String(), func(t *testing.T) {
			gone := make(chan int, 1)
			s, _ := start(t, e.Instead("counts", func(x *directortest.Exchange, _ *directortest.Request, a directortest.Answer) {
				sent := 0
				x.Wait(e.Prefill)
				if x.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")) {
					for _, p := range a.Parts {
						if !x.Wait(2*time.Millisecond) || !x.Write(p) {
							break
						}
						sent++
					}
				}
				for x.Wait(2*time.Millisecond) && x.Write([]byte(": still here\n\n")) {
					continue
				}
				gone <- sent
			}))
			must(t, directortest.LeaveAt(s.Addr(), directortest.Ask{Stream: true}, at, 5*time.Second))
			parts := len(e.Answer("/v1/chat/completions", directortest.Ask{Stream: true}.Body()).Parts)
			if at < directortest.LeaveAfterRequest {
				time.Sleep(10 * time.Millisecond)
				if len(gone) > 0 {
					t.Error("the server has had a request")
				}
				return
			}
			n := <-gone
			if at == directortest.LeaveAfterDone && n != parts || at < directortest.LeaveInTheMiddle && n > parts/2 {
				t.Errorf("the client left after %d of %d parts", n, parts)
			}
		})
	}
}

func TestReadSlowly(t *testing.T) {
	e := directortest.Engine{}
	s, _ := start(t, e.Behaviour())
	a := directortest.Ask{Stream: true}
	res := directortest.ReadSlowly(s.Addr(), a, 100, 2*time.Millisecond, 5*time.Second)
	want := e.Answer("/v1/chat/completions", a.Body()).Body()
	if res.Err != nil || !bytes.Equal(res.Body, want) || res.Took < time.Duration(len(want)/100)*2*time.Millisecond {
		t.Errorf("got %v, want all of it, slowly", res)
	}
}

// Pages are what they say.
func TestLies(t *testing.T) {
	for _, lie := range directortest.Lies() {
		if lie.Slow && testing.Short() {
			continue
		}
		t.Run(lie.Name, func(t *testing.T) {
			s, _ := start(t, directortest.Engine{Metrics: lie.Page}.Behaviour())
			patience := 20 * time.Second
			if lie.Name == "without_an_end" || lie.Name == "hangs" {
				patience = 300 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.Addr()+"/metrics", nil)
			must(t, err)
			resp, err := http.DefaultTransport.(*http.Transport).Clone().RoundTrip(req)
			var page []byte
			if err == nil {
				page, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			ends := err == nil
			contains := map[string]string{"minus_one": "} -1\n", "not_a_number": "} NaN\n", "infinity": "} +Inf\n", "1e308": "} 1e308\n", "html": "<html>", "without_an_end": "waiting"}[lie.Name]
			if !bytes.Contains(page, []byte(contains)) {
				t.Errorf("the page is %.200q, want %q in it", page, contains)
			}
			switch lie.Name {
			case "without_an_end", "hangs", "closed", "garbage", "cut_off":
				require.False(t, ends, "the page has an end")
			case "50_mb":
				if len(page) < 49<<20 {
					t.Errorf("the page has %d bytes: %v", len(page), err)
				}
			default:
				require.True(t, ends)
			}
			require.Equal(t, 1, s.Reads(), "reads")
		})
	}
}

// Closing a server ends all that runs in it, whatever that does.
func TestCloseEndsAll(t *testing.T) {
	e := directortest.Engine{Prefill: time.Hour}
	for _, b := range []directortest.Behaviour{e.Behaviour(), e.Break(directortest.AtAccept, directortest.Hang), e.Break(directortest.AtRequestHead, directortest.Hang)} {
		s := directortest.Start(b)
		c, err := net.Dial("tcp", s.Addr())
		must(t, err)
		a := directortest.Ask{}
		_, err = c.Write(append(a.Head(len(a.Body())), a.Body()...))
		must(t, err)
		time.Sleep(5 * time.Millisecond)
		began := time.Now()
		s.Close()
		s.Close()
		c.Close()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("closing took %v", took)
		}
	}
}

func TestGzipIsGzip(t *testing.T) {
	for _, c := range directortest.Cases() {
		if c.Name != "gzip" {
			continue
		}
		_, client := start(t, c.Make(directortest.Engine{}))
		res := do(t, client, c.Ask)
		r, err := gzip.NewReader(bytes.NewReader(res.Body))
		must(t, err)
		plain, err := io.ReadAll(r)
		must(t, err)
		if want := (directortest.Engine{}).Answer("/v1/chat/completions", c.Ask.Body()).Body(); !bytes.Equal(plain, want) {
			t.Errorf("got %q, want %q", plain, want)
		}
	}
}
