// Package admission says who may use a pool of model servers when there is not room for
// all: who goes first, who waits, and who is refused. A server that is given more than it
// can run queues the rest in order of arrival, and then nobody can be preferred any more;
// so what does not fit waits here.
//
//	c, err := admission.New(admission.Options{})
//	c.SetEndpoints(eps) // and Put for each new reading, Remove for what goes
//	…
//	ticket, waited, err := c.Admit(ctx, admission.Arrival{Request: req})
//	if err != nil {
//		// a *Refusal: 429 with Reason and RetryAfter, or 503 if Reason.Unavailable
//	}
//	defer ticket.Done(outcome)
//	d, err := scheduler.Schedule(ctx, req, ticket.Candidates(nil, eps))
//	ticket.Booked(d.Endpoint)
//	// at the first token, after d.FirstToken():
//	ticket.FirstToken()
//
// A director does all of this for its pools (director.Options.Admission), and so does
// every adapter built on one.
//
// # Room
//
// A [Detector] says of one endpoint how full it is, 1 being full. It reads the ledger,
// what this process itself has sent, first, and what the server reports second. The
// figures are kept for each set of candidates and renewed for one endpoint when something
// happens there: a booking, a first token, an end, a new reading. Asking costs nothing,
// and what waits is let in at that moment: there is no tick.
//
// An endpoint that was taken out (types.Load.TakeOut) has no room, unless all candidates
// are; nor has one that sleeps.
//
// # Functions of the user's
//
// [Detector], Arrival.Match, [Hooks], [Clock], and the functions of Offer and OnRevoke are
// called without a lock, before a call decides or after it has, and may call any method of
// the [Controller] and of a [Ticket]. What they make happen is looked at when they have
// returned. One that panics does no harm; Hooks.Failed hears of it.
//
// # Who is next
//
// Requests are in bands by priority, see [Band] and [DefaultBands]. The highest band with
// a request that there is room for goes first. A band has room at an endpoint that is less
// full than its Ceiling, so that a little is kept for the bands above, and a little of that
// for tenants that ask for less than their share (ModestCeiling). A band with a Floor gets
// that part of all tokens whatever is above it.
//
// Within a priority tenants (types.Request.FairnessID) share by tokens, see [Fairness].
// While two tenants both have requests that wait, what they were served, in weighted
// tokens divided by their weights, differs by at most
//
//	2·U + Credit + E (+ 2·Quantum with PrefixLocality)
//
// where U is the most that one request costs: InputWeight·prompt + OutputWeight·output,
// divided by its tenant's weight; and E is what the outputs of their requests under way were
// misjudged by, in sum, when they were let in, which is put right when they end. VTC, which
// charges for each token as it is made, has the tokens in the batch in the place of E.
//
// The programs of a tenant (types.Request.ProgramID), such as an agent's task of which many
// requests come at once, share what it gets, see [FIFO]. They are the client's own words, so that they
// change nothing for other tenants, and who makes up many of them does not starve the rest of its own:
// one request in four is the one that has waited the longest. Each gateway counts for itself what
// programs were served. A tenant that names none has its requests served in order.
//
// # Several gateways
//
// A [Controller] takes part in package scheduling/sharing: gateways that share have their
// budgets and tenants in common, and each counts what the others have at an endpoint. Nothing
// waits for that: a request is judged by what has been heard. Without messages all is as
// without sharing.
//
// A [Budget] is given out once over all gateways: what each lets in is taken off at all of
// them. Until it is heard, others are taken to go on as they did, or, if here more is let in
// than usually, to do so too; so that in any time all together let in 5 % more than one would,
// and a request of each, at most, as long as demand does not come from nothing in the time of a
// message. Where the Burst is less than what flows in within some seconds, about a tenth less
// may be let in than by one.
//
// A tenant's counter is what all gateways have served it. While two tenants both have requests
// that wait at every gateway, what they were served over all gateways differs by at most the
// bound above, of what is under way at all gateways, and
//
//	4·V
//
// where V is the most that all gateways together serve one tenant, divided by its weight, in
// the time until they have heard of each other: two intervals between messages
// (sharing.Options.Every) and the time that a message takes. A tenant that waits only at some
// gateways is preferred there by no more than Credit and 3·V; so it gets its share where what
// it waits for suffices.
//
// What peers say is bounded: it makes no budget, tenant or endpoint, takes a budget no lower
// than minus one Burst (and a request of each gateway), gives back no more than it took, and
// moves no tenant further than said above. See [PeerStats] for what was not believed.
//
// # Bounds
//
// Queues, bands, tenants, sets of candidates and budgets are all bounded, and each bound
// is a field of [Options] or its [Tuning]. Ids, priorities and deadlines that clients invent
// can make no more of them, and raise nobody: a priority comes from a manifest, a deadline
// can only be shortened, and ids without a place share one.
package admission
