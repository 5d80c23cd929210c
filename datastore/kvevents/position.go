package kvevents

// position is how far one rank of an engine has been followed: it decides what is to be done with
// each batch that comes. It knows neither connections nor clocks; who feeds it does what it says,
// and says so.
//
// Batches are numbered from 0 by the process that publishes them, so a number tells a gap, or
// that the process is another one. It does not if the new process has come as far as the old one
// while nobody listened: so a replay on a new connection asks for the last batch once more, whose
// time shows whether it is the same.
type position struct {
	next uint64  // number of the batch that is wanted next
	at   float64 // time of the one before it
	have bool    // a batch was applied since everything was forgotten

	whole bool // nothing that was before the first batch is missing
	lost  bool // some that came later are
	again bool // a replay that failed is to be made once it can be, from the start

	connected bool
	synced    bool // told what there is, as far as it can be had
	same      bool // the process at the other end is the one that `next` is of
	seen      bool // a batch has come by this connection: the last one was
	last      uint64
	lastAt    float64

	replaying bool
	first     bool // nothing has come of this replay yet
	asked     uint64
}

// step is what is to be done, in this order.
type step struct {
	reset bool // forget all that was told
	do    action
}

type action uint8

const (
	skip   action = iota
	apply         // the batch
	replay        // begin a replay; a batch that is not of one is to be given once more after it
)

// state returns what can be said of what was told.
func (p *position) state() State {
	switch {
	case !p.connected:
		return Unsynced
	case p.replaying:
		return Replaying
	case !p.synced:
		return Unsynced
	case p.lost:
		return Partial
	case p.whole:
		return Live
	}
	return Late
}

// connect begins a connection.
func (p *position) connect(canReplay bool) step {
	p.connected, p.synced, p.same, p.seen, p.replaying = true, false, false, false, false
	if canReplay {
		return step{do: replay}
	}
	return step{}
}

// disconnect ends it.
func (p *position) disconnect() { p.connected = false }

// owes reports whether a replay is to be made as soon as it can be.
func (p *position) owes() bool { return p.connected && (p.again || !p.synced) }

// forget is what a restart of the engine means.
func (p *position) forget() {
	p.next, p.at, p.have, p.whole, p.lost, p.synced = 0, 0, false, false, false, false
	p.same = true // whatever process this is, nothing is kept of another one
}

// live takes a batch as it is published. canReplay says whether missing ones can be asked for now.
func (p *position) live(seq uint64, at float64, canReplay bool) step {
	anew := p.seen && (seq < p.last || seq == p.last && at != p.lastAt)
	unlike := p.have && !p.same && seq < p.next // the last process had come farther
	p.seen, p.last, p.lastAt = true, seq, at
	if anew || unlike {
		p.forget()
		return step{reset: true, do: p.follow(seq, at, canReplay)}
	}
	return step{do: p.follow(seq, at, canReplay)}
}

// follow is live for a batch of the process that is followed, or when nothing is known of another.
func (p *position) follow(seq uint64, at float64, canReplay bool) action {
	switch {
	case !p.have && seq == 0:
		p.whole = true
	case seq < p.next:
		return skip // a replay had it already
	case p.have && p.same && seq == p.next:
	case canReplay:
		return replay
	case p.have:
		p.lost = true
	default:
		p.whole = false
	}
	p.same, p.synced = true, true
	return p.apply(seq, at)
}

func (p *position) apply(seq uint64, at float64) action {
	p.next, p.at, p.have = seq+1, at, true
	return apply
}

// begin begins a replay, and returns the number of the batch to ask for.
func (p *position) begin() uint64 {
	p.replaying, p.first = true, true
	p.asked = 0
	if p.have && !p.again {
		p.asked = p.next - 1
	}
	return p.asked
}

// replayed takes a batch of a replay.
func (p *position) replayed(seq uint64, at float64) step {
	switch {
	case p.first && seq >= p.asked:
		p.first = false
		return p.firstReplayed(seq, at)
	case p.first || seq < p.next:
		return step{} // not asked for
	case seq > p.next:
		return step{do: replay} // the engine dropped some on the way
	}
	return step{do: p.apply(seq, at)}
}

// firstReplayed takes the first one: if batches are known, it should be the last of them.
func (p *position) firstReplayed(seq uint64, at float64) step {
	switch {
	case !p.have:
		p.whole, p.same = seq == 0, true
		return step{do: p.apply(seq, at)}
	case p.again:
		p.forget()
		p.again, p.whole = false, seq == 0
		return step{reset: true, do: p.apply(seq, at)}
	case seq == p.asked && at == p.at:
		p.same = true
		return step{}
	case seq == p.asked: // the same number, but of another process
		p.forget()
		return step{reset: true, do: replay}
	case seq == p.next && p.same: // the last one is kept no more, but nothing after it is missing
		return step{do: p.apply(seq, at)}
	}
	p.forget()
	return step{reset: true, do: p.apply(seq, at)}
}

// end ends a replay that came to its end.
func (p *position) end() step {
	if p.first && p.have && !p.again { // not even the last batch is there, so it was another process's
		p.forget()
		return step{reset: true, do: replay}
	}
	if !p.have { // nothing has been published yet
		p.whole, p.same = true, true
	}
	p.again, p.replaying, p.synced = false, false, true
	return step{}
}

// fail ends a replay that did not. What was missed may come with a later one.
func (p *position) fail() {
	p.replaying, p.again = false, true
	if p.have {
		p.lost, p.synced = true, true
	}
}

// unreadable says that a batch could not be read. A replay would bring the same.
func (p *position) unreadable() { p.lost = true }

// cleared says that everything was cleared in the batch that was applied last: what was missed
// before does not matter any more.
func (p *position) cleared() { p.whole, p.lost, p.again = true, false, false }
