package kvevents

import "sync/atomic"

// Stats are counts since New, of all endpoints.
type Stats struct {
	Batches uint64 // told to the Sink, replayed ones included
	Events  uint64 // in them
	Blocks  uint64 // in those
	Skipped uint64 // events of an unknown kind, or with hashes of an unknown type
	Foreign uint64 // messages of another topic than that of the source
	Loads   uint64 // readings of load that were pushed

	Connects uint64 // connections to publishers
	Refused  uint64 // connections that came in and belong to no endpoint, or are too many
	Gaps     uint64 // batches that came where an earlier one was wanted
	Replays  uint64 // asked for
	Replayed uint64 // batches of replays that were told
	Resets   uint64 // ranks that the Sink was told to forget

	// What failed. See Options.OnFailure.
	DiscoveryErrors  uint64 // of asking an engine where it publishes
	ConnectionErrors uint64 // of connections that could not be made, or broke
	ProtocolErrors   uint64 // of peers that send what no publisher does
	BatchErrors      uint64 // of batches that cannot be read
	ReplayErrors     uint64 // of replays
	Panics           uint64 // of the Sink and other functions that are called
}

// Stats returns the counts. Each is read at some time during the call.
func (s *Subscriber) Stats() Stats {
	c := &s.counts
	return Stats{
		Batches: c.batches.Load(), Events: c.events.Load(), Blocks: c.blocks.Load(),
		Skipped: c.skipped.Load(), Foreign: c.foreign.Load(), Loads: c.loads.Load(),
		Connects: c.connects.Load(), Refused: c.refused.Load(), Gaps: c.gaps.Load(),
		Replays: c.replays.Load(), Replayed: c.replayed.Load(), Resets: c.resets.Load(),
		DiscoveryErrors: c.errors[discoveryError].Load(), ConnectionErrors: c.errors[connectionError].Load(),
		ProtocolErrors: c.errors[protocolError].Load(), BatchErrors: c.errors[batchError].Load(),
		ReplayErrors: c.errors[replayError].Load(), Panics: c.errors[panicError].Load(),
	}
}

type counters struct {
	batches, events, blocks, skipped, foreign, loads   atomic.Uint64
	connects, refused, gaps, replays, replayed, resets atomic.Uint64
	errors                                             [failureKinds]atomic.Uint64
}

// failureKind is what kind of failure one is, for the counts.
type failureKind uint8

const (
	connectionError failureKind = iota
	discoveryError
	protocolError
	batchError
	replayError
	panicError
	failureKinds
)
