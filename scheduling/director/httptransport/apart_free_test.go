package httptransport_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

// This file is the bad moments at which a prefill engine is left with a KV cache.

// legged is a RoundTripper that has the first leg of a kind sent by send, if it is a request to an engine of that role.
type legged struct {
	http.RoundTripper
	c    *dt.Cluster
	role dt.Leg
	send func(http.RoundTripper, *http.Request) (*http.Response, error)
	done atomic.Bool
}

func (l *legged) RoundTrip(r *http.Request) (*http.Response, error) {
	if e := l.c.Engine(r.URL.Host); r.Method == http.MethodPost && e.Role() == l.role && !l.done.Swap(true) {
		return l.send(l.RoundTripper, r)
	}
	return l.RoundTripper.RoundTrip(r)
}

// onItsWay sends a request and, when there is an answer, which is then on its way, has something happen. Like an
// http.Transport it has no answer if the request ends meanwhile.
func onItsWay(happens func()) func(http.RoundTripper, *http.Request) (*http.Response, error) {
	return func(rt http.RoundTripper, r *http.Request) (*http.Response, error) {
		resp, err := rt.RoundTrip(r.WithContext(context.WithoutCancel(r.Context())))
		if err != nil {
			return nil, err
		}
		happens()
		select {
		case <-r.Context().Done():
			resp.Body.Close()
			return nil, context.Cause(r.Context())
		case <-time.After(100 * time.Millisecond): // in which the gateway could end it
			return resp, nil
		}
	}
}

// dialling finds that there is no connection yet when the request ends, and has something happen before.
func dialling(happens func()) func(http.RoundTripper, *http.Request) (*http.Response, error) {
	return func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(r.Context()).GetConn(r.URL.Host)
		happens()
		<-r.Context().Done()
		return nil, context.Cause(r.Context())
	}
}

// leaver is a gateway whose clients can leave, or be made to, such that the gateway knows.
type leaver struct {
	*apart
	t      testing.TB
	ctx    context.Context
	cancel context.CancelFunc
	known  chan struct{} // closed when the gateway knows that a client has left, or has revoked its request
	once   sync.Once
	others sync.WaitGroup
}

func newLeaver(t testing.TB, o dt.Options, revoke bool, change func(*httptransport.Transport)) *leaver {
	l := &leaver{t: t, known: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	known := func() { l.once.Do(func() { close(l.known) }) }
	l.apart = newApart(t, o, func(s *setup) {
		s.transport = func(transport *httptransport.Transport) {
			transport.Incoming = func(r *http.Request, _ *director.Incoming) { context.AfterFunc(r.Context(), known) }
			change(transport)
		}
		if revoke {
			s.director.Admission = func(types.NamespacedName) *admission.Options {
				return &admission.Options{Detector: admission.Concurrency{Requests: 1}, Revoke: true, Hooks: admission.Hooks{Revoked: func(*admission.Ticket) { known() }}}
			}
			s.transport = change
		}
	})
	objs, err := types.DecodeManifests([]byte(models))
	require.NoError(t, err)
	require.NoError(t, l.store.Apply(objs...))
	return l
}

// leave has the client leave, or have to make room, and returns when the gateway knows.
func (l *leaver) leave(revoke bool) {
	if revoke {
		l.others.Go(func() { l.ask(l.ctx, chatPath, bodyOf("vip")) })
	} else {
		l.cancel()
	}
	select {
	case <-l.known:
	case <-time.After(10 * time.Second):
		l.t.Errorf("the gateway does not know")
	}
}

func bodyOf(model string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"hello"}],"stream":true}`, model)
}

// Whoever ends a request at the moment at which the prompt is computed, or its decode leg is not sent yet, leaves no
// KV cache behind.
func TestNothingStaysPinned(t *testing.T) {
	tests := map[string]func(testing.TB){}
	for _, protocol := range []dt.Protocol{dt.NIXL, dt.TensorRT} {
		for _, revoke := range []bool{false, true} {
			for name, at := range map[string]struct {
				role   dt.Leg
				linger time.Duration
				send   func(func()) func(http.RoundTripper, *http.Request) (*http.Response, error)
			}{
				"the prefill leg's answer is on its way": {dt.Prefill, 5 * time.Second, onItsWay},
				"the decode leg is not sent":             {dt.Decode, 50 * time.Millisecond, dialling},
			} {
				tests[fmt.Sprintf("%v revoked=%v %s", protocol, revoke, name)] = func(t testing.TB) {
					var l *leaver
					leg := &legged{role: at.role, send: at.send(func() { l.leave(revoke) })}
					l = newLeaver(t, dt.Options{
						Protocol: protocol, Lease: time.Hour, Settle: 5 * time.Second, Behaviour: dt.Behaviour{TokenTime: 20 * time.Millisecond},
					}, revoke, func(transport *httptransport.Transport) {
						transport.Base, leg.RoundTripper, transport.Linger = leg, transport.Base, at.linger
					})
					leg.c = l.c
					g := l.ask(l.ctx, chatPath, bodyOf("bulk"))
					l.others.Wait()
					if revoke {
						require.Equal(t, http.StatusTooManyRequests, g.status, "%s", g.body)
						require.Equal(t, "revoked", g.header.Get("X-Inferpick-Reason"))
					} else {
						require.Error(t, g.err)
					}
					require.True(t, leg.done.Load())
					l.quietNow(t)
				}
			}
		}
	}
	noLeaks(t, func() { together(t, tests) })
}

// What takes longer than a leg lingers does not go on for nobody.
func TestLegsEnd(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol dt.Protocol) {
		for _, at := range []struct {
			revoke bool
			role   dt.Leg
		}{{false, dt.Prefill}, {true, dt.Prefill}, {false, dt.Decode}, {true, dt.Decode}} {
			if protocol == dt.SGLang && at.role == dt.Decode {
				continue // that it waits is for the other leg to end
			}
			l := newLeaver(t, dt.Options{Protocol: protocol, Settle: 5 * time.Second, Wait: time.Hour}, at.revoke, func(transport *httptransport.Transport) {
				transport.Linger = 20 * time.Millisecond
			})
			engine, legs := l.c.Prefill[0], func() int { return l.c.Stats().Prefill }
			if at.role == dt.Decode {
				engine, legs = l.c.Decode[0], func() int { return l.c.Stats().Decode }
			}
			engine.SetBehaviour(dt.Behaviour{PrefillTime: time.Hour, TransferTime: time.Hour})
			l.others.Go(func() { l.ask(l.ctx, chatPath, bodyOf("bulk")) })
			require.Eventually(t, func() bool { return legs() > 0 }, 5*time.Second, time.Millisecond)
			engine.SetBehaviour(dt.Behaviour{}) // for the one that comes
			l.leave(at.revoke)
			l.others.Wait()
			l.quietNow(t)
		}
	})
}

// A request that is refused between its legs, for want of memory, leaves no KV cache behind.
func TestNoRoomBetweenLegs(t *testing.T) {
	a := newApart(t, dt.Options{Lease: time.Hour, Settle: 5 * time.Second, Behaviour: dt.Behaviour{ParamsBytes: 20 << 10}}, func(s *setup) {
		s.transport = func(t *httptransport.Transport) { t.MaxBodies = 150 << 10 }
	})
	g := a.ask(t.Context(), chatPath, strings.Replace(streamedChat, "hello there", strings.Repeat("x", 60<<10), 1))
	require.Equal(t, 503, g.status)
	require.Equal(t, httptransport.CodeBodies, g.header.Get("X-Inferpick-Reason"))
	require.Equal(t, 1, a.c.Stats().Prefill)
	a.quietNow(t)
}

// An engine that cannot be reached when the other one is done, although both were asked at once, leaves nothing there.
func TestDecodeEngineGoneAtOnce(t *testing.T) {
	leg := &legged{role: dt.Decode}
	a := newApart(t, dt.Options{Protocol: dt.Mooncake, Prefill: 2, Decode: 2, Lease: time.Hour, Wait: time.Hour, Settle: 5 * time.Second}, func(s *setup) {
		s.transport = func(transport *httptransport.Transport) { transport.Base, leg.RoundTripper = leg, transport.Base }
	})
	leg.c = a.c
	leg.send = func(_ http.RoundTripper, r *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(r.Context()).GetConn(r.URL.Host)
		for a.prefillsTold() == 0 && r.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		return nil, syscall.ECONNREFUSED
	}
	const body = `{"model":"m","messages":[{"role":"user","content":"hello there"}]}`
	a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
	a.quietNow(t)
}

func (a *apart) prefillsTold() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.prefilled)
}
