package rollout_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

// said returns all texts of events.
func (r *rig) said() string {
	var b strings.Builder
	for _, e := range r.events {
		b.WriteString(string(e.Kind) + ": " + e.Text + "\n")
	}
	return b.String()
}

// good lets so many requests of both targets end well, of the stable one as many, and bad of the canary badly.
func (r *rig) good(n, bad int) {
	for range n {
		r.m.Observe(rollout.Sample{Target: "v1", Sent: r.now, Tokens: -1})
		r.m.Observe(rollout.Sample{Target: "v2", Sent: r.now, Tokens: -1})
	}
	for range bad {
		r.m.Observe(rollout.Sample{Target: "v2", Sent: r.now, Failed: true})
	}
}

// stepping returns a rig in its first step.
func stepping(t *testing.T, p rollout.Plan) *rig {
	r := newRig(p)
	for range 5 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Stepping, r.phase(), r.said())
	return r
}

// A stop says how the last request failed.
func TestSaysHowItFailed(t *testing.T) {
	r := stepping(t, plan(10, 100))
	for range 5 {
		r.m.Observe(rollout.Sample{Target: "v1", Sent: r.now, Tokens: -1})
		r.m.Observe(rollout.Sample{Target: "v2", Sent: r.now, Failed: true, Status: 404})
	}
	r.tick(time.Second)
	require.Equal(t, "5 of the last 5 requests failed, of the stable target 0 of 5; the last one with status 404", r.m.State().Reason)
}

// A canary that refuses everything is stopped, though no request of it counts for anything else.
func TestRefusesAll(t *testing.T) {
	r := stepping(t, plan(10, 100))
	for range 1000 {
		r.m.Observe(rollout.Sample{Target: "v1", Sent: r.now, Tokens: -1})
	}
	for range 19 {
		r.m.Observe(rollout.Sample{Target: "v2", Sent: r.now, Refused: true, Tokens: -1})
	}
	r.tick(time.Second)
	require.Equal(t, rollout.Stepping, r.phase())
	r.m.Observe(rollout.Sample{Target: "v2", Sent: r.now, Refused: true, Tokens: -1})
	r.tick(time.Second)
	require.Contains(t, r.m.State().Reason, "20 of 20 requests were refused (4xx), against 0 of 1000")
	require.Zero(t, r.share())
}

// A step that some metrics could not judge says so: without streams nobody knows of times.
func TestSaysWhatIsNotJudged(t *testing.T) {
	p := plan(10, 100)
	p.Metrics = []rollout.Metric{{Name: rollout.Errors}, {Name: rollout.TTFT}, {Name: rollout.TPOT}}
	r := stepping(t, p)
	r.good(1000, 0)
	r.tick(time.Second)
	require.Contains(t, r.said(), "it is as good as v1, as far as can be told: not judged were ttft, tpot")
}

// A server that cannot be asked is named, with its words.
func TestSaysWhyItIsNotKnown(t *testing.T) {
	m, err := rollout.NewMachine(plan(100), start)
	require.NoError(t, err)
	w := rollout.World{Record: &rollout.Record{Weights: []rollout.Weight{{Target: "v1", Weight: 1}}}, Servers: []rollout.Server{{ID: "s0", Ready: true}}}
	for range 3 {
		for _, a := range m.Tick(start, w) {
			if a.Do == rollout.DoWrite {
				w.Record = &a.Record
				m.Written(start, "1", nil)
			}
		}
	}
	require.Empty(t, m.State().Holding, "it was not asked yet")
	w.Servers[0].Err = "no list of models"
	m.Tick(start, w)
	require.Equal(t, "of 1 of 1 servers it is not known whether they have the canary: s0: no list of models", m.State().Holding)
}

// A clock that is set back puts nothing off for as long.
func TestTrapClockIsSetBack(t *testing.T) {
	r := stepping(t, plan(10, 100))
	r.good(1000, 0)
	r.now = r.now.Add(-48 * time.Hour)
	r.tick(time.Second)
	r.good(2000, 0)
	r.tick(10 * time.Minute)
	require.Equal(t, 1, r.m.State().Step, "%v", r.m.Verdicts())
}

// What a canary was aborted for is not forgotten when somebody pauses and resumes it.
func TestResumeKeepsTheReason(t *testing.T) {
	p := plan(10, 100)
	p.Load.Unload = true
	r := stepping(t, p)
	r.flight["v2"] = 1
	r.good(0, 10)
	r.tick(time.Second)
	require.Equal(t, rollout.Aborting, r.phase())
	reason := r.m.State().Reason
	require.NoError(t, r.m.Pause(r.now, "one moment"))
	require.NoError(t, r.m.Resume(r.now, "go on"))
	require.Equal(t, reason, r.m.State().Reason)
	require.Zero(t, r.share())
	require.Contains(t, r.said(), "failed")
}

// TestWhole: from loading to the end, with each step judged, the last one at 100 % too.
func TestWhole(t *testing.T) {
	p := plan(10, 50, 100)
	p.Steps[1].Pause = 10 * time.Minute
	p.Load = rollout.LoadPlan{Unload: true, Grace: 10 * time.Second, Parallel: 2}
	r := newRig(p)
	r.tick(time.Second)
	require.Len(t, r.asked, 2, "two at once")
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: rollout.TotalWeight}}, r.home.Weights)
	r.tick(time.Second)
	require.Len(t, r.asked, 4)
	r.tick(time.Second)
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: 9000}, {Target: "v2", Weight: 1000}}, r.home.Weights)
	require.Equal(t, []string{"s0", "s1", "s2", "s3"}, r.m.Holders())

	r.tick(time.Second)
	require.Contains(t, r.m.State().Holding, "0 of at least 20 requests")
	r.good(380, 0)
	r.tick(time.Second)
	require.Equal(t, 0, r.m.State().Step, "380 without an error prove nothing")
	r.good(300, 0)
	r.tick(time.Second)
	require.Equal(t, 1, r.m.State().Step, "%v", r.m.Verdicts())
	require.Equal(t, .5, r.share())

	r.good(2000, 0)
	r.tick(5 * time.Minute)
	require.Equal(t, 1, r.m.State().Step, "the pause is not over")
	r.tick(5 * time.Minute)
	require.Equal(t, 1., r.share())
	r.tick(time.Hour)
	require.Equal(t, rollout.Stepping, r.phase(), "the last step is judged too")
	r.good(500, 0)
	r.flight["v1"] = 2
	r.tick(time.Second)
	require.Equal(t, rollout.Finishing, r.phase())
	r.tick(time.Hour)
	require.Equal(t, rollout.Finishing, r.phase(), "requests of the stable target are under way")
	r.flight["v1"] = 0
	r.tick(time.Second)
	r.tick(9 * time.Second)
	require.Len(t, r.asked, 4, "not unloaded before the grace is over")
	r.tick(time.Second)
	require.Equal(t, rollout.Action{Do: rollout.DoUnload, Server: "s0", Target: "v1"}, r.asked[4])
	for range 3 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Done, r.phase(), r.said())
	require.True(t, r.m.Over())
	writes := r.home.writes
	for range 10 {
		r.tick(time.Second)
	}
	require.Equal(t, writes, r.home.writes, "nothing is written once it is over")
	require.Len(t, r.asked, 8)
}

// TestAbortsAtOnce: a hard stop is seen at the outcome itself, in one write, and the canary is unloaded only after its
// last request.
func TestAbortsAtOnce(t *testing.T) {
	p := plan(10, 100)
	p.Load.Unload = true
	r := stepping(t, p)
	r.good(3, 0)
	urgent := 0
	for i := range 5 {
		if r.m.Observe(rollout.Sample{Target: "v2", Sent: r.now, Failed: true}) {
			urgent = i + 1
		}
	}
	require.Equal(t, 5, urgent, "5 of 8 are more than half")
	writes := r.home.writes
	r.flight["v2"] = 1
	r.tick(0)
	require.Equal(t, writes+1, r.home.writes)
	require.Equal(t, 0., r.share())
	require.Equal(t, rollout.Aborting, r.phase())
	r.tick(time.Hour)
	require.Len(t, r.asked, 4)
	r.flight["v2"] = 0
	for range 4 {
		r.tick(10 * time.Second)
	}
	require.Len(t, r.asked, 8)
	r.tick(time.Second)
	require.Equal(t, rollout.Failed, r.phase())
	require.Equal(t, "5 of the last 8 requests failed, of the stable target 0 of 3", r.m.State().Reason)

	require.NoError(t, r.m.Retry(r.now, ""))
	require.False(t, r.m.Over())
	for range 5 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Stepping, r.phase(), r.said())
}

// TestEnvironment: a canary is not blamed for what befalls the stable target too, and what was seen then does not
// count later.
func TestEnvironment(t *testing.T) {
	r := stepping(t, plan(50, 100))
	both := func(n int, failed bool) {
		for range n {
			for _, target := range []string{"v1", "v2"} {
				if r.m.Observe(rollout.Sample{Target: target, Sent: r.now, Failed: failed}) {
					r.tick(0)
				}
			}
		}
	}
	both(30, true)
	r.tick(time.Second)
	require.Equal(t, rollout.Stepping, r.phase(), r.said())
	require.Contains(t, r.m.State().Holding, "the canary is not to blame")
	require.Equal(t, rollout.Environment, r.m.Verdicts()[0].Result)
	both(70, false)
	r.tick(5 * time.Second)
	require.NotEmpty(t, r.m.State().Holding, "it is over for some time first")
	r.tick(6 * time.Second)
	r.tick(time.Second)
	require.Zero(t, r.m.Window().Canary.Requests, "what was seen in trouble is forgotten")
	both(500, false)
	r.tick(time.Second)
	require.Equal(t, 1, r.m.State().Step, "%v %v", r.m.Verdicts(), r.said())
}

func TestEnvironmentOfServers(t *testing.T) {
	r := stepping(t, plan(50, 100))
	r.satur = 1.2
	r.good(1000, 0)
	r.tick(time.Second)
	require.Contains(t, r.m.State().Holding, "saturation 1.20")
	r.satur = math.NaN()
	r.tick(time.Second)
	r.tick(20 * time.Second)
	for i := range 3 {
		r.servers[i].Ready = false
	}
	r.good(1000, 0)
	r.tick(time.Second)
	require.Contains(t, r.m.State().Holding, "1 of 4 servers are ready")
	for i := range 3 {
		r.servers[i].Ready = true
	}
	r.tick(time.Second)
	r.tick(20 * time.Second)
	r.tick(time.Second)
	require.Equal(t, 0, r.m.State().Step)
	r.good(1000, 0)
	r.tick(time.Second)
	require.Equal(t, 1, r.m.State().Step, r.said())
}

// TestNoTraffic: without requests it never goes on, and never fails, unless the plan says so.
func TestNoTraffic(t *testing.T) {
	r := stepping(t, plan(10, 100))
	for range 100 {
		r.tick(time.Hour)
	}
	require.Equal(t, rollout.Stepping, r.phase())
	require.Equal(t, .1, r.share())
	require.Contains(t, r.m.State().Holding, "after 1h0m0s there is no verdict: errors: 0 of at least 20 requests")

	p := plan(10, 100)
	p.OnUnsure, p.Deadline = rollout.Abort, 10*time.Minute
	r = stepping(t, p)
	r.good(19, 0)
	r.tick(9 * time.Minute)
	require.Equal(t, rollout.Stepping, r.phase())
	r.tick(time.Minute)
	require.Equal(t, rollout.Aborting, r.phase())
	require.Equal(t, 0., r.share())
}

// TestChangedBySomebodyElse: it pauses, overwrites nothing, and nothing but a person goes on.
func TestChangedBySomebodyElse(t *testing.T) {
	r := stepping(t, plan(10, 100))
	theirs := []rollout.Weight{{Target: "v1", Weight: 3}, {Target: "v2", Weight: 1}}
	r.home.Weights, r.home.Revision = theirs, "edited"
	r.tick(time.Second)
	require.Equal(t, "changed by somebody else: v1 75 %, v2 25 %", r.m.State().Paused)
	require.True(t, r.m.State().Changed)
	require.Equal(t, theirs, r.home.Weights, "the state is written, the weights stay")
	for range 20 {
		r.m.Observe(rollout.Sample{Target: "v2", Sent: r.now, Failed: true})
	}
	r.tick(time.Hour)
	require.Equal(t, theirs, r.home.Weights, "not even a hard stop overwrites them")
	require.Error(t, r.m.Promote(r.now, false, ""))

	restored, err := rollout.Open(r.m.Plan(), *r.home.read(), r.now)
	require.NoError(t, err)
	for _, m := range []*rollout.Machine{r.m, restored} {
		home := *r.home
		one := &rig{m: m, home: &home, now: r.now, servers: r.servers, flight: r.flight}
		one.tick(time.Second)
		require.Equal(t, theirs, one.home.Weights)
		require.NoError(t, m.Resume(one.now, ""))
		one.tick(time.Second)
		require.Equal(t, .1, one.share(), "a person has said so")
		require.Empty(t, m.State().Paused)
	}
}

// TestChangedWhileResumed: an edit that comes between the resumption and its write counts.
func TestChangedWhileResumed(t *testing.T) {
	r := stepping(t, plan(10, 100))
	r.home.Weights, r.home.Revision = []rollout.Weight{{Target: "v1", Weight: 1}}, "edited"
	r.tick(time.Second)
	require.NoError(t, r.m.Resume(r.now, ""))
	again := []rollout.Weight{{Target: "v1", Weight: 1}, {Target: "v3", Weight: 1}}
	r.home.Weights, r.home.Revision = again, "edited again"
	r.tick(time.Second)
	require.Contains(t, r.m.State().Paused, "v3 50 %")
	r.tick(time.Second)
	require.Equal(t, again, r.home.Weights)
	require.NoError(t, r.m.Abort(r.now, "enough"))
	r.tick(time.Second)
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: rollout.TotalWeight}}, r.home.Weights)
	require.Equal(t, "enough", r.m.State().Reason)
}

// TestEditedWhileAborting: the weights are somebody else's, and the rollout still wants to abort.
func TestEditedWhileAborting(t *testing.T) {
	r := stepping(t, plan(10, 100))
	r.home.fail = func() error { return errors.New("no answer") }
	r.good(0, 6)
	r.tick(0)
	require.Equal(t, rollout.Aborting, r.phase())
	require.Equal(t, .1, r.share())
	r.home.fail = nil
	theirs := []rollout.Weight{{Target: "v1", Weight: 1}, {Target: "v2", Weight: 1}}
	r.home.Weights, r.home.Revision = theirs, "edited"
	r.tick(time.Second)
	require.Equal(t, theirs, r.home.Weights)
	require.Equal(t, rollout.Aborting, r.phase())
	require.NotEmpty(t, r.m.State().Paused)
	require.NoError(t, r.m.Resume(r.now, ""))
	r.tick(time.Second)
	require.Equal(t, 0., r.share())
}

// TestWriteFails: an abort is tried until it is written, also if nobody can say whether it was.
func TestWriteFails(t *testing.T) {
	r := stepping(t, plan(10, 100))
	r.home.fail = func() error { return errors.New("no answer") }
	r.good(0, 6)
	for range 10 {
		r.tick(time.Second)
	}
	require.Equal(t, .1, r.share())
	r.home.fail = nil
	r.tick(time.Second)
	require.Equal(t, 0., r.share())

	r = stepping(t, plan(10, 100))
	writes := r.home.writes
	r.home.fail = func() error { return errors.New("no answer") }
	r.home.done = func() bool { return true }
	r.good(0, 6)
	r.tick(time.Second)
	require.Equal(t, 0., r.share(), "it was written, without an answer")
	r.home.fail = nil
	r.tick(time.Second)
	r.tick(time.Second)
	require.Equal(t, rollout.Failed, r.phase(), r.said())
	require.Equal(t, writes+2, r.home.writes, "and not taken for somebody else's")
	require.Empty(t, r.m.State().Paused)
}

// TestStaleRecord: a record that is read from a cache that is late is no edit; one that stays is.
func TestStaleRecord(t *testing.T) {
	r := stepping(t, plan(10, 100))
	old := r.home.read()
	r.good(500, 0)
	r.tick(time.Second)
	require.Equal(t, 1., r.share())
	w := r.world()
	w.Record = old
	for range 100 {
		r.now = r.now.Add(time.Second)
		r.do(r.m.Tick(r.now, w))
	}
	require.Empty(t, r.m.State().Paused, "what it has written since shows that the record is late")

	r.home.Weights, r.home.State, r.home.Revision = old.Weights, old.State, "restored"
	for range 40 {
		r.tick(time.Second)
	}
	require.Contains(t, r.m.State().Paused, "changed by somebody else")
}

func TestLoadFails(t *testing.T) {
	p := plan(10, 100)
	p.Load.Tries = 2
	r := newRig(p)
	r.failing = "No adapter found for /adapters/v2"
	for range 10 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Failed, r.phase(), r.said())
	require.Equal(t, "the canary could not be loaded: s0: No adapter found for /adapters/v2", r.m.State().Reason)
	require.Len(t, r.asked, 8)
	require.Equal(t, 0., r.share())
}

// TestLoadHangs: a server that answers nothing for longer than it may is one that has failed.
func TestLoadHangs(t *testing.T) {
	r := newRig(plan(10, 100))
	r.tick(time.Second)
	for i := range r.servers {
		r.servers[i].Canary = rollout.HasLoading
	}
	r.tick(time.Second)
	r.tick(2 * time.Minute)
	require.Equal(t, rollout.Loading, r.phase())
	r.tick(2*time.Minute + time.Second)
	require.Equal(t, rollout.Failed, r.phase())
	require.Contains(t, r.m.State().Reason, "s0: it does not answer")
}

// TestShare: three of four servers are enough if the plan says so, and the fourth is still tried.
func TestShare(t *testing.T) {
	p := plan(10, 100)
	p.Load.Share = .75
	r := newRig(p)
	r.servers[2].Canary, r.servers[2].Tries, r.servers[2].Err = rollout.HasFailed, 9, "rank too high"
	for r.phase() == rollout.Loading {
		r.tick(time.Second)
	}
	require.Equal(t, []string{"s0", "s1", "s3"}, r.m.Holders())
	r.tick(time.Second)
	r.tick(time.Second)
	require.Equal(t, []string{"s0", "s1", "s2", "s3"}, r.m.Holders())
}

// TestServersComeAndGo: a new server is loaded; if none has the canary any more, the weights go back until one has.
func TestServersComeAndGo(t *testing.T) {
	r := stepping(t, plan(10, 50, 100))
	r.good(600, 0)
	r.tick(time.Second)
	require.Equal(t, 1, r.m.State().Step)
	r.servers = append(r.servers, rollout.Server{ID: "new", Ready: true, Canary: rollout.HasNot})
	r.tick(time.Second)
	require.Equal(t, "new", r.asked[4].Server)
	require.Contains(t, r.m.State().Holding, "4 of 5 servers have v2")
	r.tick(time.Second)
	require.NotContains(t, r.m.State().Holding, "servers have")

	for i := range r.servers {
		r.servers[i].Canary, r.servers[i].Incarnation = rollout.HasNot, 1
	}
	r.tick(time.Second)
	require.Equal(t, rollout.Loading, r.phase())
	require.Equal(t, 0., r.share())
	for range 4 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Stepping, r.phase(), r.said())
	require.Equal(t, .5, r.share(), "the same step again")
	require.Contains(t, r.said(), "no server that is ready has v2 any more")
}

func TestSlots(t *testing.T) {
	r := newRig(plan(10, 100))
	for i := range 3 {
		r.servers[i].Slots, r.servers[i].Used = 1, 1
	}
	for range 5 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Stepping, r.phase())
	require.Contains(t, r.said(), "Warned: on 3 of 4 servers all places for adapters are in use")
}

// TestUnloadsWhatIsUnknown: a server of which nobody has asked whether it has the stable target is asked to unload it,
// once; one that does not do it is asked as often as the plan says.
func TestUnloadsWhatIsUnknown(t *testing.T) {
	p := plan(100)
	p.Load = rollout.LoadPlan{Unload: true, Grace: time.Second}
	r := newRig(p)
	r.servers[0].Stable = rollout.HasUnknown
	r.servers[1].Stable = rollout.HasNot
	for range 3 {
		r.tick(time.Second)
	}
	require.NoError(t, r.m.Promote(r.now, false, ""))
	asked := map[string]int{}
	for range 60 {
		r.now = r.now.Add(time.Second)
		for _, a := range r.m.Tick(r.now, r.world()) {
			switch a.Do {
			case rollout.DoUnload:
				asked[a.Server]++
			default:
				r.do([]rollout.Action{a})
			}
		}
	}
	require.Equal(t, map[string]int{"s0": 1, "s2": 3, "s3": 3}, asked)
	require.Equal(t, rollout.Done, r.phase())
	require.Contains(t, r.said(), "2 servers have not unloaded v1")
}

// TestStart: weights that do not fit a plan are left as they are.
func TestStart(t *testing.T) {
	for _, c := range []struct {
		name    string
		weights []rollout.Weight
		phase   rollout.Phase
		says    string
	}{
		{"another target", []rollout.Weight{{"v1", 5}, {"v0", 5}}, rollout.Failed,
			"there are other targets than v1 and v2: the weights are v1 50 %, v0 50 %"},
		{"no stable one", []rollout.Weight{{"v0", 5}}, rollout.Failed,
			"the stable target v1 has no traffic: the weights are v0 100 %"},
		{"nothing", nil, rollout.Failed, "the stable target v1 has no traffic: the weights are none"},
		{"all done", []rollout.Weight{{"v2", 1}}, rollout.Failed, "the canary v2 has all traffic already"},
		{"the canary has some", []rollout.Weight{{"v1", 9}, {"v2", 1}}, rollout.Loading,
			"the canary has traffic already: v1 90 %, v2 10 %"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(plan(10, 100))
			r.home = newMemory(c.weights...)
			for range 5 {
				r.tick(time.Second)
			}
			require.Equal(t, c.phase, r.phase())
			require.Contains(t, r.said()+r.m.State().Paused, c.says)
			require.Equal(t, c.weights, r.home.Weights)
			require.Equal(t, c.phase == rollout.Failed, r.m.Over())
		})
	}
}

// TestAnotherPlan takes over what the one before has written, also in the middle of a step.
func TestAnotherPlan(t *testing.T) {
	r := stepping(t, plan(10, 100))
	old := r.m
	p := plan(10, 100)
	p.Canary = "v3"
	m, err := rollout.Open(p, *r.home.read(), r.now)
	require.NoError(t, err)
	r.m = m
	for i := range r.servers {
		r.servers[i].Canary = rollout.HasNot
	}
	r.tick(time.Second)
	require.Equal(t, []rollout.Weight{{Target: "v1", Weight: rollout.TotalWeight}}, r.home.Weights)
	for range 4 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Stepping, r.phase(), r.said())
	require.Empty(t, old.Tick(r.now, r.world())[1:], "the old one has nothing to say but that")
	require.True(t, old.Over())
	require.Empty(t, old.Tick(r.now, r.world()))
}

func TestCommands(t *testing.T) {
	p := plan(10, 50, 100)
	p.Steps[0].Manual = true
	r := newRig(p)
	require.ErrorContains(t, r.m.Pause(r.now, ""), "it has not begun")
	require.ErrorContains(t, r.m.Promote(r.now, false, ""),
		"rollout: cannot promote the rollout of v2 in phase Loading: it is in no step")
	r = stepping(t, p)
	r.good(600, 0)
	r.tick(time.Second)
	require.Equal(t, "it waits for somebody to promote it", r.m.State().Holding)
	require.NoError(t, r.m.Pause(r.now, "lunch\n\"now\""))
	require.Error(t, r.m.Pause(r.now, ""))
	require.Error(t, r.m.Retry(r.now, ""))
	r.tick(time.Second)
	require.Equal(t, "lunch 'now'", r.m.State().Paused)
	require.NoError(t, r.m.Resume(r.now, ""))
	require.Error(t, r.m.Resume(r.now, ""))
	r.tick(time.Second)
	require.NoError(t, r.m.Promote(r.now, false, "looks good"))
	r.tick(time.Second)
	require.Equal(t, .5, r.share())
	require.Equal(t, "looks good", r.m.State().Reason)

	require.NoError(t, r.m.Pause(r.now, ""))
	r.tick(time.Second)
	r.good(10, 30)
	r.tick(time.Second)
	require.Equal(t, rollout.Aborting, r.phase(), "a hard stop is one while it is paused, too")

	r = stepping(t, p)
	require.NoError(t, r.m.Promote(r.now, true, ""))
	r.tick(time.Second)
	require.Equal(t, 1., r.share())
	require.True(t, r.m.State().Full)
	for range 2 {
		r.tick(time.Second)
	}
	require.Equal(t, rollout.Done, r.phase(), r.said())
	require.ErrorContains(t, r.m.Abort(r.now, ""), "it is over")
}

// TestPeers: what other gateways have seen counts, once, and only of this epoch.
func TestPeers(t *testing.T) {
	r := stepping(t, plan(10, 100))
	p := r.m.Plan()
	other := rollout.NewWindow(&p, r.m.State().Epoch, r.now)
	for i := range 300 {
		other.Observe(rollout.Sample{Target: "v1", Sent: r.now, Tokens: -1})
		other.Observe(rollout.Sample{Target: "v2", Sent: r.now, Tokens: -1})
		if i == 100 {
			require.False(t, r.m.Hear("b", other))
		}
	}
	r.m.Hear("b", other)
	r.good(150, 0)
	r.tick(time.Second)
	require.Equal(t, 1, r.m.State().Step, "%v", r.m.Verdicts())
	r.m.Hear("b", other)
	r.tick(time.Second)
	require.Contains(t, r.m.Verdicts()[0].Reason, "0 of at least 20 requests", "that was another epoch")

	r = stepping(t, plan(10, 100))
	other = rollout.NewWindow(&p, r.m.State().Epoch, r.now)
	for range 6 {
		other.Observe(rollout.Sample{Target: "v2", Sent: r.now, Failed: true})
	}
	require.True(t, r.m.Hear("b", other), "another gateway sees a hard stop")
	r.tick(0)
	require.Equal(t, rollout.Aborting, r.phase())
}

// TestOldRequests: of what was sent before a step only failures count in it.
func TestOldRequests(t *testing.T) {
	r := stepping(t, plan(10, 100))
	before := r.m.Window().Began.Add(-time.Second)
	r.m.Observe(rollout.Sample{Target: "v2", Sent: before, Tokens: -1})
	require.Zero(t, r.m.Window().Canary.Requests)
	r.m.Observe(rollout.Sample{Target: "v2", Sent: before, Failed: true})
	require.Equal(t, 1, r.m.Window().Canary.Errors)
	r.m.Observe(rollout.Sample{Target: "v3", Sent: r.now, Failed: true})
	require.Equal(t, 1, r.m.Window().Canary.Requests)
}

// TestPromotedTwice: a second promotion waits until the first one is written, so that no step is left out.
func TestPromotedTwice(t *testing.T) {
	r := stepping(t, plan(10, 50, 80, 100))
	require.NoError(t, r.m.Promote(r.now, false, ""))
	require.NoError(t, r.m.Promote(r.now, false, ""))
	var shares []float64
	for range 4 {
		r.tick(time.Second)
		shares = append(shares, r.share())
	}
	require.Equal(t, []float64{.5, .8, .8, .8}, shares)
}
