// Package hosttest plays Envoy for streams of package filter, and is strict about it: what Envoy would not forgive
// fails the test. A hook that blocks, a call of the Host from another goroutine, outside of a hook, or after the
// stream's end, memory of Envoy's that is used when it is no more (it is overwritten), a request that goes on twice, a stream
// that is woken when it has ended, and a Waker that is not released once: each is a fault.
package hosttest

import (
	"bytes"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
)

// patience is how long the stream is waited for, and after which a hook has blocked.
const patience = 20 * time.Second

// Message is a request or a response as it goes on from the filter.
type Message struct {
	Header, Trailer [][2]string
	Body            []byte
	Begun, Ended    bool
}

// Get returns the values of a header, joined by commas, and whether there are any.
func (m *Message) Get(name string) (value string, ok bool) {
	for _, f := range m.Header {
		if f[0] == name && ok {
			value += "," + f[1]
		} else if f[0] == name {
			value, ok = f[1], true
		}
	}
	return value, ok
}

// Stream is one stream of Envoy's, and the filter's Host. Its methods are for one goroutine, the worker's.
type Stream struct {
	// Dynamic is the dynamic metadata, by namespace: strings, lists ([]any), and others.
	Dynamic map[string]map[string]any
	// RouteSettings are what the route's configuration says.
	RouteSettings *filter.Settings
	// Own says that the hooks of a response are called for what the filter answers itself, and Ends
	// that Respond, Go (after OnGo) and Reset end the stream before they return.
	Own, Ends bool
	// OnGo is called when the request goes on, inside of Go.
	OnGo func()
	// OnWake is called before the worker is woken, by who wakes it.
	OnWake func()

	// Upstream is the request that goes on, Downstream the response to the client.
	Upstream, Downstream Message
	// Answer is what the filter has answered, nil if it has not.
	Answer *exchange.Answer
	// WasReset says that the filter has reset the stream.
	WasReset bool
	// Woken says that its worker was woken.
	Woken bool

	t      testing.TB
	hooks  filter.Hooks
	worker string
	waits  bool // for Go
	ended  bool // the request was received to its end
	depth  int  // of hooks
	hook   string

	maps map[filter.Map][][2]string
	body map[filter.Body]*buffer // what there is in this hook, and BufferedRequest

	mu        sync.Mutex
	destroyed bool          // guarded by mu
	wakers    int           // guarded by mu: those that are not released
	wakes     chan struct{} // of each Wake
}

// New returns a stream with these hooks. At the test's end it is destroyed, if it was not, and everything that it had must be
// released soon.
func New(t testing.TB, hooks filter.Hooks) *Stream {
	s := &Stream{
		Dynamic: map[string]map[string]any{}, t: t, hooks: hooks, worker: goroutine(),
		maps: map[filter.Map][][2]string{}, body: map[filter.Body]*buffer{filter.BufferedRequest: {}}, wakes: make(chan struct{}, 9),
	}
	t.Cleanup(func() {
		s.worker = goroutine()
		s.Destroy()
		s.Released()
	})
	return s
}

// Released waits until every Waker was released.
func (s *Stream) Released() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		n := s.wakers
		s.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d wakers were never released", n)
		}
	}
}

// goroutine is the number of the one that calls.
func goroutine() string {
	var b [64]byte
	return string(bytes.Fields(b[:runtime.Stack(b[:], false)])[1])
}

// fault fails the test. It may be called from any goroutine.
func (s *Stream) fault(format string, args ...any) {
	s.t.Helper()
	s.t.Errorf("fault in the hook %q: "+format, append([]any{s.hook}, args...)...)
}

// call calls a hook, unless the stream has ended.
func (s *Stream) call(hook string, f func() filter.Status) (filter.Status, bool) {
	s.t.Helper()
	if s.destroyed || s.WasReset {
		return 0, false
	}
	before := s.hook
	s.hook = hook
	s.depth++
	watch := time.AfterFunc(patience, func() { panic("the hook " + hook + " blocks") })
	defer func() {
		watch.Stop()
		s.depth--
		s.hook = before
	}()
	return f(), true
}

// Request sends the headers of a request; end if there is no more. pairs are names and values.
func (s *Stream) Request(end bool, pairs ...string) {
	s.t.Helper()
	s.maps[filter.RequestHeaders] = fields(pairs)
	s.ended = end
	status, ok := s.call("RequestHeaders", func() filter.Status { return s.hooks.RequestHeaders(s, end) })
	if !ok {
		return
	}
	switch status {
	case filter.Continue:
		s.waits = true
		s.forward()
	case filter.StopIteration:
		s.waits = true
	default:
		s.fault("status is %d", status)
	}
}

// Body sends a piece of a request's body, in as many parts as given; end if it is the last.
func (s *Stream) Body(end bool, parts ...string) {
	s.t.Helper()
	if s.aborted() {
		return
	}
	if s.ended {
		s.t.Fatal("the test sends more than the whole request")
	}
	s.ended = end
	s.received("RequestBody", filter.ReceivedRequest, newBuffer(parts), func() filter.Status { return s.hooks.RequestBody(s, end) })
}

// Kept sends what a filter before this one has kept of the body so far, and keeps: Envoy then hands it over as what is
// received (all of it, if that filter went on now) while it is what is buffered; or, with apart, the end of the body
// goes there, and nothing is received.
func (s *Stream) Kept(end, apart bool, parts ...string) {
	s.t.Helper()
	if s.aborted() {
		return
	}
	s.ended = end
	kept := newBuffer(parts)
	s.body[filter.BufferedRequest] = kept
	received := kept
	if apart {
		received = &buffer{}
	}
	s.received("RequestBody", filter.ReceivedRequest, received, func() filter.Status { return s.hooks.RequestBody(s, end) })
}

// received calls a hook with what is received, and goes on by its status.
func (s *Stream) received(hook string, kind filter.Body, b *buffer, f func() filter.Status) {
	s.t.Helper()
	s.body[kind] = b
	status, ok := s.call(hook, f)
	delete(s.body, kind)
	defer b.poison()
	if !ok || s.aborted() {
		return
	}
	switch status {
	case filter.Continue:
		s.goesOn(kind, b)
	case filter.StopNoBuffer:
		if b.len() > 0 {
			s.fault("%d bytes are lost", b.len())
		}
	case filter.StopAndWatermark:
		if kind != filter.ReceivedRequest {
			s.fault("status is %d", status)
		}
		s.body[filter.BufferedRequest].add(b.bytes())
	default:
		s.fault("status is %d", status)
	}
}

func (s *Stream) goesOn(kind filter.Body, b *buffer) {
	s.t.Helper()
	if kind == filter.ReceivedResponse {
		s.Downstream.Body = append(s.Downstream.Body, b.bytes()...)
		return
	}
	if s.waits {
		s.body[filter.BufferedRequest].add(b.bytes())
		s.forward()
		return
	}
	s.Upstream.Body = append(s.Upstream.Body, b.bytes()...)
	s.Upstream.Ended = s.ended
}

// Trailers ends a request with trailers.
func (s *Stream) Trailers(pairs ...string) {
	s.t.Helper()
	if s.aborted() {
		return
	}
	s.ended, s.maps[filter.RequestTrailers] = true, fields(pairs)
	status, ok := s.call("RequestTrailers", func() filter.Status { return s.hooks.RequestTrailers(s) })
	switch {
	case !ok || s.aborted():
	case status == filter.Continue && s.waits:
		s.forward()
	case status == filter.Continue:
		s.Upstream.Trailer, s.Upstream.Ended = s.maps[filter.RequestTrailers], true
	case status != filter.StopIteration:
		s.fault("status is %d", status)
	}
}

// aborted reports whether nothing of a request goes on any more.
func (s *Stream) aborted() bool { return s.destroyed || s.WasReset || s.Answer != nil }

// forward lets the request go on.
func (s *Stream) forward() {
	s.waits = false
	s.Upstream = Message{
		Header: slices.Clone(s.maps[filter.RequestHeaders]), Trailer: s.maps[filter.RequestTrailers],
		Body: bytes.Clone(s.body[filter.BufferedRequest].bytes()), Begun: true, Ended: s.ended,
	}
	s.body[filter.BufferedRequest].drain(s.body[filter.BufferedRequest].len())
}

// Wait waits until the worker is woken, and then calls the hook for that.
func (s *Stream) Wait() {
	s.t.Helper()
	select {
	case <-s.wakes:
		s.Wake()
	case <-time.After(patience):
		s.t.Fatal("the worker is not woken")
	}
}

// Pending reports whether the worker was woken, and the hook for that is still to be called: by Wake, or never.
func (s *Stream) Pending() bool {
	select {
	case <-s.wakes:
		return true
	default:
		return false
	}
}

// Wake calls the hook of a worker that was woken.
func (s *Stream) Wake() {
	s.t.Helper()
	s.call("Woken", func() filter.Status { s.hooks.Woken(s); return 0 })
	s.Woken = true
}

// Response sends the headers of a response; end if there is no more. It may be Envoy's own.
func (s *Stream) Response(status int, contentType string, end bool, pairs ...string) {
	s.t.Helper()
	all := append([]string{":status", strconv.Itoa(status), "content-type", contentType}, pairs...)
	s.responds(fields(all), end)
}

func (s *Stream) responds(all [][2]string, end bool) {
	s.t.Helper()
	s.maps[filter.ResponseHeaders] = all
	status, ok := s.call("ResponseHeaders", func() filter.Status { return s.hooks.ResponseHeaders(s, end) })
	switch {
	case !ok || s.destroyed || s.WasReset || s.Downstream.Begun:
	case status == filter.Continue:
		s.Downstream = Message{Header: s.maps[filter.ResponseHeaders], Begun: true, Ended: end}
	default:
		s.fault("status is %d", status)
	}
}

// ResponseBody sends a piece of a response's body, in as many parts as given; end if it is the last.
func (s *Stream) ResponseBody(end bool, parts ...string) {
	s.t.Helper()
	if s.Answer != nil {
		return
	}
	s.received("ResponseBody", filter.ReceivedResponse, newBuffer(parts), func() filter.Status { return s.hooks.ResponseBody(s, end) })
	if !s.destroyed && !s.WasReset {
		s.Downstream.Ended = end
	}
}

// ResponseTrailers ends a response that has some.
func (s *Stream) ResponseTrailers(pairs ...string) {
	s.t.Helper()
	if s.Answer != nil {
		return
	}
	s.maps[filter.ResponseTrailers] = fields(pairs)
	status, ok := s.call("ResponseTrailers", func() filter.Status { return s.hooks.ResponseTrailers(s) })
	switch {
	case !ok || s.destroyed || s.WasReset:
	case status == filter.Continue:
		s.Downstream.Trailer, s.Downstream.Ended = s.maps[filter.ResponseTrailers], true
	default:
		s.fault("status is %d", status)
	}
}

// Destroy ends the stream, however far it came. A second time does nothing.
func (s *Stream) Destroy() {
	s.mu.Lock()
	was := s.destroyed
	s.mu.Unlock()
	if was {
		return
	}
	s.depth++
	before := s.hook
	s.hook = "Destroy"
	watch := time.AfterFunc(patience, func() { panic("Destroy blocks") })
	s.hooks.Destroy()
	watch.Stop()
	s.mu.Lock()
	s.destroyed = true
	s.mu.Unlock()
	s.depth--
	s.hook = before
}

// String says how far it came.
func (s *Stream) String() string {
	return fmt.Sprintf("request: %+v\nresponse: %+v\nanswer: %+v, reset: %v, metadata: %v",
		s.Upstream, s.Downstream, s.Answer, s.WasReset, maps.Clone(s.Dynamic))
}

func fields(pairs []string) (all [][2]string) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, [2]string{pairs[i], pairs[i+1]})
	}
	return all
}
