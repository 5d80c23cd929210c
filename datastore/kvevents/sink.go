package kvevents

import "github.com/inferpick/inferpick/types"

// Sink takes what engines say that they hold: the index that a scheduler asks, as a rule.
//
// Calls about one endpoint never overlap: each has returned before the next one is made, whatever
// goroutine makes it. Calls about different endpoints come at once, so a Sink locks what they
// share. A Sink must be quick: while it works nothing is read from that endpoint, whose engine
// drops events in the end, which shows as a gap. It must not call methods of the Subscriber,
// except Stats. If it panics, the Logger hears of it, and the source starts anew.
//
// An endpoint is named by its ID, unless Options.Name says otherwise. A rank is one of the
// engines behind it that share a batch of requests but no cache (data parallel), 0 for most; of an
// endpoint that is a rank itself, always that one.
type Sink interface {
	// Apply applies one batch of events of one rank of an endpoint, in order. Neither the batch
	// nor its slices may be kept; the strings may. A batch may come twice. Storing what is stored
	// and removing what is not there change nothing.
	Apply(endpoint string, rank int, batch []Event)

	// Reset forgets all that was told of a rank, in all tiers: it has restarted, or what comes
	// next is a replay from the start. A State always follows before the next Apply.
	Reset(endpoint string, rank int)

	// State tells how far what was told of the rank can be believed from now on. It is called for
	// changes only; before the first call a rank is Unsynced.
	State(endpoint string, rank int, s State)

	// Remove forgets the endpoint wholly, with all ranks: it left the pool, it moved to another
	// address, or its engine turned out to publish no events any more. It is not called at the end
	// of Run, as what was told may be used on; it is called at most once in a row.
	Remove(endpoint string)
}

// The vocabulary of events is that of package types, so that a Sink need not link this one.
type (
	Event = types.KVEvent  // what one rank of an engine has changed
	Kind  = types.KVChange // how
	Tier  = types.KVTier   // where
	State = types.KVState  // how far what was told can be believed
)

// What happened to the blocks of an Event.
const (
	Stored  = types.KVStored
	Removed = types.KVRemoved
	Cleared = types.KVCleared
)

// Where blocks are. Tiers is their number.
const (
	GPU    = types.KVGPU
	CPU    = types.KVCPU
	Disk   = types.KVDisk
	Remote = types.KVRemote
	Tiers  = types.KVTiers
)

// How far a rank can be believed.
const (
	Unsynced  = types.KVUnsynced
	Replaying = types.KVReplaying
	Live      = types.KVLive
	Partial   = types.KVPartial
	Late      = types.KVLate
)
