// Package ejection decides when a server that fails gets no more requests, and when it gets
// them again. It has neither lock nor clock: the plugin of that name brings both.
//
// A [Server] is a machine of four states. An event that cannot happen in a state is
// "never"; "." changes nothing.
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
// "Failed, row" is the last failure of a row that is long enough, and "Left, long" the
// request with which those who left have waited for long enough together. From Served to
// Ended are the ends of requests, which are then no longer in flight: while one is that was
// sent since the ejection, no more are sent. A server that is busy is spared in whatever
// state it is.
//
// [Stalls] notices the servers that hang, by a [Baseline] of how long requests take.
package ejection
