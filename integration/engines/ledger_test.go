package engines_test

import (
	"maps"
	"slices"
	"sync"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/types"
)

// ledger is a Sink that keeps what engines tell in the plainest way, and passes it on.
type ledger struct {
	next kvevents.Sink // nil: nobody

	mu    sync.Mutex
	ranks map[string]*account // by endpoint: all have one rank
}

// account is what was told of one server.
type account struct {
	held     map[uint64]bool
	states   []types.KVState // in order
	sessions map[string]int  // blocks that were stored for a request
	size     int             // tokens in a block

	stored, removed, cleared, resets int
}

func newLedger(next kvevents.Sink) *ledger {
	return &ledger{next: next, ranks: map[string]*account{}}
}

// of returns the account of an endpoint. Caller must hold l.mu.
func (l *ledger) of(endpoint string) *account {
	a := l.ranks[endpoint]
	if a == nil {
		a = &account{held: map[uint64]bool{}, sessions: map[string]int{}}
		l.ranks[endpoint] = a
	}
	return a
}

func (l *ledger) Apply(endpoint string, rank int, batch []kvevents.Event) {
	l.mu.Lock()
	for i := range batch {
		l.of(endpoint).take(&batch[i])
	}
	l.mu.Unlock()
	if l.next != nil {
		l.next.Apply(endpoint, rank, batch)
	}
}

func (a *account) take(ev *kvevents.Event) {
	switch ev.Kind {
	case kvevents.Stored:
		a.stored += len(ev.Hashes)
		a.sessions[ev.SessionID] += len(ev.Hashes)
		a.size = max(a.size, ev.BlockSize)
		for _, h := range ev.Hashes {
			a.held[h] = true
		}
	case kvevents.Removed:
		a.removed += len(ev.Hashes)
		for _, h := range ev.Hashes {
			delete(a.held, h)
		}
	case kvevents.Cleared:
		a.cleared++
		clear(a.held)
	}
}

func (l *ledger) Reset(endpoint string, rank int) {
	l.mu.Lock()
	a := l.of(endpoint)
	a.resets++
	clear(a.held)
	l.mu.Unlock()
	if l.next != nil {
		l.next.Reset(endpoint, rank)
	}
}

func (l *ledger) State(endpoint string, rank int, s kvevents.State) {
	l.mu.Lock()
	a := l.of(endpoint)
	a.states = append(a.states, s)
	l.mu.Unlock()
	if l.next != nil {
		l.next.State(endpoint, rank, s)
	}
}

func (l *ledger) Remove(endpoint string) {
	l.mu.Lock()
	clear(l.of(endpoint).held)
	l.mu.Unlock()
	if l.next != nil {
		l.next.Remove(endpoint)
	}
}

// look returns a copy of an account.
func (l *ledger) look(endpoint string) account {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := *l.of(endpoint)
	a.held, a.sessions, a.states = maps.Clone(a.held), maps.Clone(a.sessions), slices.Clone(a.states)
	return a
}

// state is the last state that was told, unsynced before the first.
func (a account) state() types.KVState {
	if len(a.states) == 0 {
		return types.KVUnsynced
	}
	return a.states[len(a.states)-1]
}

// all reports whether the state of all servers is the one asked for.
func (l *ledger) all(endpoints []string, want types.KVState) bool {
	for _, e := range endpoints {
		if l.look(e).state() != want {
			return false
		}
	}
	return true
}
