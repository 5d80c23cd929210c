package rollout

import (
	"context"
	"errors"

	"github.com/inferpick/inferpick/types"
)

// Loader gets adapters onto servers. Methods are called by several goroutines at once, each for another server, and
// return when ctx is done. Errors are shown to people: they should have the server's own words.
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
	// Revision is that of what is there. Empty: nothing is.
	Revision string
	// Weights are the targets of the object, in their order. Of an object that gives none a weight, all have the same.
	Weights []Weight
	// State is a State in JSON, as Machine writes it. Empty: there is none.
	State []byte
}

// Home is where the weights and the state of rollouts are kept, as one: a Write is seen as a whole or not at all.
// Methods may be called from any goroutine.
//
// One that gateways have in common is written by the one that leads alone. Where each has its own, as a StoreHome is,
// it has a method Local() bool that returns true: then those that follow write what the leader says. It may have two
// more: Forget(Object), which is told of a rollout that was taken away, and Plans() []Plan with KeepPlan(Plan), which
// keep what Controller.Start was given over a restart.
type Home interface {
	// Read returns what is there. That there is no such object is an error.
	Read(ctx context.Context, o Object) (Record, error)
	// Write replaces what is there if it is still what Read returned with r.Revision, and else returns an error that
	// is ErrConflict. The result is the new Revision. A target that r.Weights does not have is taken out of the object.
	Write(ctx context.Context, o Object, r Record) (revision string, err error)
}

// Weight is that of a target.
type Weight struct {
	Target string `json:"target"`
	Weight int32  `json:"weight"` // at least 1: who has none is not listed
}
