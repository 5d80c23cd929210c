// Package ejection decides when a failing server stops getting requests, and when it gets them
// again. It has neither locks nor a clock; plugins.Ejection adds both.
//
// A [Server] is a state machine with five states. "never" is an event that cannot happen in a
// state; "." changes nothing.
//
//	              In                Suspect           Doubted           Out               Trial
//	Sent          admit             admit             flight            flight            flight
//	Began         .                 carry             carry > Suspect   excuse > Suspect  excuse > Suspect
//	Stalled       eject > Out       eject > Out       eject > Out       .                 .
//	Served        restore           restore > In      restore > In      restore > In      restore > In
//	Failed        count > Suspect   count             eject > Out       .                 eject > Out
//	Failed, row   eject > Out       eject > Out       eject > Out       .                 eject > Out
//	Failed, votes doubt > Doubted   doubt > Doubted   never             never             never
//	Unanswered    eject > Out       eject > Out       eject > Out       .                 eject > Out
//	Left          .                 .                 wait              wait              wait
//	Left, long    .                 .                 eject > Out       wait              eject > Out
//	Busy          spare             spare             spare             spare             spare
//	Ended         .                 .                 .                 .                 .
//	Told          .                 .                 .                 .                 .
//	Told, enough  doubt > Doubted   doubt > Doubted   never             never             never
//	Told, later   never             never             never             put off           put off > Out
//	Quiet         .                 .                 .                 .                 .
//	Quiet, sooner never             never             never             hasten            never
//	time is over  never             never             never             > Trial           never
//
// "Failed, row" is the failure that completes a row of Rules.Failures. "Left, long" is the abandoned
// request with which clients have waited for Input.Patience in total. Served to Ended are ends of
// requests, which are then no longer in flight; while a request sent since the ejection is in flight,
// no more are sent. A busy server gets no requests for a while in any state.
//
// # What peers say
//
// Told is the word of another gateway that it has ejected the server. It is a vote: "Failed, votes" is
// the failure that completes a row together with the votes, one failure each. "Told, enough" is the vote
// that completes a row, which takes failures here or several peers, or the vote of a peer that could not
// connect. Votes never put a server out. They only have it doubted: it gets one request at a time until
// one is answered, or fails. Of requests sent before, only one without an answer counts then.
//
// A request that is answered settles the votes that were heard before it was sent: each ejection of a
// peer counts once. Unless the server had failed here, too, these peers are not believed for a while,
// which doubles: a peer that lies costs a bounded number of trials. Silence proves nothing: peers that no
// longer say so do not end a doubt or an ejection.
//
// A dead server need not be tried by all gateways. "Told, later" is the word of a peer that has it out
// for longer, as its own trial failed: the own trial waits until then, and a little longer, by a time in
// which the gateways differ, so that mostly one of them is the first to try. Each peer may extend an
// ejection once by as much as it lasts, and for as long as it says so: "Quiet, sooner" is that there is no
// need to wait any more, as when the trial of a peer was served.
//
// [Stalls] detects servers that hang, by a [Baseline] of response times.
package ejection
