package sharing

import "context"

// MaxMessage is how many bytes a message has at most.
const MaxMessage = 64 << 10

// Transport carries messages between gateways. It may lose them, deliver them more than once, late, and in any
// order. Package sharingtest has a test of any Transport.
type Transport interface {
	// Broadcast sends a message of 1 to MaxMessage bytes to all peers that can be reached. It may deliver
	// it to this gateway, too. It does not keep msg, and waits for no peer. An error is for people to see: the message
	// is not sent again. It fails if ctx is done, and after Close.
	Broadcast(ctx context.Context, msg []byte) error
	// Receive says who is to be called with each message that comes, from any goroutine. from is where it came
	// from, for people to see; msg is valid during the call only. If handle panics, that message is lost and nothing
	// else. Receive is called once, before the first Broadcast.
	Receive(handle func(from string, msg []byte))
	// Close ends the transport. No call of handle runs or begins any more when it returns, so handle must not call it.
	// It may be called again.
	Close() error
}
