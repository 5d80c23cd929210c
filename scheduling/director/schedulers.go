package director

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// schedulers say who decides for which pool.
type schedulers struct {
	make func(*datastore.Pool) (*scheduling.Scheduler, error) // nil: none are made

	now atomic.Pointer[appointed]
	mu  sync.Mutex // held by who replaces now; nothing of the embedder's is called under it
}

// appointed is who decides at one time. Immutable.
type appointed struct {
	others *scheduling.Scheduler // for pools that have none of their own; may be nil
	given  map[types.NamespacedName]*scheduling.Scheduler
	made   map[types.NamespacedName]made
	round  uint64 // of Renew
}

// made is what Options.NewScheduler returned, and for what.
type made struct {
	scheduler *scheduling.Scheduler // nil: others decide
	manifest  *types.InferencePool
	round     uint64
}

// SetSchedulers changes who decides, for all requests from now on: pools by name,
// and others, which may be nil, for those that are not in it and have none by
// Options.NewScheduler. Requests under way end with who decided on them. With an error
// nothing is changed.
func (d *Director) SetSchedulers(others *scheduling.Scheduler, pools map[types.NamespacedName]*scheduling.Scheduler) error {
	if others == nil && len(pools) == 0 && d.schedulers.make == nil {
		return errors.New("director: Options.Scheduler is required, or one for every pool in Schedulers or by NewScheduler")
	}
	for name, s := range pools {
		if s == nil {
			return fmt.Errorf("director: Options.Schedulers[%v] is nil", name)
		}
	}
	d.schedulers.change(func(next *appointed) { next.others, next.given = others, maps.Clone(pools) })
	return nil
}

// Renew has Options.NewScheduler asked again about each pool when that is next asked for.
func (d *Director) Renew() {
	d.schedulers.change(func(next *appointed) { next.round++ })
}

// schedulerFor returns who decides for a pool, nil if nobody does.
func (d *Director) schedulerFor(p *datastore.Pool) (*scheduling.Scheduler, error) {
	now := d.schedulers.now.Load()
	if s, ok := now.given[p.Name()]; ok {
		return s, nil
	}
	if d.schedulers.make == nil {
		return now.others, nil
	}
	had, ok := now.made[p.Name()]
	if !ok || had.manifest != p.Manifest() || had.round != now.round {
		var s *scheduling.Scheduler
		err := guard.Try("Options.NewScheduler", func() (err error) {
			s, err = d.schedulers.make(p)
			return err
		})
		switch {
		case err == nil:
			had.scheduler = s
		case !ok:
			return nil, fmt.Errorf("director: pool %s: Options.NewScheduler: %w", p.Name(), err)
		default:
			d.log(context.Background(), "pool goes on with the scheduler that it has", slog.String("pool", p.Name().String()), slog.Any("error", err))
		}
		had.manifest, had.round = p.Manifest(), now.round
		had = d.schedulers.keep(p.Name(), had)
		if d.o.Store.Snapshot().Pool(p.Name()) == nil {
			d.schedulers.giveBack(p.Name()) // it was deleted meanwhile, and nobody tells again
		}
	}
	if had.scheduler == nil {
		return now.others, nil
	}
	return had.scheduler, nil
}

// of returns who decides for a pool now, nil if nobody does yet.
func (s *schedulers) of(pool types.NamespacedName) *scheduling.Scheduler {
	now := s.now.Load()
	if one, ok := now.given[pool]; ok {
		return one
	}
	if one := now.made[pool].scheduler; one != nil {
		return one
	}
	return now.others
}

// keep keeps what was made for a pool, and returns what counts: what another request has
// kept meanwhile for the same.
func (s *schedulers) keep(pool types.NamespacedName, one made) made {
	s.change(func(next *appointed) {
		if other, ok := next.made[pool]; ok && other.manifest == one.manifest && other.round == one.round {
			one = other
			return
		}
		next.made = maps.Clone(next.made)
		if next.made == nil {
			next.made = make(map[types.NamespacedName]made)
		}
		next.made[pool] = one
	})
	return one
}

// giveBack drops what was made for a pool that has gone.
func (s *schedulers) giveBack(pool types.NamespacedName) {
	s.change(func(next *appointed) {
		if _, ok := next.made[pool]; ok {
			next.made = maps.Clone(next.made)
			delete(next.made, pool)
		}
	})
}

// change replaces who decides by a copy that is changed; its maps must not be.
func (s *schedulers) change(edit func(next *appointed)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var next appointed
	if now := s.now.Load(); now != nil {
		next = *now
	}
	edit(&next)
	s.now.Store(&next)
}
