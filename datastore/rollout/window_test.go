package rollout_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

func filled(t testing.TB, n int) (*rollout.Plan, *rollout.Window) {
	p, err := plan(10, 100).WithDefaults()
	require.NoError(t, err)
	w := rollout.NewWindow(&p, 7, start)
	tr := newTraffic(3, 1, target{errors: .05, empty: .02, cached: .5})
	tr.streamed = .5
	for i := range n {
		w.Observe(tr.sample(start, i%3 == 0))
		if i%10 == 0 {
			w.Observe(rollout.Sample{Target: "v2", Sent: start, Refused: true, Tokens: -1})
			w.Observe(rollout.Sample{Target: "v1", Sent: start, Busy: true, Tokens: -1})
			w.Observe(rollout.Sample{Target: "v1", Sent: start, Unreadable: true, Tokens: -1})
		}
	}
	return &p, w
}

func TestWindowBinary(t *testing.T) {
	p, w := filled(t, 20_000)
	data, err := w.AppendBinary(nil)
	require.NoError(t, err)
	t.Logf("%d bytes", len(data))
	require.Less(t, len(data), 16<<10)
	again, err := rollout.DecodeWindow(p, data, start)
	require.NoError(t, err)
	require.Equal(t, w, again)
	for n := 0; n < len(data); n += 1 + n/100 {
		_, err := rollout.DecodeWindow(p, data[:n], start)
		require.Error(t, err, "the first %d bytes", n)
	}
	_, err = rollout.DecodeWindow(p, append(data, 0), start)
	require.ErrorContains(t, err, "too many")
	_, err = rollout.DecodeWindow(p, append([]byte{9}, data[1:]...), start)
	require.ErrorContains(t, err, "version 9, want 2")
}

// FuzzWindow: whatever comes from a peer is refused, or is something that can be judged.
func FuzzWindow(f *testing.F) {
	p, w := filled(f, 12)
	data, _ := w.AppendBinary(nil)
	f.Add(data)
	_, empty := filled(f, 0)
	data, _ = empty.AppendBinary(nil)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := rollout.DecodeWindow(p, data, start)
		if err != nil {
			return
		}
		data, err = w.AppendBinary(nil)
		require.NoError(t, err)
		again, err := rollout.DecodeWindow(p, data, start)
		require.NoError(t, err)
		same, _ := again.AppendBinary(nil)
		require.True(t, bytes.Equal(data, same))
		r := stepping(t, *p)
		w.Epoch = r.m.State().Epoch
		r.m.Hear("peer", w)
		r.tick(time.Second)
		r.tick(time.Second)
	})
}

// TestObserveAllocates nothing, once each kind of request was seen.
func TestObserveAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := stepping(t, plan(10, 100))
	tr := newTraffic(1, 1, target{errors: .01, cached: .5})
	samples := make([]rollout.Sample, 1000)
	for i := range samples {
		samples[i] = tr.sample(r.now, i%10 == 0)
		r.m.Observe(samples[i])
	}
	i := 0
	require.Zero(t, testing.AllocsPerRun(10_000, func() {
		r.m.Observe(samples[i%len(samples)])
		i++
	}))
}

func BenchmarkObserve(b *testing.B) {
	r := newRig(plan(10, 100))
	tr := newTraffic(1, 1, target{errors: .01, cached: .5})
	samples := make([]rollout.Sample, 1024)
	for i := range samples {
		samples[i] = tr.sample(start, i%10 == 0)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.m.Observe(samples[i%len(samples)])
	}
}

// BenchmarkTick in a step: quiet, when there is nothing new, and judging, when all verdicts are made anew.
func BenchmarkTick(b *testing.B) {
	for _, judging := range []bool{false, true} {
		name := "quiet"
		if judging {
			name = "judging"
		}
		b.Run(name, func(b *testing.B) {
			r := newRig(plan(10, 100))
			for range 5 {
				r.tick(time.Second)
			}
			tr := newTraffic(1, 1, target{errors: .01, cached: .5})
			for i := range 3000 {
				r.m.Observe(tr.sample(r.now, i%10 == 0))
			}
			r.tick(time.Second)
			w := r.world()
			b.ReportAllocs()
			for b.Loop() {
				if judging {
					b.StopTimer()
					for range 1 + r.m.Window().Canary.Requests/19 {
						r.m.Observe(tr.sample(r.now, true))
					}
					if r.m.Window().Canary.Requests > 1000 {
						r = newRig(plan(10, 100))
						for range 5 {
							r.tick(time.Second)
						}
						for i := range 3000 {
							r.m.Observe(tr.sample(r.now, i%10 == 0))
						}
						w = r.world()
					}
					b.StartTimer()
				}
				r.m.Tick(r.now, w)
			}
		})
	}
}
