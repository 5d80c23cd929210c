package plugins

import (
	"context"
	"sync/atomic"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// RoundRobin is a Picker that takes the candidates in turn, whatever their
// scores. It is a baseline. The zero value is ready; wire a pointer to it.
//
// The turn moves on when a decision is booked, so that an explanation takes no
// turn; decisions made at the very same time may therefore take the same one.
type RoundRobin struct{ turn atomic.Uint64 }

// Pick implements scheduling.Picker.
func (p *RoundRobin) Pick(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
	return int(p.turn.Load() % uint64(len(eps))), nil
}

// Picked implements scheduling.Tracker.
func (p *RoundRobin) Picked(*types.Request, *types.Endpoint) { p.turn.Add(1) }

// FirstToken implements scheduling.Tracker.
func (p *RoundRobin) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker.
func (p *RoundRobin) Finished(*types.Request, *types.Endpoint, types.Outcome) {}

var (
	_ scheduling.Picker  = (*RoundRobin)(nil)
	_ scheduling.Tracker = (*RoundRobin)(nil)
)
