package hosttest

import (
	"bytes"
	"slices"
	"strconv"
	"sync"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
)

// This file is the Host.

var _ filter.Host = (*Stream)(nil)

// called checks that a method of the Host may be called.
func (s *Stream) called(method string) {
	s.t.Helper()
	switch {
	case goroutine() != s.worker:
		s.fault("%s is called by another goroutine", method)
	case s.depth == 0:
		s.fault("%s is called outside of a hook", method)
	case s.destroyed || s.hook == "Destroy":
		s.fault("%s is called after the stream's end", method)
	}
}

// Fields implements filter.Host.
func (s *Stream) Fields(m filter.Map) exchange.Fields {
	s.called("Fields")
	all, ok := s.maps[m]
	if !ok {
		s.fault("there is no map %d yet", m)
	}
	copied := slices.Clone(all)
	return func(yield func(name, value string) bool) {
		for _, f := range copied {
			if !yield(f[0], f[1]) {
				return
			}
		}
	}
}

// Set implements filter.Host.
func (s *Stream) Set(m filter.Map, name, value string) {
	s.called("Set")
	if m == filter.RequestHeaders && s.Upstream.Begun || m == filter.ResponseHeaders && s.Downstream.Begun {
		s.fault("header %s is set when it is on its way", name)
	}
	if bytes.ContainsFunc([]byte(name), func(r rune) bool { return r >= 'A' && r <= 'Z' }) {
		s.fault("header %s is not in lower case", name)
	}
	had := slices.IndexFunc(s.maps[m], func(f [2]string) bool { return f[0] == name })
	s.maps[m] = slices.DeleteFunc(s.maps[m], func(f [2]string) bool { return f[0] == name })
	switch {
	case value == "":
	case had >= 0:
		s.maps[m] = slices.Insert(s.maps[m], had, [2]string{name, value})
	default:
		s.maps[m] = append(s.maps[m], [2]string{name, value})
	}
}

// Remove implements filter.Host.
func (s *Stream) Remove(m filter.Map, name string) { s.Set(m, name, "") }

// Pieces implements filter.Host.
func (s *Stream) Pieces(b filter.Body) [][]byte {
	s.called("Pieces")
	if s.body[b] == nil {
		return nil
	}
	return slices.Clone(s.body[b].parts)
}

// Append implements filter.Host.
func (s *Stream) Append(b filter.Body, piece []byte) {
	s.called("Append")
	switch {
	case len(piece) == 0:
	case b == filter.BufferedResponse && s.hook == "ResponseTrailers": // goes on at once
		s.Downstream.Body = append(s.Downstream.Body, piece...)
	case b == filter.BufferedRequest && s.hook == "Woken" && s.waits:
		s.body[b].add(piece)
	case (b == filter.ReceivedRequest || b == filter.ReceivedResponse) && s.body[b] != nil:
		s.body[b].add(piece)
	default:
		s.fault("%d bytes are appended to buffer %d", len(piece), b)
	}
}

// Drain implements filter.Host.
func (s *Stream) Drain(b filter.Body, n int) {
	s.called("Drain")
	if s.body[b] == nil || n > s.body[b].len() {
		s.fault("%d bytes are drained of buffer %d, which has not as many", n, b)
		return
	}
	s.body[b].drain(n)
}

// Metadata implements filter.Host.
func (s *Stream) Metadata(namespace, key string) (values []string, ok bool) {
	s.called("Metadata")
	value, ok := s.Dynamic[namespace][key]
	switch v := value.(type) {
	case string:
		values = []string{v}
	case []any:
		for _, one := range v {
			if text, is := one.(string); is {
				values = append(values, text)
			}
		}
	}
	return values, ok
}

// SetMetadata implements filter.Host.
func (s *Stream) SetMetadata(namespace, key string, value any) {
	s.called("SetMetadata")
	if s.Dynamic[namespace] == nil {
		s.Dynamic[namespace] = map[string]any{}
	}
	s.Dynamic[namespace][key] = value
}

// Route implements filter.Host.
func (s *Stream) Route() *filter.Settings {
	s.called("Route")
	return s.RouteSettings
}

// Respond implements filter.Host.
func (s *Stream) Respond(a *exchange.Answer) {
	s.called("Respond")
	if s.Answer != nil || s.Downstream.Begun {
		s.fault("a response of %d follows another one", a.Status)
	}
	s.Answer = a
	s.Downstream = Message{Begun: true, Ended: true, Body: bytes.Clone(a.Body), Header: [][2]string{{":status", strconv.Itoa(a.Status)}}}
	for name, value := range a.Fields() {
		s.Downstream.Header = append(s.Downstream.Header, [2]string{name, value})
	}
	if s.Own && s.hook != "ResponseHeaders" {
		s.own()
	}
	if s.Ends {
		s.Destroy()
	}
}

// own plays the answer of the filter through its own hooks.
func (s *Stream) own() {
	s.responds(slices.Clone(s.Downstream.Header), len(s.Downstream.Body) == 0)
	if len(s.Downstream.Body) == 0 {
		return
	}
	b := newBuffer([]string{string(s.Downstream.Body)})
	s.body[filter.ReceivedResponse] = b
	status, _ := s.call("ResponseBody", func() filter.Status { return s.hooks.ResponseBody(s, true) })
	delete(s.body, filter.ReceivedResponse)
	if status != filter.Continue || !bytes.Equal(b.bytes(), s.Downstream.Body) {
		s.fault("status is %d, and the filter's own answer became %q", status, b.bytes())
	}
}

// Go implements filter.Host.
func (s *Stream) Go() {
	s.called("Go")
	if !s.waits || s.hook != "Woken" {
		s.fault("a request goes on that does not wait")
	}
	s.forward()
	if s.OnGo != nil {
		s.OnGo()
	}
	if s.Ends {
		s.Destroy()
	}
}

// Reset implements filter.Host.
func (s *Stream) Reset() {
	s.called("Reset")
	if s.WasReset {
		s.fault("it was reset before")
	}
	s.WasReset = true
	if s.Ends {
		s.Destroy()
	}
}

// Waker implements filter.Host.
func (s *Stream) Waker() filter.Waker {
	s.called("Waker")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakers++
	return &waker{s: s}
}

// waker is a filter.Waker.
type waker struct {
	s        *Stream
	mu       sync.Mutex
	woken    bool // guarded by mu
	released bool // guarded by mu
}

// Wake implements filter.Waker.
func (w *waker) Wake() {
	if w.s.OnWake != nil {
		w.s.OnWake()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.released || w.woken || w.s.destroyed {
		w.s.t.Errorf("a stream is woken: destroyed %v, before %v, after Release %v", w.s.destroyed, w.woken, w.released)
	}
	w.woken = true
	w.s.wakes <- struct{}{}
}

// Release implements filter.Waker.
func (w *waker) Release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.released {
		w.s.t.Error("a waker is released twice")
		return
	}
	w.released = true
	w.s.wakers--
}

// buffer is one of Envoy's: its parts are memory of their own, which is overwritten when they are no more.
type buffer struct{ parts [][]byte }

func newBuffer(parts []string) *buffer {
	b := new(buffer)
	for _, p := range parts {
		if p != "" {
			b.parts = append(b.parts, []byte(p))
		}
	}
	return b
}

func (b *buffer) bytes() []byte { return bytes.Join(b.parts, nil) }

func (b *buffer) len() (n int) {
	for _, p := range b.parts {
		n += len(p)
	}
	return n
}

func (b *buffer) add(piece []byte) {
	if len(piece) > 0 {
		b.parts = append(b.parts, bytes.Clone(piece))
	}
}

// drain removes n bytes in front.
func (b *buffer) drain(n int) {
	for n > 0 {
		first := b.parts[0]
		k := min(n, len(first))
		overwrite(first[:k])
		if b.parts[0] = first[k:]; k == len(first) {
			b.parts = b.parts[1:]
		}
		n -= k
	}
}

// poison overwrites what is left.
func (b *buffer) poison() { b.drain(b.len()) }

func overwrite(p []byte) {
	for i := range p {
		p[i] = 0xDB
	}
}
