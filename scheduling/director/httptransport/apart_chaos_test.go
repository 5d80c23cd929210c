package httptransport_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
)

// Engines fail in every way, end and come back, and clients leave, all at once: what a client gets is
// right, or is an error; no answer is given twice; and in the end nothing is left.
func TestApartChaos(t *testing.T) {
	length := time.Second
	if testing.Short() {
		length = 500 * time.Millisecond
	}
	noLeaks(t, func() {
		tests := map[string]func(testing.TB){}
		for _, protocol := range protocols() {
			tests[protocol.String()] = func(t testing.TB) { chaos(t, protocol, length) }
		}
		together(t, tests)
	})
}

func chaos(t testing.TB, protocol dt.Protocol, length time.Duration) {
	const seed = 7
	a := newApart(t, dt.Options{
		Protocol: protocol, Prefill: 3, Decode: 3, Encode: 2, Settle: 3 * time.Second, Wait: time.Hour, Lease: time.Hour, Seed: seed,
		// An answer takes longer than a leg lingers that nobody wants.
		Behaviour: dt.Behaviour{PrefillTime: 20 * time.Millisecond, TransferTime: 5 * time.Millisecond, TokenTime: 40 * time.Millisecond, EncodeTime: 10 * time.Millisecond},
	}, func(s *setup) {
		s.profile.Splitter = always{patience: 2 * time.Second}
		s.profile.Alone = limits(time.Second, 1)
		if protocol == dt.SGLang {
			s.roles = notAlone
		}
	})
	for _, engines := range [][]*dt.Engine{a.c.Prefill, a.c.Decode, a.c.Encode} {
		for _, e := range engines {
			for _, phase := range []dt.Phase{dt.Before, dt.BeforeTransfer, dt.Head, dt.Body} {
				for _, kind := range []dt.Kind{dt.Die, dt.Refuse, dt.Status} {
					e.Fail(dt.Fault{Phase: phase, Kind: kind, Chance: 0.01})
				}
			}
		}
	}
	end := time.Now().Add(length)
	var left, right, failed atomic.Int64
	var clients sync.WaitGroup
	for n := range 16 {
		clients.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(n)))
			for i := 0; time.Now().Before(end); i++ {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				leaves := rnd.IntN(8) == 0
				if leaves {
					time.AfterFunc(time.Duration(rnd.IntN(300))*time.Millisecond, cancel)
				}
				content := fmt.Sprintf(`"hello %d"`, rnd.IntN(100))
				if rnd.IntN(3) == 0 {
					content = fmt.Sprintf(`[{"type":"image_url","image_url":{"url":"http://a/%d"}},{"type":"image_url","image_url":{"url":"http://a/b"}}]`, rnd.IntN(10))
				}
				body := fmt.Sprintf(`{"model":"m","messages":[{"role":"user","content":%s}],"user":"%d-%d","stream":%v}`, content, n, i, rnd.IntN(2) == 0)
				g := a.ask(ctx, chatPath, body)
				switch {
				case errors.Is(ctx.Err(), context.DeadlineExceeded):
					t.Errorf("no answer in 20 s")
				case leaves:
					left.Add(1)
				case g.err != nil, g.status >= 500, strings.Contains(string(g.body), `"error"`):
					failed.Add(1)
				default:
					a.right(t, chatPath, body, g)
					right.Add(1)
				}
				cancel()
			}
		})
	}
	clients.Go(func() {
		rnd := rand.New(rand.NewPCG(seed, 1<<32))
		for time.Now().Before(end) {
			time.Sleep(100 * time.Millisecond)
			engines := slices.Concat(a.c.Prefill, a.c.Decode, a.c.Encode)
			e := engines[rnd.IntN(len(engines))]
			e.Kill()
			time.Sleep(50 * time.Millisecond)
			if !restarts(e) {
				return
			}
		}
	})
	clients.Wait()
	require.Positive(t, a.c.Stats().Encode)
	require.Greater(t, right.Load(), failed.Load(), "%d have left", left.Load())
	a.empty(t)
	var rest []string
	pinned := 0
	if err := a.c.Check(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			// A client that leaves at the moment at which the answer is on its way takes the
			// only words along by which the cache could be freed.
			if strings.HasPrefix(line, "disaggtest: pinned") {
				pinned++
			} else {
				rest = append(rest, line)
			}
		}
	}
	require.Empty(t, rest)
	require.LessOrEqual(t, pinned, 1+int(left.Load())/8)
}
