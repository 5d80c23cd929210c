package plugins_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// clinic is a ward of p and q, which compute prompts, d and e, which answer, and m, which does both.
type clinic struct{ *ward }

const (
	p = iota
	q
	d
	e
	m
)

func newClinic(t testing.TB) clinic {
	w := &ward{t: t, f: mustEjection(t, plugins.EjectionOptions{})}
	for i, name := range []string{"p", "q", "d", "e", "m"} {
		ep := schedulingtest.Endpoint(name)
		ep.Slot = uint32(i)
		w.eps = append(w.eps, ep)
	}
	return clinic{w}
}

// pair is a request of which one computes the prompt and the other answers.
type pair struct {
	visit
	prefill *types.Endpoint
}

func (c clinic) send(prefill, answer int) *pair {
	req := c.request()
	req.Stream = true
	one := &pair{visit{c.ward, req, c.eps[answer]}, c.eps[prefill]}
	c.f.PrefillPicked(req, one.prefill, one.ep)
	c.f.Picked(req, one.ep)
	return one
}

// prompt ends the request for the prompt.
func (p *pair) prompt(out types.Outcome) *pair {
	p.req.Now = epoch.Add(p.w.now)
	p.w.f.PrefillFinished(p.req, p.prefill, out)
	return p
}

// again has another one compute the prompt.
func (p *pair) again(prefill int) *pair {
	p.req.Now = epoch.Add(p.w.now)
	p.prefill = p.w.eps[prefill]
	p.w.f.PrefillPicked(p.req, p.prefill, p.ep)
	return p
}

// retry ends the attempt and begins one that answers alone.
func (p *pair) retry(left types.Outcome, alone int) *pair {
	left.Retried = true
	p.end(left)
	p.ep = p.w.eps[alone]
	p.w.f.Picked(p.req, p.ep)
	return p
}

func (p *pair) token() *pair { p.visit.token(); return p }

// after lets time pass.
func (p *pair) after(d time.Duration) *pair { p.w.sleep(d); return p }

// works is what requests to those two look like: a prompt takes 20 ms, the first token 5 more.
func (c clinic) works(prefill, answer int) {
	c.send(prefill, answer).after(20 * time.Millisecond).prompt(served).after(5 * time.Millisecond).token().end(served)
}

// learned is a clinic where all have answered, all know what is usual, and nobody failed.
func learned(t testing.TB) clinic {
	c := newClinic(t)
	for range 15 {
		c.works(p, d)
		c.works(q, e)
		c.works(m, e)
		c.works(q, m)
	}
	return c
}

func TestEjectionApart(t *testing.T) {
	const all, long = "p q d e m", 300 * time.Millisecond
	aborted := types.Outcome{Cancelled: true}
	for _, tt := range []struct {
		name string
		do   func(clinic)
		want string
	}{
		{"nothing happened", func(clinic) {}, all},
		{"a prompt that gets no answer", func(c clinic) { c.send(p, d).prompt(unreached).end(types.Outcome{Unsent: true}) }, "q d e m"},
		{"and the end of the request is told as if it were the other's fault", func(c clinic) {
			c.send(p, d).prompt(unreached).end(unreached)
		}, "q d e m"},
		{"two prompts that fail", func(c clinic) {
			for range 2 {
				c.send(p, d).prompt(broken).end(broken)
			}
		}, all},
		{"three prompts that fail", func(c clinic) {
			for range 3 {
				c.send(p, d).prompt(broken).end(broken)
			}
		}, "q d e m"},
		{"one served between", func(c clinic) {
			for range 5 {
				c.send(p, d).prompt(broken).end(broken)
				c.send(p, e).prompt(broken).end(broken)
				c.works(p, d)
			}
		}, all},
		{"three answers that fail", func(c clinic) {
			for range 3 {
				c.send(p, d).prompt(served).end(broken)
			}
		}, "p q e m"},
		{"an answer that was never asked for", func(c clinic) { c.send(p, d).end(movedOn) }, all},
		{"an answer that is refused while the prompt is computed", func(c clinic) { c.send(p, d).prompt(aborted).end(unreached) }, "p q e m"},
		{"a busy prefiller", func(c clinic) { c.send(p, d).prompt(types.Outcome{Status: 429}).end(types.Outcome{Unsent: true}) }, "q d e m"},
		{"a prompt that the client got wrong", func(c clinic) {
			for range 9 {
				c.send(p, d).prompt(types.Outcome{Status: 400}).end(types.Outcome{Status: 400})
			}
		}, all},
		{"one request puts out one endpoint", func(c clinic) {
			c.send(p, d).prompt(unreached).again(q).prompt(unreached).again(m).prompt(served).retry(unreached, e).end(unreached)
		}, "q d e m"},
		{"the next prefiller serves", func(c clinic) {
			for range 9 {
				c.send(q, d).prompt(unreached).again(p).prompt(served).token().end(served)
				c.sleep(time.Minute)
				c.works(q, d)
			}
		}, all},
		{"the prefiller hangs", func(c clinic) {
			for range 3 {
				one := c.send(p, d)
				c.works(q, e)
				one.after(long).prompt(aborted).end(gone)
			}
		}, "q d e m"},
		{"the prefiller hangs, and deadlines expire", func(c clinic) {
			for range 3 {
				one := c.send(p, d)
				c.works(q, e)
				one.after(long).prompt(late).end(late)
			}
		}, "q d e m"},
		{"the prefiller hangs, others go on", func(c clinic) {
			for range 4 {
				one := c.send(p, d)
				c.works(q, e)
				one.after(long).prompt(late).again(q).after(20 * time.Millisecond).prompt(served).after(5 * time.Millisecond).token().end(served)
			}
		}, "q d e m"},
		{"the one that answers hangs", func(c clinic) {
			for range 3 {
				one := c.send(p, d).after(20 * time.Millisecond).prompt(served)
				c.works(q, e)
				one.after(long).end(gone)
			}
		}, "p q e m"},
		{"the one that answers hangs, seen when more is sent there", func(c clinic) {
			for range 4 {
				c.send(p, d).after(20 * time.Millisecond).prompt(served)
				c.works(q, e)
				c.sleep(long)
			}
		}, "p q e m"},
		{"one that does both hangs with prompts", func(c clinic) {
			for range 3 {
				one := c.send(m, d)
				c.works(q, e)
				one.after(long).prompt(aborted).end(gone)
			}
		}, "p q d e"},
		{"one that does both hangs with either", func(c clinic) {
			for i := range 3 {
				var one *pair
				if i%2 == 0 {
					one = c.send(p, m).after(20 * time.Millisecond).prompt(served)
				} else {
					one = c.send(m, d)
				}
				c.works(q, e)
				one.after(long).prompt(aborted).end(gone)
			}
		}, "p q d e"},
		{"one that does both still answers", func(c clinic) {
			for range 9 {
				one := c.send(m, d)
				c.works(q, m)
				one.after(long).prompt(aborted).end(gone)
			}
		}, all},
		// Both are asked at once, and the prompt's request ends with, or after, the first token.
		{"prompts handed over at the first token", func(c clinic) {
			for range 9 {
				one := c.send(p, d).after(long).token()
				c.works(q, e)
				one.after(long).prompt(aborted).end(served)
			}
		}, all},
		{"prompts that end after the first token", func(c clinic) {
			for range 9 {
				c.send(p, d).after(25 * time.Millisecond).token().prompt(served).after(time.Hour).end(served)
			}
		}, all},
		{"prompts that end after the answer has ended", func(c clinic) {
			for range 9 {
				c.send(p, d).after(25 * time.Millisecond).token().end(served)
			}
			c.sleep(time.Hour)
			for range 4 { // which would find those that wait
				c.works(q, e)
				c.works(p, d)
			}
		}, all},
		{"a prompt that breaks off after the first token", func(c clinic) {
			for range 3 {
				c.send(p, d).after(25 * time.Millisecond).token().prompt(cutOff).end(served)
			}
		}, "q d e m"},
		{"nobody waits any more after a retry", func(c clinic) {
			for range 9 {
				one := c.send(p, d)
				one.prompt(aborted).retry(types.Outcome{Unsent: true}, e)
				c.works(q, m)
				one.after(5 * time.Millisecond).token().end(served)
				c.sleep(long)
				c.works(p, d)
			}
		}, all},
		{"after a retry the one that is alone hangs", func(c clinic) {
			c.alone(30 * time.Millisecond)
			for range 3 {
				one := c.send(p, d).prompt(types.Outcome{Status: 400}).retry(types.Outcome{Unsent: true}, e)
				other := c.send(q, m)
				other.prompt(aborted).retry(types.Outcome{Unsent: true}, m)
				other.after(30 * time.Millisecond).token().end(served)
				one.after(long).end(gone)
			}
		}, "p q d m"},
		{"served twice", func(c clinic) {
			for range 9 {
				c.send(p, d).prompt(served).prompt(broken).token().end(served)
			}
		}, all},
		{"the prompt of a copy", func(c clinic) {
			one := c.send(p, d)
			clone := *one.req
			c.f.PrefillFinished(&clone, one.prefill, unreached)
			one.prompt(served).token().end(served)
		}, all},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := learned(t)
			tt.do(c)
			c.wantKept(tt.want, "then")
		})
	}
}

// alone has e and m answer whole requests until it is known how long that takes.
func (c clinic) alone(takes time.Duration) {
	for range 15 {
		for _, i := range []int{e, m} {
			v := visit{c.ward, c.request(), c.eps[i]}
			v.req.Stream = true
			c.f.Picked(v.req, v.ep)
			c.sleep(takes)
			v.token().end(served)
		}
	}
}

// An endpoint on probation gets one request, which does not count against it as long as it waits for
// a prompt, and then does.
func TestEjectionApartProbation(t *testing.T) {
	const without = "p q e m"
	eject := func(t *testing.T) clinic {
		c := learned(t)
		c.send(p, d).prompt(served).end(unreached)
		c.wantKept(without, "ejected")
		c.sleep(time.Second)
		c.wantKept("p q d e m", "on probation")
		return c
	}

	c := eject(t)
	c.send(p, d).after(time.Minute).prompt(types.Outcome{Cancelled: true}).end(gone)
	c.wantKept("p q d e m", "its client left while it waited for the prompt")
	require.Equal(t, 1, c.f.Ejected())

	one := c.send(p, d)
	c.wantKept(without, "while that request is in flight")
	one.after(time.Minute).prompt(served).end(gone)
	c.wantKept("p q d e m", "its client left as soon as the prompt was there")
	c.send(p, d).prompt(served).after(time.Minute).end(gone)
	c.wantKept(without, "its client waited in vain for the answer")
	c.sleep(2 * time.Second)
	c.works(p, d)
	require.Zero(t, c.f.Ejected())
}

// What is usual is learned for each part on its own.
func TestEjectionApartPatience(t *testing.T) {
	c := learned(t)
	c.send(p, d).prompt(served).end(unreached)
	req := c.request()
	req.Stream = true
	require.Equal(t, plugins.UnknownPatience, c.f.Patience(req, c.eps[d]), "of a whole request, which nobody has served")
	req.Split = true
	require.Equal(t, plugins.MinPatience, c.f.Patience(req, c.eps[d]), "of a prompt and an answer, 25 ms in all")
	req.Prompt.Tokens = 100 << 10
	require.Equal(t, plugins.UnknownPatience, c.f.Patience(req, c.eps[d]), "of a longer prompt")
	req.Prompt.Tokens = 0
	c.alone(100 * time.Millisecond)
	require.Greater(t, c.f.Patience(req, c.eps[d]), 150*time.Millisecond, "of a whole request, which takes 100 ms")
}

func TestEjectionApartAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := learned(t)
	req := at(schedulingtest.Request("hello"))
	life := func(out types.Outcome) func() {
		return func() {
			c.f.PrefillPicked(req, c.eps[p], c.eps[d])
			c.f.Picked(req, c.eps[d])
			c.f.PrefillFinished(req, c.eps[p], out)
			c.f.FirstToken(req, c.eps[d])
			c.f.Finished(req, c.eps[d], out)
		}
	}
	require.Zero(t, testing.AllocsPerRun(100, life(served)))
	require.Zero(t, testing.AllocsPerRun(100, life(gone)))
}

// halves sends every prompt to a prefiller at random.
type halves struct{}

func (halves) Split(_ context.Context, _ *types.Request, eps, prefill []*types.Endpoint, _ bool, by []int32, _ []float64) error {
	for i := range eps {
		by[i] = int32(rand.IntN(len(prefill)))
	}
	return nil
}

// TestEjectionApartConcurrency runs everything at once through a scheduler, with p dead and the others
// alive: in the end only p is ejected, and nothing is left behind. Run it with -race.
func TestEjectionApartConcurrency(t *testing.T) {
	c := newClinic(t)
	for i, role := range []types.Roles{types.RolePrefill, types.RolePrefill, types.RoleDecode, types.RoleDecode, types.RolePrefill | types.RoleDecode} {
		c.eps[i].Roles = role
	}
	s := mustNew(t, scheduling.Profile{
		Filters:  []scheduling.Named{{Name: "ejection", Filter: c.f}},
		Picker:   plugins.Random{},
		Splitter: halves{}, Fallbacks: 1, Alone: scheduling.AloneLimits{Share: 1, Prefill: time.Hour},
	})
	prompt := func(d *scheduling.Decision) (served bool) {
		if d.Prefill().ID == "p" {
			d.PrefillDone(unreached)
			return false
		}
		d.PrefillDone(types.Outcome{Status: 200})
		return true
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 400 {
				req := schedulingtest.Request("hello")
				req.Stream, req.Split = true, true
				d, err := s.Schedule(ctx, req, c.eps)
				if err != nil {
					t.Error(err)
					return
				}
				for d.Prefill() != nil && rnd.IntN(4) > 0 && !prompt(d) {
					if rnd.IntN(3) == 0 {
						d.RetryApart(ctx, c.eps[2+rnd.IntN(3)], types.Outcome{Unsent: true}, c.eps)
					} else if d.PrefillAgain(ctx, c.eps) == nil {
						_ = d.Alone(types.Outcome{Unsent: true}, c.eps)
					}
				}
				switch rnd.IntN(6) {
				case 0:
					d.Done(types.Outcome{Cancelled: true})
				case 1:
					var late sync.WaitGroup
					late.Go(func() { d.PrefillDone(types.Outcome{Status: 200}) })
					d.FirstToken()
					d.Done(types.Outcome{Status: 200})
					late.Wait()
				default:
					d.FirstToken()
					d.Done(types.Outcome{Status: 200})
				}
			}
		})
	}
	wg.Wait()
	require.LessOrEqual(t, c.f.Ejected(), 1)
	for _, ep := range c.eps {
		require.Zero(t, ep.Load.Held(), ep.ID)
	}
	c.now = time.Since(epoch) + time.Hour
	for i, name := range []string{"p", "q", "d", "e", "m"} {
		c.ward.sends(i, 1, served)
		require.Empty(t, c.f.Describe(c.request(), c.eps[i]), name)
	}
	require.Zero(t, c.f.Ejected())
}
