package rollouts_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
	"github.com/inferpick/inferpick/datastore/kubernetes/rollouts"
	"github.com/inferpick/inferpick/datastore/rollout"
)

// link is a state in the tests: each names the one that its writer had read.
type link struct {
	Seq    int
	Writer string
	Nonce  uint64
	After  uint64
}

// late is a network that holds back patches and loses answers: a process that is suspended in the middle of a Write,
// whose patch arrives when others lead long since.
type late struct {
	http.RoundTripper
	mu  sync.Mutex
	rng *rand.Rand

	inFlight *sync.WaitGroup
	counts   *counts
}

// counts say that a test has tested something.
type counts struct {
	terms, conflicts atomic.Int64
	late             atomic.Int64 // patches that arrived after more than a lease lasts
	refused, taken   atomic.Int64 // of those
}

func (l *late) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	delay, lose := time.Duration(0), false
	if r.Method == http.MethodPatch {
		switch l.rng.IntN(8) {
		case 0:
			delay = time.Duration(l.rng.IntN(60)) * time.Second
		case 1:
			delay = time.Duration(l.rng.IntN(3000)) * time.Millisecond
		case 2:
			lose = true
		}
	}
	l.mu.Unlock()
	if delay == 0 && !lose {
		return l.RoundTripper.RoundTrip(r)
	}
	type answer struct {
		response *http.Response
		err      error
	}
	answered := make(chan answer)
	l.inFlight.Go(func() { // whatever becomes of who has sent it
		time.Sleep(delay)
		response, err := l.RoundTripper.RoundTrip(r.Clone(context.WithoutCancel(r.Context())))
		if delay > leaseLasts {
			l.counts.late.Add(1)
			switch {
			case err == nil && response.StatusCode == http.StatusConflict:
				l.counts.refused.Add(1)
			case err == nil && response.StatusCode == http.StatusOK:
				l.counts.taken.Add(1)
			}
		}
		select {
		case answered <- answer{response, err}:
		case <-r.Context().Done():
			if err == nil {
				response.Body.Close()
			}
		}
	})
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case a := <-answered:
		if lose && a.err == nil {
			a.response.Body.Close()
			return nil, errors.New("the answer is lost")
		}
		return a.response, a.err
	}
}

// TestNeverTwoWriters: three processes elect a writer, while patches arrive late, answers are lost, leases are lost as
// the API server is away, and people edit the object. Every state follows the one that its writer had read, weights are
// those of the state, and no edit is lost.
func TestNeverTwoWriters(t *testing.T) {
	t.Parallel()
	seeds := 6
	if testing.Short() {
		seeds = 2
	}
	n := new(counts)
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { play(t, uint64(seed), n) })
	}
	t.Logf("%d terms, %d conflicts; of %d patches later than a lease lasts %d were refused, %d taken",
		n.terms.Load(), n.conflicts.Load(), n.late.Load(), n.refused.Load(), n.taken.Load())
	require.Greater(t, n.terms.Load(), int64(seeds))
	require.Positive(t, n.conflicts.Load())
	require.Positive(t, n.refused.Load())
}

// leaseLasts is for how long a holder that is not heard of keeps it.
const leaseLasts = 5 * time.Second

func play(t *testing.T, seed uint64, n *counts) {
	rng := rand.New(rand.NewPCG(seed, 1))
	server := newServer(t)
	ctx, cancel := context.WithCancel(t.Context())
	var processes, inFlight sync.WaitGroup
	for i := range 3 {
		name := fmt.Sprint("process-", i)
		config, own := server.Config(), rand.New(rand.NewPCG(seed, uint64(i+2)))
		config.Wrap(func(rt http.RoundTripper) http.RoundTripper {
			return &late{RoundTripper: rt, rng: own, inFlight: &inFlight, counts: n}
		})
		home, _ := homeAt(t, server, config, quiet)
		processes.Go(func() {
			err := lease.Elect(ctx, server.Config(), lease.Options{Namespace: "default", Name: "l", Identity: name, Duration: leaseLasts}, func(ctx context.Context) {
				n.terms.Add(1)
				home.Lead(ctx)
			})
			if err != nil {
				t.Error(err)
			}
		})
		processes.Go(func() {
			nonce := uint64(i) << 32
			for ctx.Err() == nil {
				time.Sleep(time.Duration(own.IntN(1500)) * time.Millisecond)
				nonce++
				if errors.Is(advance(ctx, home, link{Writer: name, Nonce: nonce}, time.Duration(own.IntN(1000))*time.Millisecond), rollout.ErrConflict) {
					n.conflicts.Add(1)
				}
			}
		})
	}
	edits := 0
	for range 120 {
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
		switch rng.IntN(6) {
		case 0: // the server is away for who leads: the lease goes to another one
			leader := holder(server)
			server.Fail(func(q fakeapi.Request) *fakeapi.Failure {
				if q.Resource == "leases" && holder(server) == leader {
					return fakeapi.Away(q)
				}
				return nil
			})
			time.Sleep(time.Duration(3+rng.IntN(4)) * time.Second)
			server.Fail(nil)
		case 1, 2: // somebody edits what is not the rollout's
			edits++
			server.Change(fakeapi.Model, "default", "chat", func(o map[string]any) {
				o["metadata"].(map[string]any)["annotations"].(map[string]any)["edits"] = fmt.Sprint(edits)
				o["status"] = map[string]any{"edits": float64(edits)}
			})
		}
	}
	cancel()
	processes.Wait()
	inFlight.Wait()
	require.Greater(t, check(t, server), 40, "states")
}

// advance reads and writes the next state, as a rollout does that always goes on.
func advance(ctx context.Context, home *rollouts.Home, next link, think time.Duration) error {
	r, err := home.Read(ctx, chat)
	if err != nil {
		return err
	}
	var was link
	if len(r.State) > 0 {
		if err := json.Unmarshal(r.State, &was); err != nil {
			return err
		}
	}
	time.Sleep(think)
	next.Seq, next.After = was.Seq+1, was.Nonce
	r.State, _ = json.Marshal(next)
	w := int32(next.Seq % 10000)
	r.Weights = []rollout.Weight{{Target: "v1", Weight: 10000 - w}, {Target: "v2", Weight: w}}
	_, err = home.Write(ctx, chat, r)
	return err
}

func holder(server *fakeapi.Server) string {
	o := server.Get(fakeapi.Leases, "default", "l")
	spec, _ := o["spec"].(map[string]any)
	name, _ := spec["holderIdentity"].(string)
	return name
}

// check returns how many states there were, one after the other.
func check(t *testing.T, server *fakeapi.Server) int {
	var before link
	edits := ""
	for _, o := range server.History(fakeapi.Model, "default", "chat") {
		notes := o["metadata"].(map[string]any)["annotations"].(map[string]any)
		var now link
		if text, ok := notes[rollout.StateAnnotation].(string); ok {
			require.NoError(t, json.Unmarshal([]byte(text), &now))
		}
		edit, _ := notes["edits"].(string)
		switch {
		case now == before:
			edits = edit // an edit of somebody else
			continue
		case edit != edits:
			t.Fatalf("an edit is lost: %q instead of %q", edit, edits)
		}
		require.Equal(t, before.Nonce, now.After, "%+v was written by who had not read %+v", now, before)
		require.Equal(t, before.Seq+1, now.Seq)
		sum := 0.0
		for _, one := range o["spec"].(map[string]any)["targetModels"].([]any) {
			target := one.(map[string]any)
			sum += target["weight"].(float64)
			if target["name"] == "v2" {
				require.InDelta(t, now.Seq, target["weight"], 0, "the weights are those of the state")
			}
		}
		require.InDelta(t, 10000, sum, 0)
		before = now
	}
	return before.Seq
}
