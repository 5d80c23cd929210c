package types

import "fmt"

// KVEvent is a change of what one rank of an engine holds in its KV cache, as the engine told it.
type KVEvent struct {
	// Hashes are the engine's names of the blocks, in the order of the prompt. Opaque: equal
	// hashes of two servers mean equal blocks only where the engines hash alike. Integers are
	// taken modulo 2^64; of longer hashes, which come as bytes, the last 8 are taken, big-endian,
	// which is what vLLM does for integers.
	//
	// Valid during the call only that hands it over. Empty if Kind is KVCleared.
	Hashes []uint64

	// Parent is the hash of the block before the first one, if HasParent. A stored block without
	// parent is the start of a prompt, if BlockSize is known.
	Parent uint64

	// BlockSize is the number of tokens of each block. 0 is unknown, as of blocks that an engine
	// moves to another tier: of those the hashes alone are told, and mean something only to who
	// knows them from an earlier event.
	BlockSize int

	// Group is the engine's number of the cache group, of models whose layers have several kinds
	// of attention. 0 for all others. Blocks of different groups may have the same hash.
	Group int

	// Tokens are the token ids of the blocks, BlockSize of each. Those of the last blocks are missing
	// if they depend on more than tokens, Adapter and Salt, as those of images do. Valid as Hashes
	// are. Empty where the engine does not tell, and if nobody asked (kvevents.Options.Tokens).
	Tokens []uint32

	Adapter   string // LoRA adapter, empty for none or where the engine does not tell
	Salt      string // cache_salt, of the start of a prompt; told together with Tokens
	SessionID string // of the request that stored the blocks; empty for most engines

	Kind      KVChange
	Tier      KVTier
	HasParent bool

	// Full says that the group's blocks count for prefixes: those of a sliding window or of a
	// state-space layer do not. True for models with one kind of attention.
	Full bool
}

// KVChange says what happened to the blocks of a KVEvent.
type KVChange uint8

const (
	// KVStored: the blocks are held in the tier now, whatever other tiers hold them.
	KVStored KVChange = iota
	// KVRemoved: the tier holds the blocks no more. Other tiers may. Parent and BlockSize are unset.
	KVRemoved
	// KVCleared: the rank holds nothing any more, in any tier or group. No other field is set.
	KVCleared
)

// String returns "stored", "removed" or "cleared".
func (k KVChange) String() string { return nameOf(k, "stored", "removed", "cleared") }

// KVTier is where an engine keeps a block. A higher tier takes longer to read.
type KVTier uint8

const (
	// KVGPU is the memory of the accelerator. It is also meant by an engine that names no medium.
	KVGPU KVTier = iota
	// KVCPU is the memory of the host.
	KVCPU
	// KVDisk is storage of the host.
	KVDisk
	// KVRemote is any store beyond the host, which other servers may share, and any medium whose
	// name is not known here.
	KVRemote

	// KVTiers is the number of tiers.
	KVTiers = iota
)

// String returns "gpu", "cpu", "disk" or "remote".
func (t KVTier) String() string { return nameOf(t, "gpu", "cpu", "disk", "remote") }

// KVState is how far what was told of one rank of an engine can be believed.
type KVState uint8

const (
	// KVUnsynced: there is no connection to the engine, or none yet. What was told before was true
	// when the connection ended; since then blocks come and go unseen.
	KVUnsynced KVState = iota

	// KVReplaying: events that were missed are being applied, older ones first. A block may be told
	// as stored that the same replay removes later.
	KVReplaying

	// KVLive: what was told is held, and nothing else is. Both up to the time that an event takes to
	// come here.
	KVLive

	// KVPartial: events were lost and cannot be had any more. What was told may have been dropped,
	// and other blocks may be held: entries are predictions from now on, that are to expire. What
	// is told from now on is as true as ever, while nothing more is lost.
	KVPartial

	// KVLate: what was told since the last reset is held, but other blocks, of before that, may be
	// held too. So it is where a gateway joins an engine that has published more than it keeps
	// for replay. An entry is a fact; that there is none says nothing.
	KVLate
)

// String returns "unsynced", "replaying", "live", "partial" or "late".
func (s KVState) String() string {
	return nameOf(s, "unsynced", "replaying", "live", "partial", "late")
}

func nameOf[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%T(%d)", v, uint8(v))
}
