package kvevents

import "fmt"

// Sink takes what engines say that they hold: the index that a scheduler asks, as a rule.
//
// Calls about one endpoint never overlap: each has returned before the next one is made, whatever
// goroutine makes it. Calls about different endpoints come at once, so a Sink locks what they
// share. A Sink must be quick: while it works nothing is read from that endpoint, whose engine
// drops events in the end, which shows as a gap. It must not call methods of the Subscriber,
// except Stats. If it panics, the Logger hears of it, and the source starts anew.
//
// An endpoint is named by its ID, unless Options.Name says otherwise. A rank is one of the
// engines behind it that share a batch of requests but no cache (data parallel), 0 for most.
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

// State is how far what a Sink was told of one rank can be believed.
type State uint8

const (
	// Unsynced: there is no connection to the engine, or none yet. What was told before was true
	// when the connection ended; since then blocks come and go unseen. It may become true again
	// without a Reset, once what was missed has been replayed.
	Unsynced State = iota

	// Replaying: events that were missed are being applied, older ones first. A block may be told
	// as stored that the same replay removes later.
	Replaying

	// Live: what was told is held, and nothing else is. Both up to the time that an event takes to
	// come here.
	Live

	// Partial: events were lost and cannot be had any more. What was told may have been dropped,
	// and other blocks may be held: entries are predictions from now on, that are to expire. What
	// is told from now on is as true as ever, while nothing more is lost.
	Partial

	// Late: what was told since the last Reset is held, but other blocks, of before that, may be
	// held too. So it is where a gateway joins an engine that has published more than it keeps
	// for replay. An entry is a fact; that there is none says nothing.
	Late
)

// String returns "unsynced", "replaying", "live", "partial" or "late".
func (s State) String() string {
	return name(s, "unsynced", "replaying", "live", "partial", "late")
}

// Event is a change of what one rank of an engine holds.
type Event struct {
	// Hashes are the engine's names of the blocks, in the order of the prompt. Opaque: equal
	// hashes of two servers mean equal blocks only where the engines hash alike. Integers are
	// taken modulo 2^64, so that negative ones are the two's complement; of longer hashes, which
	// come as bytes, the last 8 are taken, big-endian, which is what vLLM does for integers.
	//
	// Valid during the call only. Empty if Kind is Cleared.
	Hashes []uint64

	// Parent is the hash of the block before the first one, if HasParent. A stored block without
	// parent is the start of a prompt, if BlockSize is known.
	Parent uint64

	// BlockSize is the number of tokens of each block. 0 is unknown, as of blocks that an engine
	// moves to another tier: of those the hashes alone are told, and mean something only to a
	// Sink that knows them from an earlier event.
	BlockSize int

	// Group is the engine's number of the cache group, of models whose layers have several kinds
	// of attention. 0 for all others. Blocks of different groups may have the same hash.
	Group int

	Adapter   string // LoRA adapter, empty for none or where the engine does not tell
	SessionID string // of the request that stored the blocks; empty for most engines

	Kind      Kind
	Tier      Tier
	HasParent bool

	// Full says that the group's blocks count for prefixes: those of a sliding window or of a
	// state-space layer do not. True for models with one kind of attention.
	Full bool
}

// Kind says what happened to the blocks of an Event.
type Kind uint8

const (
	// Stored: the blocks are held in the tier now, whatever other tiers hold them.
	Stored Kind = iota
	// Removed: the tier holds the blocks no more. Other tiers may. Parent and BlockSize are unset.
	Removed
	// Cleared: the rank holds nothing any more, in any tier or group. No other field is set.
	Cleared
)

// String returns "stored", "removed" or "cleared".
func (k Kind) String() string { return name(k, "stored", "removed", "cleared") }

// Tier is where an engine keeps a block. A higher tier takes longer to read.
type Tier uint8

const (
	// GPU is the memory of the accelerator. It is also meant by an engine that names no medium.
	GPU Tier = iota
	// CPU is the memory of the host.
	CPU
	// Disk is storage of the host.
	Disk
	// Remote is any store beyond the host, which other servers may share, and any medium whose
	// name is not known here.
	Remote

	// Tiers is the number of tiers.
	Tiers = iota
)

// String returns "gpu", "cpu", "disk" or "remote".
func (t Tier) String() string { return name(t, "gpu", "cpu", "disk", "remote") }

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%T(%d)", v, uint8(v))
}
