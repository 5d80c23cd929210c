package httptransport_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// sees is a RoundTripper that calls before for the legs of requests, by their number.
type sees struct {
	http.RoundTripper
	before func(n int)
	n      atomic.Int32
}

func (s *sees) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == chatPath {
		s.before(int(s.n.Add(1)))
	}
	return s.RoundTripper.RoundTrip(r)
}

// Whenever a client leaves, nothing goes on, nothing stays booked, and no engine keeps anything.
func TestClientLeaves(t *testing.T) {
	const (
		prefill, transfer, token = 150 * time.Millisecond, 400 * time.Millisecond, 30 * time.Millisecond
	)
	points := map[string]struct {
		leg   int           // before this leg is sent; 0: no
		after time.Duration // of asking
		bytes int           // of the answer
	}{
		"before the first leg is sent":    {leg: 1},
		"before the other leg is sent":    {leg: 2},
		"while the prompt is computed":    {after: prefill / 2},
		"while the cache goes over":       {after: prefill + transfer/2},
		"when the first bytes have come":  {bytes: 1},
		"in the middle of the answer":     {bytes: 600},
		"when the whole answer has come":  {bytes: 1 << 20},
		"before anything was sent at all": {after: time.Nanosecond},
	}
	tests := map[string]func(testing.TB){}
	for _, protocol := range protocols() {
		for name, at := range points {
			for _, stream := range []bool{true, false} {
				if at.bytes > 0 && !stream {
					continue
				}
				tests[fmt.Sprintf("%v %s stream=%v", protocol, name, stream)] = func(t testing.TB) {
					ctx, leave := context.WithCancel(t.Context())
					defer leave()
					a := newApart(t, dt.Options{
						Protocol: protocol, Settle: 4 * time.Second, Lease: time.Hour, Wait: time.Hour,
						Behaviour: dt.Behaviour{PrefillTime: prefill, TransferTime: transfer, TokenTime: token},
					}, func(s *setup) {
						s.transport = func(transport *httptransport.Transport) {
							if protocol == dt.NIXL || protocol == dt.TensorRT {
								transport.Linger = 2 * time.Second // in which all that takes time here is over, on a busy machine, too
							}
							transport.Base = &sees{RoundTripper: transport.Base, before: func(n int) {
								if n == at.leg {
									leave()
									time.Sleep(50 * time.Millisecond) // until the gateway knows
								}
							}}
						}
					})
					if at.after > 0 {
						time.AfterFunc(at.after, leave)
					}
					body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"hello there"}],"user":"u","stream":%v}`, stream)
					req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.front.URL+chatPath, strings.NewReader(body))
					require.NoError(t, err)
					req.Header.Set("Content-Type", "application/json")
					if resp, err := a.client.Do(req); err == nil {
						_, _ = io.ReadFull(resp.Body, make([]byte, at.bytes))
						leave()
						resp.Body.Close()
					}
					a.quietNow(t)
				}
			}
		}
	}
	together(t, tests)
}

// A server that goes away and comes back is not missed as long as there are others.
// It runs beside no other test: the ports of its engines are free meanwhile.
func TestEngineEnds(t *testing.T) {
	tests := map[string]func(testing.TB){}
	for _, protocol := range protocols() {
		for _, role := range []dt.Leg{dt.Prefill, dt.Decode} {
			tests[fmt.Sprintf("%v %v", protocol, role)] = func(t testing.TB) { testEnds(t, protocol, role) }
		}
	}
	together(t, tests)
}

func testEnds(t testing.TB, protocol dt.Protocol, role dt.Leg) {
	a := newApart(t, dt.Options{
		Protocol: protocol, Prefill: 2, Decode: 2, Settle: 4 * time.Second,
		Behaviour: dt.Behaviour{PrefillTime: 60 * time.Millisecond, TokenTime: 35 * time.Millisecond},
	}, nil)
	engine := a.c.Prefill[0]
	if role == dt.Decode {
		engine = a.c.Decode[0]
	}
	body := `{"model":"m","messages":[{"role":"user","content":"hello there"}]}`
	for _, kill := range []time.Duration{0, 30 * time.Millisecond, 150 * time.Millisecond} {
		ended := make(chan struct{})
		time.AfterFunc(kill, func() { engine.Kill(); close(ended) })
		if kill == 0 {
			<-ended
		}
		a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
		<-ended
		if !restarts(engine) {
			break
		}
	}
	a.quietNow(t)
}

// restarts restarts an engine, unless its port was taken by a connection of somebody's meanwhile.
func restarts(e *dt.Engine) bool {
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if e.Restart() == nil {
			return true
		}
	}
	return false
}
