package rollout

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// servers is what is known of the servers, and of what was asked of them.
type servers struct {
	of      map[string]*server
	ready   int
	holders []string // ready ones that have the canary, by ID
}

// server is what is remembered of one from Tick to Tick.
type server struct {
	Server
	seen    bool      // in the Tick under way
	asked   int       // calls since it had what was asked for
	next    time.Time // of the next call, at the earliest
	loading time.Time // since when a call is under way; the zero time if none is
	hung    bool      // it is for much too long
}

// see takes note of the servers of a World.
func (s *servers) see(now time.Time, all []Server, timeout time.Duration) {
	if s.of == nil {
		s.of = map[string]*server{}
	}
	for _, one := range s.of {
		one.seen = false
	}
	s.ready, s.holders = 0, nil
	for _, w := range all {
		one := s.of[w.ID]
		if one == nil || one.Incarnation != w.Incarnation {
			one = &server{}
			s.of[w.ID] = one
		}
		if one.Canary == HasIt && w.Canary == HasNot {
			one.asked, one.next = 0, time.Time{}
		}
		one.Server, one.seen = w, true
		one.wait(now, timeout)
		if w.Ready {
			s.ready++
			if w.Canary == HasIt {
				s.holders = append(s.holders, w.ID)
			}
		}
	}
	for id, one := range s.of {
		if !one.seen {
			delete(s.of, id)
		}
	}
	slices.Sort(s.holders)
}

// wait takes note of a call that is under way.
func (s *server) wait(now time.Time, timeout time.Duration) {
	if s.Canary != HasLoading && s.Stable != HasLoading {
		s.loading, s.hung = time.Time{}, false
		return
	}
	if s.loading.IsZero() {
		s.loading = now
	}
	s.hung = now.Sub(s.loading) > 2*timeout
}

// backoff is how long it takes until the next call after so many.
func backoff(asked int) time.Duration {
	return min(time.Second<<min(asked, 10), 5*time.Minute)
}

// need is how many of the ready servers must have the canary.
func (m *Machine) need() int {
	return max(int(math.Ceil(m.plan.Load.Share*float64(m.servers.ready)-1e-9)), 1)
}

// count returns how many ready servers are such.
func (s *servers) count(such func(*server) bool) (n int) {
	for _, one := range s.of {
		if one.Ready && such(one) {
			n++
		}
	}
	return n
}

// failed reports whether a server has failed to load the canary as often as it may.
func (m *Machine) failed(s *server) bool {
	return s.hung || s.Canary == HasFailed && s.Tries >= m.plan.Load.Tries
}

// load gets the canary onto the servers, and goes to the step once enough have it. The weights are those of the stable
// target alone all the time, so that to fail needs no write of its own.
func (m *Machine) load() {
	have, need := len(m.servers.holders), m.need()
	switch {
	case m.state.Paused != "":
		return
	case m.servers.ready == 0:
		m.holds(heldServers, "no server is ready")
		return
	case have >= need:
		if m.settled() {
			m.tell(Loaded, "%d of %d servers have %s", have, m.servers.ready, m.plan.Canary)
			m.toStep(m.state.Step, "the canary is loaded")
		}
		return
	}
	m.full()
	if left := m.servers.ready - m.servers.count(m.failed); left < need {
		m.enter(Failed, m.state.Step, "the canary could not be loaded: "+m.words(m.failed))
		m.tell(Ended, "%s", m.state.Reason)
		return
	}
	if took := m.now.Sub(m.state.Since); took >= m.plan.Deadline && m.plan.OnUnsure == Abort {
		m.enter(Failed, m.state.Step, fmt.Sprintf("after %v only %d of %d servers have the canary", m.plan.Deadline, have,
			m.servers.ready))
		m.tell(Ended, "%s", m.state.Reason)
		return
	}
	m.ask()
	unknown := m.servers.count(func(s *server) bool { return s.Canary == HasUnknown })
	if words := m.words(func(s *server) bool { return s.Canary == HasUnknown && s.Err != "" }); m.servers.ready-unknown < need && words != "" {
		m.holds(heldUnknown, "of %d of %d servers it is not known whether they have the canary: %s", unknown, m.servers.ready, words)
		return
	}
	m.holds(notHeld, "")
}

// words returns what the ready server of the lowest ID has said of those that are such; empty: none is.
func (m *Machine) words(such func(*server) bool) string {
	var first *server
	for _, s := range m.servers.of {
		if s.Ready && such(s) && (first == nil || s.ID < first.ID) {
			first = s
		}
	}
	switch {
	case first == nil:
		return ""
	case first.hung || first.Err == "":
		return first.ID + ": it does not answer"
	}
	return first.ID + ": " + first.Err
}

// full warns if servers have no place for one more adapter at once. That is no reason to fail: how many are in use
// changes, and servers keep more than they can use at once.
func (m *Machine) full() {
	full := m.servers.count(func(s *server) bool { return s.Canary != HasIt && s.Slots > 0 && s.Used >= s.Slots })
	if full > 0 && !m.judging.full {
		m.judging.full = true
		m.tell(Warned, "on %d of %d servers all places for adapters are in use: requests for different adapters "+
			"will wait for each other", full, m.servers.ready)
	}
}

// ask asks those servers to load the canary that do not have it: all but those that have failed too often, which are
// asked again only once others have it.
func (m *Machine) ask() {
	under := m.servers.count(func(s *server) bool { return s.Canary == HasLoading })
	for _, w := range m.world.Servers {
		s := m.servers.of[w.ID]
		switch {
		case under >= m.plan.Load.Parallel:
			return
		case !s.Ready || s.Canary != HasNot && s.Canary != HasFailed || m.now.Before(s.next):
			continue
		case m.state.Phase == Loading && m.failed(s):
			continue
		}
		under++
		m.askFor(DoLoad, s, m.plan.Canary)
	}
}

// askFor asks a server, and notes when it may be asked again.
func (m *Machine) askFor(do Do, s *server, target string) {
	s.next = m.now.Add(backoff(s.asked))
	s.asked++
	m.actions = append(m.actions, Action{Do: do, Server: s.ID, Target: target})
}

// askAnew forgets what was asked.
func (s *servers) askAnew() {
	for _, one := range s.of {
		one.asked, one.next = 0, time.Time{}
	}
}
