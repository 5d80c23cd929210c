package httptransport_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// What the client gets.
type want string

const (
	right  want = "the right answer"
	broken want = "an answer that breaks off"
	told   want = "a stream that ends with an error"
)

// wantOf is what is to become of a request whose first leg of a kind meets a fault, where there are
// more engines of each role.
func wantOf(f dt.Fault, stream bool) want {
	switch {
	case !stream || f.Kind == dt.Slow:
		return right // the client has no byte before all has come, since usage is corrected
	case f.Leg == dt.Prefill, f.Phase != dt.Body:
		return right // others are asked
	case f.Kind == dt.Status:
		return told
	}
	return broken
}

// got is which of them it is.
func (a *apart) got(t testing.TB, body string, g given) want {
	switch {
	case g.err != nil:
		return broken
	case strings.Contains(string(g.body), "by a fault in its body"):
		return told
	}
	a.right(t, chatPath, body, g)
	return right
}

// Whatever an engine does at any point of either leg, the client gets its answer from others, or
// what it has had breaks off at once; and nothing is left.
func TestApartFaults(t *testing.T) {
	t.Parallel()
	phases := []dt.Phase{dt.Before, dt.BeforeTransfer, dt.Head, dt.Body, dt.AfterAnswer}
	kinds := []dt.Kind{dt.Die, dt.Refuse, dt.Status, dt.Hang, dt.Slow}
	if testing.Short() {
		kinds = kinds[1:4]
	}
	tests := map[string]func(testing.TB){}
	for _, protocol := range protocols() {
		for _, leg := range []dt.Leg{dt.Prefill, dt.Decode} {
			for _, phase := range phases {
				for _, kind := range kinds {
					if phase == dt.AfterAnswer && kind != dt.Die { // nothing happens
						continue
					}
					for _, stream := range []bool{false, true} {
						if stream && leg == dt.Decode && phase == dt.Body && kind == dt.Hang {
							continue // for as long as the client likes, as with one engine
						}
						f := dt.Fault{Leg: leg, Phase: phase, Kind: kind, Times: 1}
						if kind == dt.Slow {
							f.Delay = 20 * time.Millisecond
						}
						name := fmt.Sprintf("%v %v %v %v stream=%v", protocol, leg, phase, kind, stream)
						tests[name] = func(t testing.TB) { testFault(t, protocol, f, stream) }
					}
				}
			}
		}
	}
	together(t, tests)
}

func testFault(t testing.TB, protocol dt.Protocol, f dt.Fault, stream bool) {
	const wait = time.Second
	a := newApart(t, dt.Options{
		Protocol: protocol, Prefill: 2, Decode: 2, Wait: 20 * time.Second, Settle: 5 * time.Second,
		Behaviour: dt.Behaviour{TokenTime: time.Millisecond},
	}, func(s *setup) {
		s.profile.Splitter = always{patience: wait}
		if protocol == dt.SGLang {
			s.roles = notAlone
		}
	})
	engine := a.c.Prefill[0]
	if f.Leg == dt.Decode {
		engine = a.c.Decode[0]
	}
	engine.Fail(f)
	body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":"hello there"}],"stream":%v}`, stream)
	begin := time.Now()
	g := a.ask(t.Context(), chatPath, body)
	require.Less(t, time.Since(begin), 10*time.Second)
	if got := a.got(t, body, g); got != right || wantOf(f, stream) != told { // or the error came with the first bytes
		require.Equal(t, wantOf(f, stream), got, "%d %s", g.status, g.body)
	}
	a.quietNow(t)
}

// An answer of the prefill leg that is the client's fault is the client's.
func TestPrefillRefuses(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol dt.Protocol) {
		for _, code := range []int{400, 404, 413, 422} {
			a := newApart(t, dt.Options{Protocol: protocol, Prefill: 2, Decode: 2, Settle: 5 * time.Second}, nil)
			a.c.Prefill[0].Fail(dt.Fault{Leg: dt.Prefill, Phase: dt.BeforeTransfer, Kind: dt.Status, Code: code})
			g := a.ask(t.Context(), chatPath, streamedChat)
			require.NoError(t, g.err)
			require.Equal(t, code, g.status)
			require.Contains(t, string(g.body), "by a fault at before transfer")
			require.Equal(t, "p0", g.header.Get(httptransport.HeaderEndpoint))
			a.quietNow(t)
			require.Equal(t, 1, a.c.Stats().Prefill)
			a.told(t, 1, 1)
			require.False(t, a.prefilled[0].Outcome.Failed(), "not its fault")
			require.Equal(t, code, a.finished[0].Status)
		}
	})
}

// If nobody computes the prompt, as many engines that answer do so themselves as may, and the others
// refuse at once.
func TestPrefillsFail(t *testing.T) {
	t.Parallel()
	tests := map[string]func(testing.TB){}
	for _, protocol := range protocols() {
		tests[protocol.String()] = func(t testing.TB) { testPrefillsFail(t, protocol) }
	}
	together(t, tests)
}

func testPrefillsFail(t testing.TB, protocol dt.Protocol) {
	const requests = 12
	a := newApart(t, dt.Options{
		Protocol: protocol, Prefill: 4, Decode: 2, Settle: 5 * time.Second, Wait: 20 * time.Second,
		Behaviour: dt.Behaviour{PrefillTime: time.Second},
	}, func(s *setup) {
		s.profile.Alone = limits(time.Second, 0.5)
		if protocol == dt.SGLang {
			s.roles = notAlone // its decode engines refuse what they are to compute alone
		}
	})
	for _, e := range a.c.Prefill {
		e.Fail(dt.Fault{Leg: dt.Prefill, Phase: dt.Before, Kind: dt.Status, Code: 502})
	}
	all := make(chan given, requests)
	for range requests {
		go func() { all <- a.ask(t.Context(), chatPath, streamedChat) }()
	}
	alone := 1 // half of 2
	if protocol == dt.SGLang {
		alone = 0
	}
	for i := range requests {
		g := <-all
		require.NoError(t, g.err)
		if i >= requests-alone {
			a.right(t, chatPath, streamedChat, g)
			continue
		}
		require.Equal(t, 503, g.status, "%s", g.body)
		require.Equal(t, "1", g.header.Get("Retry-After"))
		require.Equal(t, "no_prefill_endpoint", g.header.Get("X-Inferpick-Reason"))
		require.Contains(t, string(g.body), "no endpoint could compute the prompt")
	}
	whole := 0
	for _, leg := range a.c.Legs() { // one that was cut off while its body came counts as ordinary
		if leg.Leg == dt.Ordinary && leg.Outcome == dt.Complete {
			whole++
		}
	}
	require.Equal(t, alone, whole)
	require.Equal(t, 3*requests, a.c.Stats().Prefill, "three for each request")
	require.NoError(t, a.c.Check())
	a.empty(t)
}

// One engine that was set up wrongly is noticed, and the answer is right all the same.
func TestIgnored(t *testing.T) {
	a := newApart(t, dt.Options{Protocol: dt.NIXL, Settle: time.Second}, nil)
	a.c.Prefill[0].SetBehaviour(dt.Behaviour{NoConnector: true, CachedTokens: 1})
	a.c.Decode[0].SetBehaviour(dt.Behaviour{CachedTokens: 2})
	for range 2 {
		g := a.ask(t.Context(), chatPath, streamedChat)
		answer := a.right(t, chatPath, streamedChat, g)
		require.Equal(t, 2, answer.Usage.Details.Cached, "the decode engine has computed the prompt")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Equal(t, []string{"p0", "p0"}, a.ignored)
	a.empty(t)
	last := a.finished[len(a.finished)-1]
	cached, _ := last.Usage.CachedTokens.Value()
	require.EqualValues(t, 2, cached, "its own")
}

// Parameters of any size that is allowed go over whole; others are a failure of the engine.
func TestLongParameters(t *testing.T) {
	const size = 10 << 20
	for name, tt := range map[string]struct {
		max    int
		answer int64
		status int
	}{
		"allowed":        {12 << 20, 0, 200},
		"by default not": {0, 0, 503},
		"not read":       {12 << 20, 1 << 20, 503},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, dt.Options{Protocol: dt.NIXL, Lease: time.Hour, Behaviour: dt.Behaviour{ParamsBytes: size}}, func(s *setup) {
				s.disagg.MaxParams = tt.max
				s.roles = map[string]string{"d0": "decode-only"}
				s.transport = func(t *httptransport.Transport) { t.MaxPrefillAnswer = tt.answer }
			})
			g := a.ask(t.Context(), chatPath, streamedChat)
			require.Equal(t, tt.status, g.status, "%s", g.body)
			a.empty(t)
			if tt.status == 200 {
				a.right(t, chatPath, streamedChat, g)
				a.quietNow(t)
			}
		})
	}
}

// What only gateways may write is refused from clients, whoever serves them.
func TestReservedFields(t *testing.T) {
	a := newApart(t, dt.Options{Protocol: dt.NIXL}, nil)
	for _, field := range []string{`"kv_transfer_params":{"do_remote_prefill":true}`, `"bootstrap_room":7`, `"disaggregated_params":{}`, `"kv_tr\u0061nsfer_params":{}`} {
		g := a.ask(t.Context(), chatPath, strings.TrimSuffix(streamedChat, "}")+","+field+"}")
		require.Equal(t, 400, g.status)
		require.Equal(t, "reserved_field", g.header.Get("X-Inferpick-Reason"))
	}
	require.Empty(t, a.c.Legs())
}

// Without anybody that may answer, it is said so.
func TestNoAnsweringRole(t *testing.T) {
	a := newApart(t, dt.Options{Protocol: dt.NIXL}, func(s *setup) { s.roles = map[string]string{"d0": "prefill"} })
	g := a.ask(t.Context(), chatPath, streamedChat)
	require.Equal(t, 503, g.status)
	require.Contains(t, string(g.body), "no server of the model")
}
