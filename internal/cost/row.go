package cost

import (
	"math"
	"runtime"
	"sync/atomic"

	"github.com/inferpick/inferpick/types"
)

// Figures are what decisions look at of one server. A Row keeps all but the first as float32.
type Figures struct {
	StepEnds   float64 // when the step under way ends, in Seconds
	Pending    float64 // seconds of prefill that go into the next step
	Queued     float64 // tokens that wait to be computed
	Step       float64 // seconds of a step that only decodes
	Token      float64 // seconds of prefill for a token
	Decoding   float64 // sequences
	OutputCost float64 // weighted seconds for one more token of output
	PerContext float64 // the same for each token of the request's own context
	KV         float64 // part of the KV cache in use
	PerKV      float64 // 1 / size of the KV cache in tokens; 0: not known
	Mine       float64 // part of its requests that are this process's
}

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

	stepEnds atomic.Uint64
	pairs    [5]atomic.Uint64 // of float32
}

// Load fills in f.
func (r *Row) Load(f *Figures) {
	v := r.version.Load()
	ends, a, b, c, d, e := r.stepEnds.Load(), r.pairs[0].Load(), r.pairs[1].Load(), r.pairs[2].Load(), r.pairs[3].Load(), r.pairs[4].Load()
	for v&1 != 0 || r.version.Load() != v {
		runtime.Gosched()
		v = r.version.Load()
		ends, a, b, c, d, e = r.stepEnds.Load(), r.pairs[0].Load(), r.pairs[1].Load(), r.pairs[2].Load(), r.pairs[3].Load(), r.pairs[4].Load()
	}
	f.StepEnds = math.Float64frombits(ends)
	f.Pending, f.Queued = high(a), low(a)
	f.Step, f.Token = high(b), low(b)
	f.Decoding, f.OutputCost = high(c), low(c)
	f.PerContext, f.KV = high(d), low(d)
	f.PerKV, f.Mine = high(e), low(e)
}

func high(v uint64) float64 { return float64(math.Float32frombits(uint32(v >> 32))) }
func low(v uint64) float64  { return float64(math.Float32frombits(uint32(v))) }

// Store publishes f. It writes what has changed only: an atomic store costs as much as all of
// Load.
func (r *Row) Store(f *Figures) {
	ends := math.Float64bits(f.StepEnds)
	pairs := [len(r.pairs)]uint64{
		join(f.Pending, f.Queued), join(f.Step, f.Token), join(f.Decoding, f.OutputCost),
		join(f.PerContext, f.KV), join(f.PerKV, f.Mine),
	}
	same := r.stepEnds.Load() == ends
	for i := range pairs {
		same = same && r.pairs[i].Load() == pairs[i]
	}
	if same {
		return
	}
	r.version.Add(1)
	if r.stepEnds.Load() != ends {
		r.stepEnds.Store(ends)
	}
	for i := range pairs {
		if r.pairs[i].Load() != pairs[i] {
			r.pairs[i].Store(pairs[i])
		}
	}
	r.version.Add(1)
}

func join(a, b float64) uint64 {
	return uint64(math.Float32bits(float32(a)))<<32 | uint64(math.Float32bits(float32(b)))
}

func split(v uint64) (a, b float64) {
	return float64(math.Float32frombits(uint32(v >> 32))), float64(math.Float32frombits(uint32(v)))
}
