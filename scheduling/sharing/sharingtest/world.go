package sharingtest

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/inferpick/inferpick/scheduling/sharing"
)

// world is a subtest: its members, what they have sent, and what was wrong.
type world struct {
	t     *testing.T
	fleet Fleet
	seed  maphash.Seed
	next  atomic.Uint64 // message, so that no two are the same

	mu      sync.Mutex
	ended   bool
	members []*member
	sent    map[uint64]bool // messages, by hash
	news    chan struct{}   // closed when a member has heard something
	wrong   int             // problems told
}

// member is a transport in a world.
type member struct {
	w    *world
	name string
	tr   sharing.Transport
	// during, if not nil, is called by handle with each message. It is set before Receive.
	during func(msg []byte)

	running atomic.Int32 // calls of handle
	closed  atomic.Bool  // Close has returned

	heard map[uint64]bool // messages, by hash; guarded by w.mu
}

func newWorld(t *testing.T, f Fleet) *world {
	if f.Patience <= 0 {
		f.Patience = 10 * time.Second
	}
	if f.HeapGrowth <= 0 {
		f.HeapGrowth = 32 << 20
	}
	return &world{t: t, fleet: f, seed: maphash.MakeSeed(), sent: map[uint64]bool{}, news: make(chan struct{})}
}

// failf tells what is wrong, unless the test is over: a transport may go on after it.
func (w *world) failf(format string, args ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wrong++; w.ended || w.wrong > 10 {
		return
	}
	w.t.Errorf(format, args...)
}

// end closes all members.
func (w *world) end() {
	for _, m := range w.all() {
		m.close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
}

func (w *world) all() []*member {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.members)
}

// open opens members.
func (w *world) open(names ...string) []*member {
	w.t.Helper()
	var opened []*member
	for _, name := range names {
		opened = append(opened, w.openWith(name, nil))
	}
	return opened
}

// openWith opens a member that does something during each message.
func (w *world) openWith(name string, during func(msg []byte)) *member {
	w.t.Helper()
	m := &member{w: w, name: name, tr: w.fleet.Open(w.t, name), during: during, heard: map[uint64]bool{}}
	w.mu.Lock()
	w.members = append(w.members, m)
	w.mu.Unlock()
	m.tr.Receive(m.handle)
	return m
}

// message returns a new message of a size. Those of less than 8 bytes may be the same as others.
func (w *world) message(size int) []byte {
	n := w.next.Add(1)
	msg := make([]byte, max(size, 8))
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], n)
	rand.NewChaCha8(key).Read(msg) // the error is always nil
	binary.LittleEndian.PutUint64(msg, n)
	return msg[:size]
}

func (w *world) hash(msg []byte) uint64 { return maphash.Bytes(w.seed, msg) }

// handle is what transports call.
func (m *member) handle(from string, msg []byte) {
	m.running.Add(1)
	defer m.running.Add(-1)
	w := m.w
	if m.closed.Load() {
		w.failf("handle of %s is called after Close has returned", m.name)
	}
	if from == "" || len(from) > 256 || !utf8.ValidString(from) {
		w.failf("%s hears a message from %.300q, want 1 to 256 bytes of text for people to see", m.name, from)
	}
	before := w.hash(msg)
	w.hear(m, before, len(msg))
	if m.during == nil {
		return
	}
	m.during(msg)
	if w.hash(msg) != before {
		w.failf("a message of %d bytes changes while handle of %s runs", len(msg), m.name)
	}
}

// hear notes that m has heard a message.
func (w *world) hear(m *member, hash uint64, size int) {
	w.mu.Lock()
	known := w.sent[hash]
	m.heard[hash] = true
	close(w.news)
	w.news = make(chan struct{})
	w.mu.Unlock()
	if !known {
		w.failf("%s hears a message of %d bytes that nobody has sent: it was changed, merged or cut", m.name, size)
	}
}

// broadcast sends a message, in a copy that it spoils afterwards, and fails if that takes too long.
func (m *member) broadcast(ctx context.Context, msg []byte) error {
	w := m.w
	w.mu.Lock()
	w.sent[w.hash(msg)] = true
	w.mu.Unlock()
	return m.try(ctx, msg)
}

// try is broadcast of a message that nobody may hear.
func (m *member) try(ctx context.Context, msg []byte) (err error) {
	own := slices.Clone(msg)
	if !m.w.soon(func() { err = m.tr.Broadcast(ctx, own) }) {
		m.w.failf("Broadcast of %d bytes by %s has not returned after %v", len(msg), m.name, m.w.fleet.Patience)
		return errLate
	}
	for i := range own {
		own[i] = 0x55
	}
	return err
}

// errLate is the error of a Broadcast that has not returned.
var errLate = errors.New("it has not returned")

// soon calls f, and reports whether it returned in time. A goroutine is left behind if it did not.
func (w *world) soon(f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	late := time.NewTimer(w.fleet.Patience)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		return false
	}
}

// close closes the transport of m, again if it was closed.
func (m *member) close() {
	if !m.w.soon(func() { m.tr.Close() }) { // an error is for people to see
		m.w.failf("Close of %s has not returned after %v", m.name, m.w.fleet.Patience)
		return
	}
	m.closed.Store(true)
	if n := m.running.Load(); n > 0 {
		m.w.failf("handle of %s still runs when Close has returned", m.name)
	}
}

// reaches broadcasts a message until the others have heard it.
func (m *member) reaches(msg []byte, others ...*member) {
	m.w.t.Helper()
	w := m.w
	hash := w.hash(msg)
	deadline := time.Now().Add(w.fleet.Patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		err := m.broadcast(context.Background(), msg)
		deaf := w.wait(hash, others, min(pause, time.Until(deadline)))
		if len(deaf) == 0 {
			return
		}
		if err == errLate || time.Now().After(deadline) {
			w.t.Fatalf("%s has not heard a message of %d bytes by %s after %v; the last Broadcast returned %v", deaf, len(msg), m.name, w.fleet.Patience, err)
		}
	}
}

// wait waits until others have heard a message, and returns the names of those who have not.
func (w *world) wait(hash uint64, others []*member, most time.Duration) (deaf []string) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		w.mu.Lock()
		deaf = nil
		for _, o := range others {
			if !o.heard[hash] {
				deaf = append(deaf, o.name)
			}
		}
		news := w.news
		w.mu.Unlock()
		if len(deaf) == 0 {
			return nil
		}
		select {
		case <-news:
		case <-timer.C:
			return deaf
		}
	}
}

// meet has each member hear each other one.
func (w *world) meet(members ...*member) {
	w.t.Helper()
	for _, m := range members {
		others := slices.DeleteFunc(slices.Clone(members), func(o *member) bool { return o == m })
		m.reaches(w.message(100), others...)
	}
}

// refuses checks that a Broadcast of m fails, and returns its error.
func (m *member) refuses(ctx context.Context, size int, why string) error {
	m.w.t.Helper()
	err := m.try(ctx, m.w.message(size))
	if err == nil {
		m.w.failf("Broadcast of %s returns no error, although %s", m.name, why)
	}
	return err
}
