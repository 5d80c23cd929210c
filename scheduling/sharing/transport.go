package sharing

import "context"

// MaxMessage is how many bytes a message has at most.
const MaxMessage = 64 << 10

// Transport carries messages between gateways. It may lose them, deliver them more than once, late, and in any
// order. Package sharingtest has a test of any Transport.
type Transport interface {
	// Broadcast sends a message of at most MaxMessage bytes to all peers that can be reached. It may deliver
	// it to this gateway, too. It does not keep msg. An error is for people to see: the message is not sent again.
	Broadcast(ctx context.Context, msg []byte) error
	// Receive says who is to be called with each message that comes, from any goroutine. from is where it came
	// from, for people to see; msg is valid during the call only. It is called once, before the first Broadcast.
	Receive(handle func(from string, msg []byte))
	// Close ends the transport. handle is not called any more when it returns.
	Close() error
}
