package cost

import (
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/inferpick/inferpick/types"
)

// Figures are what decisions look at of one server.
type Figures struct {
	StepEnds   Seconds // when the step under way ends
	Pending    float32 // seconds of prefill that go into the next step
	Queued     float32 // tokens that wait to be computed
	Step       float32 // seconds of a step that only decodes
	Token      float32 // seconds of prefill for a token
	Decoding   float32 // sequences
	OutputCost float32 // weighted seconds for one more token of output
	PerContext float32 // the same for each token of the request's own context
	KV         float32 // part of the KV cache in use
	PerKV      float32 // 1 / size of the KV cache in tokens; 0: not known
	Mine       float32 // part of its requests that are this process's
}

const figureWords = 6

// words are the Figures as they are copied. Reading them as what they are would take each
// apart and put it together again.
func (f *Figures) words() *[figureWords]uint64 { return (*[figureWords]uint64)(unsafe.Pointer(f)) }

var _ [figureWords * 8]byte = [unsafe.Sizeof(Figures{})]byte{}

// Row publishes the Figures of one server, in one line of the processor's cache: a decision
// over thousands of servers is as fast as they can be read. One goroutine at a time may Store;
// any number read meanwhile, without a lock, and see the figures of one Store (a sequence
// lock: Lameter, Gelato Conference 2005; all of its words are atomics, so that it is right
// by the rules of Go's memory model too).
type Row struct {
	version atomic.Uint32 // odd while it is written
	// Handle is the server's slot in the prefix index; -1: it has none. It does not change.
	Handle int32
	// Reading is the reading that the figures come from.
	Reading atomic.Pointer[types.Endpoint]

	figures [figureWords]atomic.Uint64
}

// Load fills in f.
func (r *Row) Load(f *Figures) {
	w, from := f.words(), &r.figures
	for {
		v := r.version.Load()
		w[0], w[1], w[2], w[3], w[4], w[5] = from[0].Load(), from[1].Load(), from[2].Load(), from[3].Load(), from[4].Load(), from[5].Load()
		if v&1 == 0 && r.version.Load() == v {
			return
		}
		runtime.Gosched()
	}
}

// Store publishes f. It writes what has changed only: an atomic store costs as much as all of
// Load.
func (r *Row) Store(f *Figures) {
	w := f.words()
	same := true
	for i := range w {
		same = same && r.figures[i].Load() == w[i]
	}
	if same {
		return
	}
	r.version.Add(1)
	for i := range w {
		if r.figures[i].Load() != w[i] {
			r.figures[i].Store(w[i])
		}
	}
	r.version.Add(1)
}
