package rollout

import "time"

// World is what a Tick is told of the outside.
type World struct {
	// Record is what the Home has, as it was read last; nil: it could not be read, and nothing is known of the
	// weights. It decides whether somebody else has changed the weights, and a Write is based on its Revision.
	Record *Record
	// Servers are those of the pool, in any order, each once.
	Servers []Server
	// InFlight is how many requests each target has, at all gateways; a target that is not in it has none. nil: it is
	// not known.
	InFlight map[string]int
	// Saturation is that of the pool, 0 to 1 and more. 0 or NaN: not known.
	Saturation float64
}

// Server is one model server, and what is known of the canary there.
type Server struct {
	// ID is that of the endpoint.
	ID string
	// Ready says that it is in service.
	Ready bool
	// Incarnation tells a server from what it was before a restart, such as the time at which it was started. Optional:
	// who sees that an adapter has gone says HasNot.
	Incarnation uint64
	// Canary and Stable say whether it has the target.
	Canary, Stable Has
	// Tries is how many calls to load the canary have failed since it was last there, and Err what the last one said.
	Tries int
	Err   string
	// Slots is how many adapters it can have at once, and Used how many of those are taken by others than the canary.
	// 0 slots: not known.
	Slots, Used int
}

// Has is whether a server has a target.
type Has uint8

const (
	// HasUnknown: it was not asked yet, or did not answer. A server with an unknown canary is neither loaded nor
	// counted as having it.
	HasUnknown Has = iota
	// HasNot: it has not, and nobody is loading it.
	HasNot
	// HasLoading: a call is under way, to load or to unload it.
	HasLoading
	// HasFailed: the last call has failed, and none is under way.
	HasFailed
	// HasIt: it was seen to answer with it.
	HasIt
)

// Do is what an Action is.
type Do uint8

const (
	// DoLoad: call Loader.Load for Server with Target, not waiting for it, and say HasLoading from the next Tick on.
	DoLoad Do = iota + 1
	// DoUnload: the same with Loader.Unload.
	DoUnload
	// DoWrite: call Home.Write with Record, and then Machine.Written. No other is given before that.
	DoWrite
	// DoTell: tell people of Event.
	DoTell
)

// Action is what a Machine wants done. Those of a Tick are to be done in their order.
type Action struct {
	Do     Do
	Server string // ID; of DoLoad and DoUnload
	Target string // of DoLoad and DoUnload: which adapter
	Record Record // of DoWrite
	Event  Event  // of DoTell
}

// Event is something that people want to hear of.
type Event struct {
	At     time.Time
	Object Object
	Kind   EventKind
	Text   string // a sentence, with figures
}

// EventKind is what an Event is about; it can serve as the reason of an event in Kubernetes.
type EventKind string

// What is told of.
const (
	Started   EventKind = "Started"   // a plan begins
	Restored  EventKind = "Restored"  // it goes on, after a restart or with another writer
	Loaded    EventKind = "Loaded"    // as many servers as are needed have the canary
	Stepped   EventKind = "Stepped"   // the weights go up
	Held      EventKind = "Held"      // it does not go on just now
	Continued EventKind = "Continued" // what held it is over
	Paused    EventKind = "Paused"    // by a person, or because of one
	Resumed   EventKind = "Resumed"
	Judged    EventKind = "Judged"    // a metric got another verdict
	Aborted   EventKind = "Aborted"   // the stable target gets everything
	Completed EventKind = "Completed" // Done
	Ended     EventKind = "Ended"     // Failed
	Warned    EventKind = "Warned"
)
