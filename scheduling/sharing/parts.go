package sharing

import (
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// This file is what takes part in sharing: plugins and controllers of admission that implement any of these
// interfaces. Endpoints are named by types.Endpoint.ID. All methods are called by one goroutine at a time, without
// a lock, and beside decisions. Peers are numbered from 1; a number means the same gateway, from its start to
// its end, for as long as a part has not been told that it is lost.

// LoadPart keeps figures of its own of how busy endpoints are.
type LoadPart interface {
	// PeersChanged is told that types.Load.Peers of eps has changed.
	PeersChanged(eps []*types.Endpoint, now time.Time)
}

// PrefixPart knows which endpoints have which prompts in their caches.
type PrefixPart interface {
	// SharePlacements calls tell for what has been sent where since the last call, or the one before it, as
	// messages may be lost. It keeps nothing before the first call, and a bounded amount between two.
	SharePlacements(tell func(types.Placement))
	// HearPlacement is told of a placement of a peer.
	HearPlacement(p types.Placement, now time.Time)
}

// EjectionPart knows which endpoints fail.
type EjectionPart interface {
	// ShareEjections calls tell for each endpoint that this gateway has ejected.
	ShareEjections(now time.Time, tell func(types.Ejected))
	// HearEjection is told of an endpoint that a peer has ejected, again and again while it has.
	HearEjection(peer int, e types.Ejected, now time.Time)
	// LosePeer forgets what was heard of a peer, which has gone.
	LosePeer(peer int)
}

// BindingPart keeps what belongs to which endpoint.
type BindingPart interface {
	// ShareBindings calls tell for what has been bound since the last call.
	ShareBindings(now time.Time, tell func(types.Binding))
	// HearBinding is told of a binding of a peer.
	HearBinding(b types.Binding, now time.Time)
}

// AccountPart keeps accounts of tenants and budgets.
type AccountPart interface {
	// ShareAccounts calls tell for the accounts that were charged since the last call, or, if whole, for all
	// that were of late.
	ShareAccounts(whole bool, tell func(types.Account))
	// HearAccount is told what a peer has charged.
	HearAccount(peer int, a types.Account)
	// LosePeer forgets a peer, which has gone. What it has charged stays charged.
	LosePeer(peer int)
	// PeersAlive is told how many peers there are.
	PeersAlive(n int)
}

// NotePart tells peers a note in a form of its own, and hears theirs.
type NotePart interface {
	// NoteName names what it is, and the version of its form, in 1 to 128 bytes; no other part of the scope has it.
	// It is the same in all calls. Peers pass over notes of a name that they do not know.
	NoteName() string
	// AppendNote appends to dst what this gateway says now, in at most MaxNote bytes, which takes the place of what it
	// said before. If it appends nothing it says nothing. It is called each Options.Every and told whenever it has
	// changed: what changes all the time had better do so no more often than peers need.
	AppendNote(dst []byte, now time.Time) []byte
	// HearNote is told what a peer says now, again and again while it does, in place of what it said before; empty:
	// it says nothing any more. note is valid during the call.
	HearNote(peer int, note []byte, now time.Time)
	// LosePeer forgets what was heard of a peer, which has gone.
	LosePeer(peer int)
}

// AlivePart wants to know how many peers there are; any part may.
type AlivePart interface {
	// PeersAlive is told when that has changed, and in the beginning.
	PeersAlive(n int)
}

// SnapshotPart has something that is worth keeping over a restart. Its methods are called one at a time, but beside
// the others of this file.
type SnapshotPart interface {
	// SnapshotName names what it is, and the version of its form.
	SnapshotName() string
	// AppendSnapshot appends it to dst, in at most room bytes: what matters most, if it is more.
	AppendSnapshot(dst []byte, room int, now time.Time) []byte
	// Restore takes over what AppendSnapshot wrote. age is how long ago that was. With an error nothing has
	// changed.
	Restore(snapshot []byte, age time.Duration, now time.Time) error
}

// PeerSnapshotPart is a SnapshotPart of which what one gateway knows is as good for another: it is asked of a peer by a
// gateway that begins and has no snapshot of its own.
type PeerSnapshotPart interface {
	SnapshotPart
	// RestoreFromPeer is Restore of what a peer, which lives, has written just now. id returns the ID by which
	// this gateway knows the endpoint of an ID of the peer.
	RestoreFromPeer(snapshot []byte, id func(string) string, now time.Time) error
}

// PartsOf returns the plugins of a profile.
func PartsOf(p scheduling.Profile) []any { return p.Plugins() }
