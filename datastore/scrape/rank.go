package scrape

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// A server whose data-parallel ranks are endpoints of their own has one page for all of them. Of the
// targets of these endpoints one works at a time, for all: whose turn it is. If that one's endpoint
// goes, another one goes on.

// member is an endpoint that a target reads a page for. The turn guards what is not constant.
type member struct {
	id    string
	load  *types.Load
	rank  types.Rank
	cache adapterCache

	err     error // of the last scrape
	failing bool  // on a page that has others, as far as the log knows
}

// server is one whose ranks are endpoints.
type server struct {
	members atomic.Pointer[[]*member] // by rank; never changed in place
}

// serverKey is what its ranks have in common.
type serverKey struct {
	pool types.NamespacedName
	to   address
}

// servers finds servers. The zero value is empty.
type servers struct {
	mu  sync.Mutex
	all map[serverKey]*server
}

// join makes m a member of the server of that key until ctx is done.
func (s *servers) join(ctx context.Context, key serverKey, m *member) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[key]
	if one == nil {
		if s.all == nil {
			s.all = map[serverKey]*server{}
		}
		one = &server{}
		one.members.Store(new([]*member))
		s.all[key] = one
	}
	next := append(slices.Clone(*one.members.Load()), m)
	slices.SortFunc(next, func(a, b *member) int { return cmp.Compare(a.rank.Index, b.rank.Index) })
	one.members.Store(&next)
	context.AfterFunc(ctx, func() { s.leave(key, one, m) })
	return one
}

func (s *servers) leave(key serverKey, one *server, m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(*one.members.Load()), func(other *member) bool { return other == m })
	one.members.Store(&next)
	if len(next) == 0 {
		delete(s.all, key)
	}
}

// members returns those for whom the target reads: its endpoint, or all ranks of its server. The slice
// must not be modified.
func (t *target) members() []*member {
	if t.server == nil {
		return t.alone[:]
	}
	return *t.server.members.Load()
}

// ranksOf returns the ranks of members, in their order, to be looked for on a page; nil if they are none.
func (t *target) ranksOf(members []*member) []int {
	if t.server == nil {
		return nil
	}
	t.ranks = t.ranks[:0]
	for _, m := range members {
		t.ranks = append(t.ranks, m.rank.Index)
	}
	return t.ranks
}

// noRank is the error of a page that has figures of the engine, but not of a rank.
func noRank(e *Engine, rank types.Rank) error {
	if e.RankLabel == "" {
		return fmt.Errorf("scrape: the page has %w for rank %d: it is not known how engine %s tells ranks apart, want Engine.RankLabel", ErrNoMetrics, rank.Index, e.Name)
	}
	return fmt.Errorf("scrape: the page has %w for rank %d, that is with the label %s=\"%d\": does the server have %d ranks at that address?", ErrNoMetrics, rank.Index, e.RankLabel, rank.Index, rank.Of)
}

// memberOf returns the endpoint of an event as a member.
func memberOf(ev datastore.Event) *member {
	return &member{id: ev.Endpoint.ID, load: ev.Endpoint.Load, rank: ev.Endpoint.Rank}
}
