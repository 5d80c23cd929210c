package rollout

import "time"

// unknownFor is after how long a target is left on the servers if nobody knows its requests.
const unknownFor = 10 * time.Minute

// unloading is how far what has lost is off the servers.
type unloading struct {
	quiet time.Time // since when it has had no requests; the zero time if it has some
	begun bool
}

// end waits until what has lost has no more requests, takes it off the servers if the plan says so, and is over.
func (m *Machine) end() {
	loser := m.plan.Canary
	if m.state.Phase == Finishing {
		loser = m.plan.Stable
		if m.stop != "" && m.canStop() && !m.stableGone() {
			m.abort(m.stop)
			return
		}
	}
	if m.state.Paused != "" || !m.settled() {
		return
	}
	if !m.plan.Load.Unload || m.unloaded(loser) {
		m.over()
	}
}

// stableGone reports whether the stable target is being taken off the servers: then there is no way back.
func (m *Machine) stableGone() bool {
	return m.state.Phase == Finishing && m.plan.Load.Unload && (m.judging.unloading.begun ||
		m.servers.count(func(s *server) bool { return s.Stable == HasNot || s.Stable == HasLoading }) > 0)
}

func (m *Machine) over() {
	if m.state.Phase == Aborting {
		m.enter(Failed, m.state.Step, m.state.Reason)
		m.tell(Ended, "the stable target has all traffic: %s", m.state.Reason)
		return
	}
	m.enter(Done, m.state.Step, m.plan.Canary+" has all traffic")
	m.tell(Completed, "%s", m.state.Reason)
}

// unloaded takes a target off the servers after its last request, and reports whether that is done.
func (m *Machine) unloaded(target string) bool {
	u := &m.judging.unloading
	n := m.world.InFlight[target]
	switch {
	case m.world.InFlight == nil && m.now.Sub(m.inForce) > unknownFor:
		m.tell(Warned, "%s is not unloaded: it is not known whether it has requests", target)
		return true
	case m.world.InFlight == nil || n > 0:
		u.quiet = time.Time{}
		m.holds(heldRequests, "%s may have requests under way", target)
		return false
	case u.quiet.IsZero() || m.now.Sub(m.before) > max(m.plan.Load.Grace, time.Minute): // a Tick may come seldom
		u.quiet = m.now // or nobody has looked for so long
	}
	if m.now.Sub(u.quiet) < m.plan.Load.Grace {
		return false
	}
	if !u.begun {
		u.begun = true
		m.servers.askAnew()
	}
	m.holds(notHeld, "")
	return m.unload(target)
}

// unload asks the servers that have a target to unload it, and reports whether none is left of which that is hoped.
func (m *Machine) unload(target string) bool {
	has := func(s *server) Has {
		if target == m.plan.Canary {
			return s.Canary
		}
		return s.Stable
	}
	under := m.servers.count(func(s *server) bool { return has(s) == HasLoading && !s.hung })
	left := under
	for _, w := range m.world.Servers {
		s := m.servers.of[w.ID]
		waits, most := m.now.Before(s.next), m.plan.Load.Tries
		switch has(s) {
		case HasNot, HasLoading:
			continue
		case HasUnknown:
			most = 1 // if it does not have it, that is no error
		}
		if !s.Ready || s.asked >= most && !waits {
			continue // it will not
		}
		left++
		if !waits && under < m.plan.Load.Parallel {
			under++
			m.askFor(DoUnload, s, target)
		}
	}
	if left > 0 {
		return false
	}
	if n := m.servers.count(func(s *server) bool { return has(s) == HasIt }); n > 0 {
		m.tell(Warned, "%d servers have not unloaded %s", n, target)
	}
	return true
}
