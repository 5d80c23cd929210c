package rollout_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

// chaos is two machines over one home, in a world in which everything happens that can, and what must hold all the
// same.
type chaos struct {
	*rand.Rand
	t        *testing.T
	plan     rollout.Plan
	machines [2]*rollout.Machine
	stale    [2]*rollout.Record // what each has read last
	home     *memory
	now      time.Time
	servers  []rollout.Server
	flight   map[string]int
	quiet    [2]map[string]time.Time // since when each machine was told that a target has no requests
	error    float64                 // share of failures of the canary

	theirs    []rollout.Weight // an edit that no person has overruled; nil: there is none
	lastState rollout.State
	retried   bool // somebody has had a failed rollout begin anew
	log       []string
}

func (c *chaos) say(format string, args ...any) {
	c.log = append(c.log, c.now.Format("04:05 ")+fmt.Sprintf(format, args...))
}

func (c *chaos) must(ok bool, format string, args ...any) {
	if !ok {
		for _, line := range c.log[max(len(c.log)-40, 0):] {
			c.t.Log(line)
		}
		c.t.Fatalf(format, args...)
	}
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{Rand: rand.New(rand.NewPCG(seed, 11)), t: t, now: start, flight: map[string]int{}}
	c.plan = plan(10, 50, 100)
	c.plan.Load = rollout.LoadPlan{Unload: c.IntN(2) == 0, Grace: 2 * time.Second, Timeout: 5 * time.Second, Share: .5}
	c.plan.Deadline = 5 * time.Minute
	if c.IntN(2) == 0 {
		c.plan.OnUnsure = rollout.Abort
	}
	c.error = []float64{0, 0, .1, 1}[c.IntN(4)]
	c.home = newMemory(rollout.Weight{Target: "v1", Weight: 1})
	for i := range 1 + c.IntN(4) {
		c.servers = append(c.servers, rollout.Server{ID: fmt.Sprint("s", i), Ready: true, Canary: rollout.HasNot,
			Stable: rollout.HasIt})
	}
	for i := range c.machines {
		c.open(i)
	}
	return c
}

func (c *chaos) open(i int) {
	c.say("machine %d starts anew", i)
	c.stale[i] = c.home.read()
	m, err := rollout.Open(c.plan, *c.stale[i], c.now)
	require.NoError(c.t, err)
	c.machines[i] = m
	c.quiet[i] = map[string]time.Time{}
}

func (c *chaos) run(seconds int) {
	for range seconds {
		c.now = c.now.Add(time.Second)
		c.happen()
		c.traffic()
		for i := range c.machines {
			if i == 1 && c.IntN(3) > 0 {
				continue // a second writer is the exception
			}
			if c.IntN(4) > 0 {
				c.stale[i] = c.home.read()
			}
			c.tick(i)
		}
	}
}

func (c *chaos) tick(i int) {
	w := rollout.World{Record: c.stale[i], Servers: slices.Clone(c.servers), InFlight: c.flight}
	if c.IntN(30) == 0 {
		w.Record = nil
	}
	if c.IntN(30) == 0 {
		w.InFlight = nil
	}
	for _, target := range []string{"v1", "v2"} {
		if c.flight[target] > 0 {
			delete(c.quiet[i], target)
		} else if _, ok := c.quiet[i][target]; !ok {
			c.quiet[i][target] = c.now
		}
	}
	for _, a := range c.machines[i].Tick(c.now, w) {
		switch a.Do {
		case rollout.DoTell:
			c.say("machine %d: %s: %s", i, a.Event.Kind, a.Event.Text)
		case rollout.DoWrite:
			c.write(i, a.Record)
		case rollout.DoLoad:
			c.load(i, a)
		case rollout.DoUnload:
			c.unload(i, a)
		}
	}
}

func (c *chaos) write(i int, r rollout.Record) {
	before := c.home.Record
	c.home.fail, c.home.done = nil, nil
	switch c.IntN(20) {
	case 0:
		c.home.fail = func() error { return errors.New("no answer") }
		c.home.done = func() bool { return c.IntN(2) == 0 }
	case 1:
		c.home.fail = func() error { return rollout.ErrConflict }
	}
	revision, err := c.home.write(r)
	if c.home.Revision != before.Revision {
		c.written(i, before, c.home.Record)
	}
	if err == nil {
		c.stale[i] = c.home.read()
	}
	c.machines[i].Written(c.now, revision, err)
}

// written checks what has got into the home.
func (c *chaos) written(i int, before, after rollout.Record) {
	s, err := rollout.DecodeState(after.State)
	c.must(err == nil, "state %s: %v", after.State, err)
	c.say("machine %d has written %s %d, %v, paused %q", i, s.Phase, s.Step, after.Weights, s.Paused)
	c.must(len(after.State) <= rollout.MaxState, "a state of %d bytes", len(after.State))
	c.must(s.Seq > c.lastState.Seq, "seq %d after %d", s.Seq, c.lastState.Seq)
	if s.Changed {
		c.must(slices.Equal(before.Weights, after.Weights), "weights of somebody else were overwritten: %v by %v",
			before.Weights, after.Weights)
	} else {
		sum := int32(0)
		for _, w := range after.Weights {
			sum += w.Weight
			c.must(w.Target == "v1" || w.Target == "v2", "target %s", w.Target)
		}
		c.must(sum == rollout.TotalWeight, "weights %v", after.Weights)
		c.must(c.theirs == nil || slices.Equal(c.theirs, before.Weights) && rollout.SameShares(c.theirs, after.Weights),
			"an edit was overwritten: %v by %v", c.theirs, after.Weights)
		was, is := canaryShare(before.Weights), canaryShare(after.Weights)
		if is > was {
			has := func(s rollout.Server) bool { return s.Ready && s.Canary == rollout.HasIt }
			c.must(slices.ContainsFunc(c.servers, has) || s.Phase == rollout.Finishing, "no server has what gets more")
			c.must(s.Phase == rollout.Stepping || c.lastState.Changed, "the weights rise in phase %s", s.Phase)
		}
		switch s.Phase {
		case rollout.Loading, rollout.Aborting, rollout.Failed:
			c.must(is == 0, "the canary has traffic in phase %s", s.Phase)
		case rollout.Finishing, rollout.Done:
			c.must(is == 1, "the stable target has traffic in phase %s", s.Phase)
		}
	}
	failed := []rollout.Phase{rollout.Aborting, rollout.Failed}
	if slices.Contains(failed, c.lastState.Phase) && !slices.Contains(failed, s.Phase) {
		c.must(c.retried && s.Phase == rollout.Loading, "phase %s follows %s, retried %v", s.Phase, c.lastState.Phase,
			c.retried)
		c.retried = false
	}
	c.lastState = s
}

func (c *chaos) server(id string) *rollout.Server {
	i := slices.IndexFunc(c.servers, func(s rollout.Server) bool { return s.ID == id })
	c.must(i >= 0, "there is no server %s", id)
	return &c.servers[i]
}

func (c *chaos) load(i int, a rollout.Action) {
	s := c.server(a.Server)
	c.must(a.Target == "v2" && s.Ready && (s.Canary == rollout.HasNot || s.Canary == rollout.HasFailed),
		"load %+v on %+v", a, s)
	c.say("machine %d loads %s on %s", i, a.Target, a.Server)
	s.Canary = rollout.HasLoading
}

func (c *chaos) unload(i int, a rollout.Action) {
	s := c.server(a.Server)
	since, quiet := c.quiet[i][a.Target]
	c.must(c.flight[a.Target] == 0 && quiet && c.now.Sub(since) >= c.plan.Load.Grace,
		"%s is unloaded at %v with %d requests, quiet since %v",
		a.Target, c.now, c.flight[a.Target], since)
	state := c.machines[i].State()
	c.must(state.Paused == "", "it unloads while it is paused")
	if a.Target == "v1" {
		c.must(state.Phase == rollout.Finishing, "the stable target is unloaded in phase %s", state.Phase)
		s.Stable = rollout.HasNot
	} else {
		c.must(state.Phase == rollout.Aborting, "the canary is unloaded in phase %s", state.Phase)
		s.Canary = rollout.HasNot
	}
	c.say("machine %d unloads %s on %s", i, a.Target, a.Server)
}

// happen lets something happen to servers, people and programs.
func (c *chaos) happen() {
	for i := range c.servers {
		s := &c.servers[i]
		if s.Canary == rollout.HasLoading && c.IntN(3) == 0 {
			s.Canary, s.Err, s.Tries = rollout.HasIt, "", 0
			if c.IntN(10) == 0 {
				s.Canary, s.Err, s.Tries = rollout.HasFailed, "out of memory", s.Tries+1
			}
		}
	}
	if c.IntN(16) > 0 {
		return
	}
	s := &c.servers[c.IntN(len(c.servers))]
	m := c.machines[c.IntN(2)]
	switch c.IntN(14) {
	case 0:
		s.Ready = !s.Ready
	case 1:
		s.Canary, s.Incarnation, s.Tries = rollout.HasNot, s.Incarnation+1, 0
		c.say("%s restarts", s.ID)
	case 2:
		c.servers = append(c.servers, rollout.Server{ID: fmt.Sprint("n", c.now.Unix()), Ready: true,
			Canary: rollout.HasUnknown, Stable: rollout.HasIt})
	case 3:
		if len(c.servers) > 1 {
			c.servers = c.servers[1:]
		}
	case 4:
		if s.Canary == rollout.HasUnknown {
			s.Canary = rollout.HasNot
		}
	case 5:
		c.say("pause: %v", m.Pause(c.now, "by chance"))
	case 6, 7:
		c.overrule(m, "resume", m.Resume(c.now, ""))
	case 8:
		c.say("promote: %v", m.Promote(c.now, c.IntN(5) == 0, ""))
	case 9:
		if c.IntN(5) == 0 {
			c.overrule(m, "abort", m.Abort(c.now, "by chance"))
		}
	case 10:
		err := m.Retry(c.now, "")
		c.overrule(m, "retry", err)
		c.retried = c.retried || err == nil
	case 11:
		if c.IntN(4) == 0 {
			c.edit()
		}
	default:
		c.open(c.IntN(2))
	}
}

// overrule notes that a person has overruled an edit, if the machine knew of it.
func (c *chaos) overrule(_ *rollout.Machine, what string, err error) {
	c.say("%s: %v", what, err)
	if err == nil {
		c.theirs = nil
	}
}

func (c *chaos) edit() {
	phase, before := c.lastState.Phase, c.home.Weights
	c.home.Weights = []rollout.Weight{{Target: "v1", Weight: 1 + c.Int32N(5)}, {Target: "v2", Weight: 1 + c.Int32N(5)}}
	c.home.Revision += "e"
	c.say("somebody edits: %v", c.home.Weights)
	if phase != rollout.Done && phase != rollout.Failed && !rollout.SameShares(before, c.home.Weights) {
		c.theirs = c.home.Weights
	}
}

// traffic lets requests happen.
func (c *chaos) traffic() {
	share := canaryShare(c.home.Weights)
	for range c.IntN(60) {
		s := rollout.Sample{Target: "v1", Sent: c.now, Tokens: -1}
		if c.Float64() < share {
			s.Target = "v2"
			s.Failed = c.Float64() < c.error
		}
		for _, m := range c.machines {
			m.Observe(s)
		}
	}
	for _, target := range []string{"v1", "v2"} {
		c.flight[target] = 0
		if has := share > 0 == (target == "v2") || share > 0 && share < 1; has || c.IntN(10) == 0 {
			c.flight[target] = c.IntN(5)
		}
	}
}

// TestChaos: two machines, conflicts, answers that get lost, late records, edits, commands, restarts, servers that come
// and go.
func TestChaos(t *testing.T) {
	t.Parallel()
	ends := map[rollout.Phase]int{}
	for i := range runs(200) {
		c := newChaos(t, uint64(i))
		c.run(600)
		ends[c.lastState.Phase]++
	}
	t.Log(ends)
}
