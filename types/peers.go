package types

import "time"

// This file is what several gateways in front of the same servers tell each other: see package
// scheduling/sharing. All of it is state, not events: it may come late, twice, in any order, or not at all.

// Placement says that an endpoint has, or is about to have, beginnings of prompts in its KV cache.
type Placement struct {
	Endpoint string // Endpoint.ID
	// Anchors are chained hashes of blocks of prompts at some depths: who has the block has all before it.
	// They are valid during the call only.
	Anchors []uint64
}

// Ejected is an endpoint that a gateway has taken out, for its own reasons: what peers say of the endpoint is
// not among them.
type Ejected struct {
	Endpoint string
	// Number counts the ejections of a gateway, from 1: each is one vote.
	Number uint64
	// Refused says that the server could not be connected to.
	Refused bool
	// Left is how much longer it lasts; 0: the endpoint is on probation.
	Left time.Duration
}

// Binding says that something belongs to an endpoint: a session, or an answer that is kept there.
type Binding struct {
	Key      uint64 // hash of the name, the same in all gateways
	Endpoint string
	// Age is how long ago it was last used.
	Age time.Duration
	// Version is higher the more often it was moved to another endpoint, and random beyond that. Of two that
	// bind the same, the one of the higher version counts.
	Version uint64
}

// Account is what one gateway has charged to a tenant or a budget.
type Account struct {
	Key uint64 // hash of the name, the same in all gateways
	// Requests and Tokens were charged since the gateway started. They may fall: what was expected is put
	// right when it is known.
	Requests, Tokens float64
	// RequestsLeft and TokensLeft are what the gateway takes to be left; NaN where there is no bound.
	RequestsLeft, TokensLeft float64
}
