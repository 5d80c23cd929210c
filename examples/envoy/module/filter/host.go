package filter

import "github.com/inferpick/inferpick/examples/envoy/exchange"

// Status is what a hook tells Envoy to do next. The values are those of Envoy's interface for headers and
// for bodies; trailers know the first two.
type Status int

// For headers.
const (
	Continue      Status = 0
	StopIteration Status = 1
)

// For bodies, beside Continue.
const (
	StopAndWatermark Status = 2 // Envoy keeps what has come, and reads no more than its limit
	StopNoBuffer     Status = 3 // what has come was taken
)

// Map is a map of headers.
type Map int

// Maps of headers.
const (
	RequestHeaders Map = iota
	RequestTrailers
	ResponseHeaders
	ResponseTrailers
)

// Body is a buffer of Envoy's.
type Body int

// Buffers: what has come with this hook, and what Envoy has kept of a body before.
const (
	ReceivedRequest Body = iota
	BufferedRequest
	ReceivedResponse
	BufferedResponse
)

// Host is Envoy, for one stream. Its methods may be called in a hook of that stream only. Respond, Go and
// Reset may call other hooks of the stream before they return, the last one, Destroy, among them.
type Host interface {
	// Fields are the headers of a map. What they yield is copied.
	Fields(m Map) exchange.Fields
	// Set puts a value in place of all of the name. An empty one removes them.
	Set(m Map, name, value string)
	Remove(m Map, name string)

	// Pieces returns what is in a buffer: Envoy's memory, which is there until Drain or the end of the
	// hook.
	Pieces(b Body) [][]byte
	// Append copies a piece behind what is in a buffer.
	Append(b Body, piece []byte)
	// Drain removes n bytes in front.
	Drain(b Body, n int)

	// Metadata returns a string, or a list of strings, of the stream's dynamic metadata. ok says that there
	// is something, which need not be either.
	Metadata(namespace, key string) (values []string, ok bool)
	// SetMetadata sets a string, a number or a bool of Go's. Others are left out.
	SetMetadata(namespace, key string, value any)
	// Route returns what the configuration of the route says, nil if nothing.
	Route() *Settings

	// Respond answers the request.
	Respond(a *exchange.Answer)
	// Go lets a request go on that was stopped.
	Go()
	// Reset ends the stream without an answer, or in the middle of one.
	Reset()
	// Waker returns what wakes the stream's worker. It must be released.
	Waker() Waker
}

// Waker wakes the worker of a stream. Its methods may be called from any goroutine.
type Waker interface {
	// Wake has the hook Stream.Woken called on the stream's worker, later. The stream must not have ended.
	Wake()
	// Release frees it. It may be called after the stream has ended.
	Release()
}

// Settings are what a filter's configuration, or that of a route, asks for.
type Settings struct{ exchange.Wishes }
