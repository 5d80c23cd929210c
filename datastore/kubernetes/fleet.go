package kubernetes

import (
	"context"
	"maps"

	"github.com/inferpick/inferpick/types"
)

// fleet are the mirrors of one type of object. Guarded by Source.mu.
type fleet[T any] map[target]*mirror[T]

// adjust starts and stops mirrors so that those of want run. create makes one that is not
// started.
func (f fleet[T]) adjust(r *runner, want []target, create func(target) *mirror[T]) (stopped bool) {
	start, stop := changes(f, want)
	for _, t := range stop {
		f[t].cancel()
		delete(f, t)
	}
	for _, t := range start {
		m := create(t)
		m.target, m.client, m.log = t, r.client, r.opt.Logger
		m.kick = make(chan struct{}, 1)
		m.retry = retry{min: r.opt.MinRetry, max: r.opt.MaxRetry}
		m.mu, m.update = &r.mu, func() { signal(r.wake) }
		m.probe = r.probe
		m.objects = make(map[types.NamespacedName]T)
		var ctx context.Context
		ctx, m.cancel = context.WithCancel(r.ctx)
		f[t] = m
		r.wait.Go(func() { m.run(ctx) })
	}
	return len(stop) > 0
}

// hurry ends the waits for a server that is there again.
func (f fleet[T]) hurry() {
	for m := range maps.Values(f) {
		m.hurryLocked()
	}
}

// report returns the state of each.
func (f fleet[T]) report() []KindStatus {
	var out []KindStatus
	for m := range maps.Values(f) {
		out = append(out, m.reportLocked())
	}
	return out
}
