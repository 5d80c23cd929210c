package sharingtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/sharing"
)

func (w *world) reach() {
	w.meet(w.open(Names()...)...)
}

func (w *world) sizes() {
	m := w.open("a", "b", "c")
	for _, size := range []int{1, 2, 3, 125, 126, 127, 128, 1000, 4095, 4096, 4097, 16 << 10, 32<<10 + 1, sharing.MaxMessage - 1, sharing.MaxMessage} {
		m[0].reaches(w.message(size), m[1:]...)
	}
	// All at once, large and small, so that they might run into each other.
	for _, size := range []int{1, sharing.MaxMessage, 100, 1, 9000, 1, 1, 40_000, 12} {
		if err := m[1].broadcast(context.Background(), w.message(size)); err != nil {
			w.failf("Broadcast of %d bytes: %v", size, err)
		}
	}
	w.meet(m...)
}

func (w *world) tooLong() {
	m := w.open("a", "b")
	w.meet(m...)
	for _, size := range []int{sharing.MaxMessage + 1, 2 * sharing.MaxMessage, 16 * sharing.MaxMessage} {
		m[0].refuses(context.Background(), size, fmt.Sprintf("a message of %d bytes is more than sharing.MaxMessage", size))
	}
	w.meet(m...)
}

func (w *world) concurrent() {
	m := w.open("a", "b", "c", "d")
	w.meet(m...)
	var senders sync.WaitGroup
	for _, from := range m {
		for s := range 3 {
			senders.Go(func() {
				for i := range 50 {
					if from.broadcast(context.Background(), w.message(10+977*i%8000+s)) == errLate {
						return
					}
				}
			})
		}
	}
	senders.Wait()
	w.meet(m...)
}

// bursts checks that each of several messages that are sent at once comes through now and then: what a gateway tells at
// one time may take several, always in the same order.
func (w *world) bursts() {
	m := w.open("a", "b", "c")
	w.meet(m...)
	unheard := []int{0, 1, 2, 3} // places in a burst
	for until := time.Now().Add(w.fleet.Patience); len(unheard) > 0; {
		hashes := make([]uint64, 4)
		for i := range hashes {
			msg := w.message(16<<10 + i)
			hashes[i] = w.hash(msg)
			if err := m[0].broadcast(context.Background(), msg); err == errLate {
				return
			}
		}
		unheard = slices.DeleteFunc(unheard, func(i int) bool { return len(w.wait(hashes[i], m[1:], 50*time.Millisecond)) == 0 })
		if len(unheard) > 0 && time.Now().After(until) {
			w.failf("of 4 messages that are sent at once the one at place %d is never heard by all, in %v", unheard[0]+1, w.fleet.Patience)
			return
		}
	}
}

func (w *world) slow() {
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	defer open()
	m := w.open("a", "c")
	const blocking = 101 // bytes
	slow := w.openWith("b", func(msg []byte) {
		if len(msg) == blocking {
			<-release
		}
	})
	w.meet(append(m, slow)...)
	m[0].reaches(w.message(blocking), slow)

	messages := 2000
	if testing.Short() {
		messages = 1000
	}
	before := heapInUse()
	for range messages {
		ctx, cancel := context.WithTimeout(context.Background(), w.fleet.Patience/10)
		err := m[0].broadcast(ctx, w.message(sharing.MaxMessage))
		cancel()
		if err == errLate {
			return
		}
	}
	if grown := heapInUse() - before; grown > w.fleet.HeapGrowth {
		w.failf("the heap has grown by %d bytes while %d messages of %d bytes met a handle that does not return, want %d at most",
			grown, messages, sharing.MaxMessage, w.fleet.HeapGrowth)
	}
	w.meet(m...)
	open()
	w.meet(append(m, slow)...)
}

// heapInUse returns how many bytes of the heap are in use.
func heapInUse() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func (w *world) close() {
	m := w.open("a", "c")
	slow := w.openWith("b", func([]byte) { time.Sleep(2 * time.Millisecond) })
	w.meet(append(m, slow)...)

	// While messages come in and go out: more than b can handle, so that some wait, but not so many that hardly
	// any is heard, of which a transport may drop whichever it likes.
	stop := make(chan struct{})
	var senders sync.WaitGroup
	send := func(from *member) {
		for from.broadcast(context.Background(), w.message(1000)) == nil {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	for range 3 {
		senders.Go(func() { send(slow) })
		senders.Go(func() { send(m[0]) })
	}
	w.meet(append(m, slow)...)
	slow.close()
	slow.refuses(context.Background(), 10, "Close has returned")
	for range 5 { // time for what should not happen any more
		w.meet(m...)
	}
	close(stop)
	senders.Wait()
	slow.close()

	unheard := w.fleet.Open(w.t, "d")
	if !w.soon(func() { unheard.Close() }) { // an error is for people to see
		w.failf("Close without Receive has not returned after %v", w.fleet.Patience)
	}
}

func (w *world) returns() {
	m := w.open("a", "b", "c")
	w.meet(m...)
	for range 3 {
		m[1].close()
		m[0].reaches(w.message(100), m[2])
		m[1] = w.open("b")[0]
		w.meet(m...)
	}
}

func (w *world) late() {
	m := w.open("a", "b")
	w.meet(m...)
	for range 100 {
		if err := m[0].broadcast(context.Background(), w.message(1000)); err != nil {
			w.failf("Broadcast: %v", err)
		}
	}
	w.meet(append(m, w.open("c")...)...)
}

func (w *world) context() {
	m := w.open("a", "b")
	w.meet(m...)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithTimeout(context.Background(), -time.Second)
	defer cancel()
	for _, ctx := range []context.Context{cancelled, late} {
		if err := m[0].refuses(ctx, 100, "its ctx is done"); err != nil && !errors.Is(err, ctx.Err()) {
			w.failf("Broadcast with a ctx that is done returns %q, which does not wrap %q", err, ctx.Err())
		}
	}
	w.meet(m...)
}

func (w *world) panics() {
	m := w.open("a", "c")
	clumsy := w.openWith("b", func(msg []byte) {
		if len(msg) == 13 {
			panic("sharingtest: handle panics, which a transport must survive")
		}
	})
	w.meet(append(m, clumsy)...)
	for range 3 {
		m[0].reaches(w.message(13), m[1], clumsy)
	}
	w.meet(append(m, clumsy)...)
}

func (w *world) partition() {
	if w.fleet.Cut == nil {
		w.t.Skip("Fleet.Cut is nil")
	}
	m := w.open("a", "b", "c", "d")
	w.meet(m...)
	w.fleet.Cut("b")
	w.meet(m[0], m[2], m[3])
	for range 20 {
		// It may or may not be an error that nobody is there.
		if m[1].broadcast(context.Background(), w.message(1000)) == errLate {
			break
		}
	}
	w.fleet.Cut("c")
	w.meet(m[0], m[3])
	w.fleet.Heal()
	w.meet(m...)
}
