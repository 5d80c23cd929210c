package cost

import (
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func allOf(v float32) Figures {
	return Figures{StepEnds: Seconds(v), Pending: v, Queued: v, Step: v, Token: v, Decoding: v, OutputCost: v, PerContext: v, KV: v, PerKV: v, Mine: v}
}

func TestRowIsOneLineOfTheCache(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) == 8 {
		require.EqualValues(t, 64, unsafe.Sizeof(Row{}))
	}
}

// Who reads while figures change sees those of one Store, and never older ones than before.
func TestRow(t *testing.T) {
	const stores = 20_000
	var r Row
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			var f Figures
			for last := float32(0); last < stores; last = f.Mine {
				r.Load(&f)
				if f != allOf(f.Mine) || f.Mine < last {
					t.Errorf("read %+v after %v", f, last)
					return
				}
			}
		})
	}
	for i := range stores {
		f := allOf(float32(i + 1))
		r.Store(&f)
	}
	all.Wait()
}

// What has not changed is not written.
func TestRowStoresChangesOnly(t *testing.T) {
	var r Row
	f := allOf(3)
	r.Store(&f)
	before := r.version.Load()
	r.Store(&f)
	require.Equal(t, before, r.version.Load())
	f.KV = 4
	r.Store(&f)
	var got Figures
	r.Load(&got)
	require.Equal(t, f, got)
}
