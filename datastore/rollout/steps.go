package rollout

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// judging is what is thought of an epoch.
type judging struct {
	streaks   []int     // by metric: how many looks in a row have failed
	told      []Result  // by metric: what people were told last
	look      int       // requests of the canary at which it is looked at again
	glance    int       // the same of what may let it pass
	troubled  time.Time // since when the environment is in trouble; the zero time if it is not
	trouble   holdKind  // what kind of trouble it was last
	full      bool      // people were told that servers have no place
	unloading unloading
}

const (
	// between is by how much the requests of the canary must have grown from one look to the next: looking more often
	// would find no more, and be wrong more often.
	between = 1.25
	// glances is the same for whether it may pass. A verdict is no other one before.
	glances = 1.05
	// troubledAbove is the share of failures of the stable target above which the environment is in trouble, and
	// recentlyAbove that of its last requests. It is over when the latter is at most calmBelow.
	troubledAbove, recentlyAbove, calmBelow = .1, .25, .1
	// leastTroubled is how many requests say that the environment is in trouble.
	leastTroubled = 20
	// calmAfter is how long trouble lasts at least.
	calmAfter = 10 * time.Second
)

// percent returns the weight of the canary.
func (m *Machine) percent() float64 { return m.plan.Steps[m.state.Step].SetWeight }

// canStop reports whether a hard stop may stop it: always, unless somebody else has changed the weights.
func (m *Machine) canStop() bool { return !m.state.Changed }

// step judges the step that is in force.
func (m *Machine) step() {
	m.ask()
	switch {
	case m.stop != "" && m.canStop():
		m.abort(m.stop)
		return
	case m.state.Changed:
		return
	case m.lost() || len(m.servers.holders) == 0 && !m.weighed():
		m.tell(Held, "no server that is ready has %s any more", m.plan.Canary)
		m.weigh(Loading, m.state.Step, 0, "no server that is ready had the canary any more: it is loaded again")
		return
	case !m.settled() || m.promote():
		return
	}
	canary, stable := m.canary(), m.stable()
	if trouble := m.trouble(stable); trouble != "" {
		m.blameless(trouble)
		if m.state.Paused == "" && !m.overdue(trouble) {
			m.holds(m.judging.trouble, "%s: the canary is not to blame", trouble)
		}
		return
	}
	if m.judge(canary, stable) || m.state.Paused != "" {
		return
	}
	m.proceed(canary)
}

// lost reports whether no ready server has the canary, although it is known of all of them.
func (m *Machine) lost() bool {
	return m.servers.ready > 0 && len(m.servers.holders) == 0 &&
		m.servers.count(func(s *server) bool { return s.Canary == HasUnknown }) == 0
}

// toStep makes a step the one in force.
func (m *Machine) toStep(step int, why string) {
	percent := m.plan.Steps[step].SetWeight
	m.weigh(Stepping, step, percent, why)
	m.tell(Stepped, "step %d of %d: %g %% for %s: %s", step+1, len(m.plan.Steps), percent, m.plan.Canary, why)
}

// abort gives the stable target everything.
func (m *Machine) abort(why string) {
	m.state.Paused = ""
	m.weigh(Aborting, m.state.Step, 0, why)
	m.tell(Aborted, "%s has all traffic again: %s", m.plan.Stable, why)
}

// trouble says what is wrong with the environment, that is with both targets; empty: nothing is.
func (m *Machine) trouble(stable *Counts) string {
	j := &m.judging
	kind, what := m.troubles(stable)
	switch {
	case what != "":
		j.trouble = kind
		if j.troubled.IsZero() {
			j.troubled = m.now
		}
		return what
	case j.troubled.IsZero():
		return ""
	case m.now.Sub(j.troubled) < calmAfter:
		return "it was in trouble just now"
	}
	// What was seen so far was seen in trouble.
	m.change()
	m.state.Epoch = m.state.Seq
	m.begin(m.now)
	return "it was in trouble just now"
}

func (m *Machine) troubles(stable *Counts) (holdKind, string) {
	all := len(m.world.Servers)
	switch {
	case m.servers.ready == 0 || 2*m.servers.ready < all:
		return troubleReady, fmt.Sprintf("%d of %d servers are ready", m.servers.ready, all)
	case m.world.Saturation >= 1:
		return troubleFull, fmt.Sprintf("the servers are full (saturation %.2f)", m.world.Saturation)
	case m.percent() >= 100:
		return notHeld, ""
	}
	k, n := m.peers.recently(&m.window.Stable, stableOf)
	recently := float64(k) / math.Max(float64(n), 1)
	if !m.judging.troubled.IsZero() {
		if n > 0 && recently > calmBelow {
			return troubleStable, fmt.Sprintf("%d of the last %d requests of %s failed", k, n, m.plan.Stable)
		}
		return notHeld, ""
	}
	switch {
	case n >= leastTroubled && recently > recentlyAbove:
		return troubleStable, fmt.Sprintf("%d of the last %d requests of %s failed", k, n, m.plan.Stable)
	case surely(stable.Errors, stable.Requests) > troubledAbove:
		return troubleStable, fmt.Sprintf("%d of %d requests of %s failed", stable.Errors, stable.Requests, m.plan.Stable)
	}
	return notHeld, ""
}

// surely returns the least share of which k of n are seen.
func surely(k, n int) float64 {
	low, _ := wilson(float64(k), float64(n), sure95)
	return low
}

// judge makes verdicts, and reports whether one of them has stopped the canary.
func (m *Machine) judge(canary, stable *Counts) (stopped bool) {
	j := &m.judging
	n := canary.answered()
	look := n >= max(j.look, m.plan.MinRequests)
	if look {
		j.look = int(math.Ceil(between * float64(n)))
	} else if m.verdicts != nil && n < j.glance {
		return false
	}
	j.glance = int(math.Ceil(glances * float64(n)))
	c := comparison{canary: canary, stable: stable, weight: m.percent(), least: m.plan.MinRequests}
	if c.weight >= 100 {
		c.stable, c.kept = m.state.Kept.counts(), true
	}
	m.verdicts = make([]Verdict, len(m.plan.Metrics))
	for i := range m.plan.Metrics {
		metric := &m.plan.Metrics[i]
		v := c.judge(metric)
		if look && v.Result == Fail {
			j.streaks[i]++
		} else if look {
			j.streaks[i] = 0
		}
		v.Looks = j.streaks[i]
		m.verdicts[i] = v
		m.tellOf(i, v)
	}
	if m.state.Paused != "" || m.state.Full || !look {
		return false
	}
	for i, v := range m.verdicts {
		if !v.WarnOnly && v.Result == Fail && v.Looks > m.plan.Metrics[i].FailureLimit {
			all := m.verdicts
			why := v.Metric + ": " + v.Reason
			if v.Metric == Errors {
				why += m.failedHow()
			}
			m.abort(why)
			m.stopped = all
			return true
		}
	}
	return false
}

// tellOf tells people of a verdict that is another one than before.
func (m *Machine) tellOf(i int, v Verdict) {
	j := &m.judging
	if j.told == nil {
		j.told = make([]Result, len(m.plan.Metrics))
	}
	if v.Result == j.told[i] || v.Result != Fail && v.Result != Pass {
		return
	}
	if v.WarnOnly && v.Result == Fail {
		m.tell(Warned, "%s: %s", v.Metric, v.Reason)
	} else if !v.WarnOnly && (v.Result == Fail || j.told[i] == Fail) {
		m.tell(Judged, "%s %s: %s", v.Metric, v.Result, v.Reason)
	}
	j.told[i] = v.Result
}

// proceed goes to the next step once all verdicts are good, or says what it waits for.
func (m *Machine) proceed(canary *Counts) {
	step := &m.plan.Steps[m.state.Step]
	have, need := len(m.servers.holders), m.need()
	waits := m.waits(canary)
	switch {
	case have < need && !m.state.Full:
		m.holds(heldServers, "%d of %d servers have %s, want %d", have, m.servers.ready, m.plan.Canary, need)
	case m.now.Sub(m.inForce) < step.Pause:
		m.holds(notHeld, "")
	case m.state.Full:
		m.forward("it was promoted to the end")
	case waits != "" && m.overdue(waits):
	case waits != "":
		m.holds(heldUnsure, "%s", waits)
	case step.Manual:
		m.holds(heldManual, "it waits for somebody to promote it")
	default:
		m.forward("it is as good as " + m.plan.Stable + m.unjudged())
	}
}

// unjudged says by which metrics nothing could be said of the canary; empty: by none.
func (m *Machine) unjudged() string {
	var names []string
	for _, v := range m.verdicts {
		if !v.WarnOnly && v.Result == NotJudged {
			names = append(names, v.Metric)
		}
	}
	if names == nil {
		return ""
	}
	return ", as far as can be told: not judged were " + strings.Join(names, ", ")
}

// waits says for which verdict it waits; empty: for none.
func (m *Machine) waits(canary *Counts) string {
	for _, v := range m.verdicts {
		if !v.WarnOnly && v.Result != Pass && v.Result != NotJudged {
			return v.Metric + ": " + v.Reason
		}
	}
	if canary.Requests < m.plan.MinRequests {
		return fmt.Sprintf("%d of at least %d requests", canary.Requests, m.plan.MinRequests)
	}
	return ""
}

// overdue does what the plan says about a step that has taken too long, and reports whether it has.
func (m *Machine) overdue(waits string) bool {
	if m.now.Sub(m.state.Since) < m.plan.Deadline || m.state.Full {
		return false
	}
	text := fmt.Sprintf("after %v there is no verdict: %s", m.plan.Deadline, waits)
	if m.plan.OnUnsure == Abort {
		m.abort(text)
	} else {
		m.holds(heldDeadline, "%s", text)
	}
	return true
}

// blameless makes verdicts that blame nobody.
func (m *Machine) blameless(trouble string) {
	m.verdicts = make([]Verdict, len(m.plan.Metrics))
	for i, metric := range m.plan.Metrics {
		v := Verdict{Metric: metric.Name, WarnOnly: metric.WarnOnly, Canary: math.NaN(), Stable: math.NaN()}
		m.verdicts[i] = v.is(Environment, "%s", trouble)
	}
}

// forward goes to the next step, or to the end.
func (m *Machine) forward(why string) {
	if next := m.state.Step + 1; next < len(m.plan.Steps) {
		m.toStep(next, why)
		return
	}
	m.enter(Finishing, m.state.Step, why)
	m.tell(Judged, "%s may keep all traffic: %s", m.plan.Canary, why)
}
