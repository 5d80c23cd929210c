package kvevents

// teller tells the Sink about one rank.
type teller struct {
	*target
	rank    int
	failure Failure

	told     State
	fresh    bool // a State is to be told, whatever was told before
	panicked bool // the Sink did
}

func (t *teller) apply(events []Event) {
	blocks := 0
	for i := range events {
		blocks += len(events[i].Hashes)
	}
	t.counts.batches.Add(1)
	t.counts.events.Add(uint64(len(events)))
	t.counts.blocks.Add(uint64(blocks))
	if len(events) > 0 {
		t.tell(func(s Sink) { s.Apply(t.plan.name, t.rank, events) })
	}
}

func (t *teller) reset() {
	t.counts.resets.Add(1)
	t.fresh = true
	t.tell(func(s Sink) { s.Reset(t.plan.name, t.rank) })
}

func (t *teller) state(s State) {
	if s == t.told && !t.fresh {
		return
	}
	t.told, t.fresh = s, false
	t.tell(func(sink Sink) { sink.State(t.plan.name, t.rank, s) })
}

func (t *teller) tell(fn func(Sink)) {
	if !t.call(t.failure, func() { fn(t.opt.Sink) }) {
		t.panicked = true
	}
}
