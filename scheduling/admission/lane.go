package admission

import (
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/scheduling/admission/internal/room"
	"github.com/inferpick/inferpick/types"
)

// laneKey says which requests are alike as far as room goes: they have the same
// candidates, and the same target if the detector asks for it.
type laneKey struct {
	candidates string
	preferred  bool
	ttft       time.Duration
}

// lane is the requests of one key: how full their candidates are, and what waits.
type lane struct {
	key     laneKey
	match   func(*types.Endpoint) bool // nil: all
	room    room.Lane
	order   fair.Lane
	ready   bool // all endpoints were asked about
	touched time.Duration
}

func newLane(key laneKey, match func(*types.Endpoint) bool) *lane {
	l := &lane{key: key, match: match}
	l.order.Of, l.room.Of = l, l
	return l
}

// cell is an endpoint of the pool, or one that is asked about to become one.
type cell struct {
	room   room.Endpoint
	ep     *types.Endpoint // its newest reading
	since  Since           // the reading
	stale  bool            // what is kept of it knows that the reading is too old
	asking int             // how many ask about it now
	again  bool            // it is in pool.todo
	gone   bool            // it was one
	forget bool            // the Detector is to be told so
}
