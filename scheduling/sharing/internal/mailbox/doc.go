// Package mailbox is what transports through a server have in common, of messages that are state, of which the
// newest counts: who has a message never waits, few wait to be sent or to be handled, and the oldest of them give
// way. What cannot be sent is forgotten, and who has more is told why.
package mailbox
