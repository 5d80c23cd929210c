// Package ejection decides when a failing server stops getting requests, and when it gets them
// again. It has neither locks nor a clock; plugins.Ejection adds both.
//
// A [Server] is a state machine with four states. "never" is an event that cannot happen in a
// state; "." changes nothing.
//
//	              In                Suspect           Out               Trial
//	Sent          admit             admit             flight            flight
//	Began         .                 carry             excuse > Suspect  excuse > Suspect
//	Stalled       eject > Out       eject > Out       .                 .
//	Served        restore           restore > In      restore > In      restore > In
//	Failed        count > Suspect   count             .                 eject > Out
//	Failed, row   eject > Out       eject > Out       .                 eject > Out
//	Unanswered    eject > Out       eject > Out       .                 eject > Out
//	Left          .                 .                 wait              wait
//	Left, long    .                 .                 wait              eject > Out
//	Busy          spare             spare             spare             spare
//	Ended         .                 .                 .                 .
//	time is over  never             never             > Trial           never
//
// "Failed, row" is the failure that completes a row of Rules.Failures. "Left, long" is the abandoned
// request with which clients have waited for Input.Patience in total. Served to Ended are ends of
// requests, which are then no longer in flight; while a request sent since the ejection is in flight,
// no more are sent. A busy server gets no requests for a while in any state.
//
// [Stalls] detects servers that hang, by a [Baseline] of response times.
package ejection
