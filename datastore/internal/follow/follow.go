// Package follow keeps a worker for each endpoint of a store, as long as the endpoint is there and
// what the work depends on stays the same.
package follow

import (
	"context"
	"reflect"
	"sync"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/types"
)

// Store is where endpoints come from: a *datastore.Store.
type Store interface {
	// Watch calls fn for each endpoint that is there, as Added, and for each change after that,
	// in order and one at a time. After stop has returned, fn is not called any more.
	Watch(fn func(datastore.Event)) (stop func())
}

// Worker works for one endpoint.
type Worker interface {
	// Run works until the worker's context is done, or until there is nothing more to do.
	Run()
	// Restart says that the server has started anew. It may come at any time, also before Run, and
	// must not wait.
	Restart()
}

// Work says what is to be done. Both functions are called where the store calls its watchers, so
// they must be quick.
type Work[P any] interface {
	// Plan returns all that the work for an endpoint depends on: another one, another worker. Of
	// workers with the same turn, which is any key of a map, one runs at a time. work is false if
	// there is none.
	Plan(ev datastore.Event) (plan P, turn any, work bool)
	// Worker returns a worker for the endpoint of ev, whose context is ctx.
	Worker(ctx context.Context, ev datastore.Event, plan P) Worker
}

// Run keeps a worker for each endpoint of store until ctx is done, and returns when all have ended. A worker that
// panics, of which panics tells, runs again after a while.
func Run[P any](ctx context.Context, store Store, work Work[P], panics *guard.Teller) {
	f := &follower[P]{ctx: ctx, work: work, panics: panics, jobs: map[*types.Load]*job[P]{}}
	stop := store.Watch(f.event)
	<-ctx.Done()
	stop()
	f.wg.Wait()
}

// follower is what lives as long as one call of Run.
type follower[P any] struct {
	ctx    context.Context
	work   Work[P]
	panics *guard.Teller
	wg     sync.WaitGroup // workers
	turns  turns

	// Only event uses this, and the store calls it one at a time.
	jobs map[*types.Load]*job[P]
}

type job[P any] struct {
	plan   P
	worker Worker
	cancel context.CancelFunc
}

// event starts and stops workers. It waits for nothing: a worker's goroutine may be the one that
// calls.
func (f *follower[P]) event(ev datastore.Event) {
	load := ev.Endpoint.Load
	old := f.jobs[load]
	if ev.Kind == datastore.Restarted {
		if old != nil {
			old.worker.Restart()
		}
		return
	}
	var plan P
	var turn any
	work := false
	if ev.Kind != datastore.Removed { // Added, Changed
		plan, turn, work = f.work.Plan(ev)
	}
	if old != nil {
		if work && reflect.DeepEqual(old.plan, plan) {
			return
		}
		old.cancel()
		delete(f.jobs, load)
	}
	if !work {
		return
	}
	ctx, cancel := context.WithCancel(f.ctx)
	j := &job[P]{plan, f.work.Worker(ctx, ev, plan), cancel}
	f.jobs[load] = j
	f.wg.Go(func() {
		defer cancel()
		if leave, ok := f.turns.take(ctx, turn); ok {
			defer leave()
			f.panics.Loop(ctx, "a worker", j.worker.Run)
		}
	})
}

var _ Store = (*datastore.Store)(nil)
