package engine

import "github.com/inferpick/inferpick/types"

// KVEvents is changes in the words in which engines publish them: blocks of one request that follow each
// other are one event, as are those that are dropped at once. of returns the session and the adapter of a
// request, empty if it has none or has left.
func KVEvents(changes []Change, of func(id uint64) (session, adapter string)) []types.KVEvent {
	hashes := make([]uint64, len(changes))
	for i := range changes {
		hashes[i] = changes[i].Key
	}
	var events []types.KVEvent
	for from := 0; from < len(changes); {
		to, first := from+1, changes[from]
		for to < len(changes) && changes[to].Dropped == first.Dropped &&
			(first.Dropped || changes[to].ID == first.ID && changes[to].Before == changes[to-1].Key) {
			to++
		}
		ev := types.KVEvent{Hashes: hashes[from:to:to], Full: true, Kind: types.KVRemoved}
		if !first.Dropped {
			ev.Kind, ev.BlockSize = types.KVStored, BlockTokens
			ev.Parent, ev.HasParent = first.Before, first.Before != 0
			ev.SessionID, ev.Adapter = of(first.ID)
		}
		events = append(events, ev)
		from = to
	}
	return events
}
