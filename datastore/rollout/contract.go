package rollout

import (
	"context"
	"errors"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Phase is where a rollout is.
type Phase string

const (
	Loading   Phase = "Loading"   // the canary comes onto the servers, without traffic
	Stepping  Phase = "Stepping"  // State.Step is in force and is judged
	Aborting  Phase = "Aborting"  // the stable target has all traffic again; requests of the canary end
	Finishing Phase = "Finishing" // the canary has all traffic; requests of the stable target end
	Failed    Phase = "Failed"
	Done      Phase = "Done"
)

// State is all that is kept of a rollout over a restart. It is small: 2 KiB of JSON at most.
type State struct {
	Plan    string    `json:"plan"` // fingerprint of the plan: another plan begins anew
	Seq     uint64    `json:"seq"`  // grows with each change
	Phase   Phase     `json:"phase"`
	Step    int       `json:"step"`
	Since   time.Time `json:"since"`             // of the phase and step
	Paused  string    `json:"paused,omitempty"`  // why; empty: it is not
	Holding string    `json:"holding,omitempty"` // why it does not go on just now
	Reason  string    `json:"reason,omitempty"`  // of the last change, in words
	// Weights are those that were written last.
	Weights []Weight `json:"weights"`
	// plus what the machine needs to go on: failure counts, who promoted …
}

// Weight is that of a target.
type Weight struct {
	Target string `json:"target"`
	Weight int32  `json:"weight"` // 0: it is not listed
}

// World is what a Tick is told of the outside.
type World struct {
	// Weights are those in force now, nil: not known. If they are not those written last, somebody else has: it pauses.
	Weights []Weight
	// Servers are those of the pool.
	Servers []Server
	// InFlight is how many requests each target has, at all gateways.
	InFlight map[string]int
	// Window is what was seen since the step began, at all gateways, by target.
	Saturation float64 // 0..1 and more; NaN: unknown
}

// Server is one model server, and what is known of the canary there.
type Server struct {
	ID    string
	Ready bool   // it is in service
	Has   Has    // the canary
	Err   string // why it has failed
	Tries int
}

// Has is whether a server has an adapter.
type Has uint8

const (
	HasNot Has = iota
	HasLoading
	HasFailed
	HasIt
)

// Loader gets adapters onto servers. Methods are called by several goroutines at once, each for another server, and
// return when ctx is done.
type Loader interface {
	// Load makes ep serve name, from source, and returns when it has answered a request with it.
	Load(ctx context.Context, ep *types.Endpoint, name, source string) error
	// Unload is the opposite. That it is not there is no error.
	Unload(ctx context.Context, ep *types.Endpoint, name string) error
	// Loaded reports whether ep serves name now.
	Loaded(ctx context.Context, ep *types.Endpoint, name, source string) (bool, error)
}

// ErrConflict is returned by Home.Write if what is there is not what was read.
var ErrConflict = errors.New("rollout: somebody else has changed it")

// Record is what a Home keeps of one object.
type Record struct {
	Revision string // of what is there; empty: nothing is
	Weights  []Weight
	State    []byte // JSON of a State; empty: there is none
}

// Home is where the weights and the state of rollouts are kept, as one: a Write is seen as a whole or not at all.
// Methods may be called from any goroutine.
type Home interface {
	Read(ctx context.Context, o Object) (Record, error)
	// Write replaces what is there if it is still what Read returned with that Revision. The result is the new Revision.
	Write(ctx context.Context, o Object, r Record) (revision string, err error)
}

// Event is something that people want to hear of.
type Event struct {
	At     time.Time
	Object Object
	Kind   string // Started, Loaded, Step, Held, Resumed, Paused, Failed, Aborted, Done, Verdict, Warning …
	Text   string
}
