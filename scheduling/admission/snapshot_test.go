package admission_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// restarted is a gateway that is stopped, and started again some time later with its snapshot.
func restarted(t *testing.T, r *rig, o admission.Options, age time.Duration) *rig {
	t.Helper()
	snapshot := r.c.AppendSnapshot([]byte("before"), 1<<20, r.clock.Now())
	require.Equal(t, "before", string(snapshot[:6]))
	next := newRig(t, len(r.eps), o)
	require.NoError(t, next.c.Restore(snapshot[6:], age, next.clock.Now()))
	next.check()
	return next
}

func TestSnapshotOfBudgets(t *testing.T) {
	o := admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 60}, {Tenant: "b", Model: "m", TokensPerMinute: 6000}}, Tuning: admission.Tuning{OutputTokens: 100}}
	r := newRig(t, 1, o)
	for range 40 {
		r.run(r.offer(request("r", 0, "a")))
	}
	r.run(r.offer(request("r", 0, "b")))
	next := restarted(t, r, o, 5*time.Second)
	require.Zero(t, next.c.Meters(), "they wait until they are used")
	next.run(next.offer(request("r", 0, "a")))
	requests, _ := next.c.Left("a")
	require.Equal(t, 24.0, requests, "20, five that have come since, and one that was used")
	next.clock.pass(10 * time.Second)
	next.run(next.offer(request("r", 0, "b")))
	requests, _ = next.c.Left("b")
	require.Equal(t, 59.0, requests, "it is full again")
	require.Equal(t, "admission/1", r.c.SnapshotName())

	t.Run("that are used already", func(t *testing.T) {
		next := newRig(t, 1, o)
		for range 3 {
			next.run(next.offer(request("r", 0, "a")))
		}
		require.NoError(t, next.c.Restore(r.c.AppendSnapshot(nil, 1000, time.Time{}), 0, time.Time{}))
		requests, _ := next.c.Left("a")
		require.Equal(t, 20.0, requests)
	})
	t.Run("twice", func(t *testing.T) {
		again := restarted(t, restarted(t, r, o, time.Second), o, time.Second)
		again.run(again.offer(request("r", 0, "a")))
		requests, _ := again.c.Left("a")
		require.InDelta(t, 21.0, requests, 0.01)
	})
	t.Run("too late", func(t *testing.T) {
		o.Budgets[0].Burst = 1000
		next := restarted(t, r, o, 2*time.Hour)
		next.run(next.offer(request("r", 0, "a")))
		requests, _ := next.c.Left("a")
		require.Equal(t, 59_999.0, requests)
	})
}

// TestSnapshotOfTenants: a tenant that was ahead is, and its outputs are known.
func TestSnapshotOfTenants(t *testing.T) {
	o := admission.Options{Tuning: admission.Tuning{Credit: 1000, OutputTokens: 50}}
	r := newRig(t, 1, o)
	for range 4 {
		r.clock.pass(time.Second)
		r.run(r.offer(request("r", 0, "light")))
		c := r.offer(request("r", 0, "heavy"))
		c.Booked(r.eps[0])
		c.Done(types.Outcome{Usage: types.Usage{CompletionTokens: types.Known(300)}})
	}
	counters := r.c.Counters(0)
	apart := counters["heavy"] - counters["light"]
	require.Greater(t, apart, 100.0)
	next := restarted(t, r, o, time.Second)
	require.Empty(t, next.c.Counters(0))
	next.fill(0, 1)
	heavy, light := next.offer(request("r", 0, "heavy")), next.offer(request("r", 0, "light"))
	counters = next.c.Counters(0)
	require.InDelta(t, apart, counters["heavy"]-counters["light"], 1e-6)
	require.Equal(t, 100+2*300.0, heavy.Charge(), "its outputs are long")
	require.Equal(t, 100+2*300.0, light.Charge(), "as those of all are, of those that are known")
	require.Positive(t, next.c.Stats().Rate)
}

// TestSnapshotOfDetectors: what was learned of the pool and its endpoints.
func TestSnapshotOfDetectors(t *testing.T) {
	made := func() admission.Options {
		return admission.Options{Detector: admission.Max{new(admission.LearnedBacklog), new(admission.LearnedBatch), &admission.LearnedConcurrency{First: 64}, new(admission.PredictedTTFT)}}
	}
	o := made()
	r := newRig(t, 3, o)
	for i := range r.eps {
		r.eps[i].Address = fmt.Sprintf("10.0.0.%d:8000", i)
	}
	m := types.Metrics{Waiting: types.Known(3), Running: types.Known(20)}
	o.Detector.(admission.Learner).FirstToken(r.eps[0], 5000, time.Second)
	for i := range 6 {
		m.UpdatedAt = r.clock.Now().Add(time.Duration(i) * time.Millisecond)
		o.Detector.(admission.ReadingLearner).Reading(r.eps[1].WithMetrics(m), admission.Since{Finished: 1})
	}
	o.Detector.(admission.ServiceLearner).Served(r.eps[2], admission.Served{Busy: true, With: 10, At: r.clock.Now()})
	r.eps[0].Load.Book(types.Booking{Requests: 9, Prefilling: 1, PrefillTokens: 1000})
	r.eps[1].Load.Book(types.Booking{Requests: 9})
	r.eps[2].Load.Book(types.Booking{Requests: 9})
	fills := func(o admission.Options, eps []*types.Endpoint) (all []float64) {
		q := admission.Query{Now: r.clock.Now(), StaleBefore: r.clock.Now().Add(-time.Second)}
		for i := range eps {
			for _, d := range o.Detector.(admission.Max) {
				all = append(all, d.Fill(q, eps[i]))
			}
		}
		return all
	}
	want := fills(o, r.eps)
	snapshot := r.c.AppendSnapshot(nil, 1<<20, r.clock.Now())

	for _, first := range []string{"the snapshot", "the endpoints", "another detector"} {
		t.Run(first+" first", func(t *testing.T) {
			o := made()
			if first == "another detector" {
				o.Detector = idle
			}
			c, err := admission.New(o)
			require.NoError(t, err)
			var eps []*types.Endpoint
			for _, old := range r.eps {
				ep := types.NewEndpoint(old.ID, old.Address)
				ep.Load.Book(old.Load.Held())
				eps = append(eps, ep)
			}
			if first == "the endpoints" {
				c.SetEndpoints(eps)
			}
			require.NoError(t, c.Restore(snapshot, 0, r.clock.Now()))
			if first == "another detector" {
				o = made()
			}
			if first != "the endpoints" {
				c.Put(eps[0])
				c.SetEndpoints(eps)
			}
			require.NoError(t, c.Configure(o))
			got := fills(o, eps)
			for i := range want {
				require.True(t, want[i] == got[i] || want[i] != want[i] && got[i] != got[i], "%v\nwant %v", got, want)
			}
			require.NotEqual(t, want, fills(made(), eps), "without it")
		})
	}
}

// TestSnapshotsAreBounded: what matters most is written first.
func TestSnapshotsAreBounded(t *testing.T) {
	o := admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 1}}}
	r := newRig(t, 1, o)
	for i := range 5000 {
		r.run(r.offer(request("r", 0, fmt.Sprint("t", i))))
	}
	for _, room := range []int{0, 4, 5, 6, 33, 34, 63, 1000, 65536, 1 << 20} {
		snapshot := r.c.AppendSnapshot(nil, room, time.Time{})
		require.LessOrEqual(t, len(snapshot), room)
		if room < 5 {
			require.Empty(t, snapshot)
			continue
		}
		next := newRig(t, 1, o)
		require.NoError(t, next.c.Restore(snapshot, 0, time.Time{}), "%d bytes", room)
		if room >= 1000 {
			require.Error(t, next.offer(request("r", 0, "t4999")).err, "the last one is known")
			require.NoError(t, next.offer(request("r", 0, "t0")).err, "the first one is not")
		}
	}
}

// signed gives records the form of a snapshot.
func signed(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b[:len(b):len(b)], crc32.ChecksumIEEE(b))
}

func recordOf(kind byte, a, b float64) []byte {
	out := append([]byte{1, kind}, make([]byte, 8)...)
	out = binary.BigEndian.AppendUint64(out, math.Float64bits(a))
	out = binary.BigEndian.AppendUint64(out, math.Float64bits(b))
	return append(out, 0, 0, 0, 0)
}

// TestSnapshotsThatAreWrong: the error says what, and nothing has changed.
func TestSnapshotsThatAreWrong(t *testing.T) {
	o := admission.Options{Budgets: []admission.Budget{{RequestsPerMinute: 60}}}
	r := newRig(t, 1, o)
	for range 50 {
		r.run(r.offer(request("r", 0, "t")))
	}
	good := r.c.AppendSnapshot(nil, 1<<16, time.Time{})
	changed := func(f func(b []byte) []byte) []byte { return f(append([]byte{}, good...)) }
	for _, tt := range []struct {
		name     string
		snapshot []byte
		want     string
	}{
		{"nothing", nil, "has 0 bytes, want at least 5"},
		{"another version", changed(func(b []byte) []byte { b[0] = 2; return b }), "has version 2, want 1"},
		{"a changed byte", changed(func(b []byte) []byte { b[20] ^= 1; return b }), "has another checksum than it says"},
		{"cut off", good[:len(good)-3], "bytes of records, want a multiple of 29"},
		{"cut off at a record", good[:len(good)-29], "has another checksum than it says"},
		{"more than there may be", signed(append([]byte{1}, make([]byte, 29*50_001)...)), "and at most 50000 records"},
		{"another kind", signed(recordOf(99, 1, 1)), "record 0 is of kind 99, want 1 to 9"},
		{"kind 0", signed(recordOf(0, 1, 1)), "record 0 is of kind 0"},
		{"too much is left", signed(recordOf(1, math.Inf(1), 1)), "record 0 says that +Inf of a budget are left"},
		{"an output that is none", signed(recordOf(3, math.NaN(), 0)), "record 0 of kind 3 says NaN and 0"},
		{"a rate below 0", signed(recordOf(6, -1, 0)), "record 0 of kind 6 says -1 and 0"},
		{"no places", signed(recordOf(8, 0, 0)), "want 1 to 1e+06"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next := newRig(t, 1, o)
			next.run(next.offer(request("r", 0, "t")))
			before := next.c.AppendSnapshot(nil, 1<<16, time.Time{})
			err := next.c.Restore(tt.snapshot, 0, time.Time{})
			require.ErrorContains(t, err, "admission: snapshot: ")
			require.ErrorContains(t, err, tt.want)
			require.Equal(t, before, next.c.AppendSnapshot(nil, 1<<16, time.Time{}))
		})
	}
}

// FuzzRestore: no snapshot does harm, and what was read is written again.
func FuzzRestore(f *testing.F) {
	r := newRig(&testing.T{}, 1, admission.Options{Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 60, TokensPerMinute: 1e5}}})
	r.run(r.offer(request("r", 0, "t")))
	f.Add(r.c.AppendSnapshot(nil, 1<<16, time.Time{}), int64(time.Second), false)
	for kind := range byte(11) {
		f.Add(recordOf(kind, 5, 7), int64(-1), true)
		f.Add(recordOf(kind, -1e15, 1e9), int64(time.Hour), true)
	}
	f.Fuzz(func(t *testing.T, snapshot []byte, age int64, sign bool) {
		if sign {
			snapshot = signed(snapshot)
		}
		r := newRig(t, 1, admission.Options{Detector: admission.Default(), Budgets: []admission.Budget{{Tenant: "*", RequestsPerMinute: 60, TokensPerMinute: 1e5}}})
		err := r.c.Restore(snapshot, time.Duration(age), r.clock.Now())
		r.check()
		r.clock.pass(2 * time.Hour)
		for _, tenant := range []string{"t", "u"} {
			c := r.offer(request("r", 0, tenant))
			require.NoError(t, c.err)
			r.run(c)
		}
		r.check()
		if err == nil {
			require.NoError(t, r.c.Restore(r.c.AppendSnapshot(nil, 1<<20, r.clock.Now()), 0, r.clock.Now()))
		}
	})
}
