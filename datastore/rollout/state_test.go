package rollout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

// TestStateIsSmall: the largest state, with the longest names and texts, has room in an annotation.
func TestStateIsSmall(t *testing.T) {
	p := plan(10, 50, 60, 100)
	p.Stable, p.Canary = strings.Repeat("s", 253), strings.Repeat("c", 253)
	r := newRig(p)
	r.home = newMemory(rollout.Weight{Target: p.Stable, Weight: 1})
	for range 4 {
		r.tick(time.Second)
	}
	for i := range 30_000 {
		for _, target := range []string{p.Stable, p.Canary} {
			r.m.Observe(rollout.Sample{
				Target: target, Sent: r.now, Told: true, Tokens: 1 +
					i*7919%10_000, TTFT: time.Duration(1+i*7919%100_000) * time.Millisecond,
				TPOT: time.Duration(1+i%1000) * time.Millisecond, Uncached: 1 << (i % 20), CacheTold: true,
			})
		}
	}
	r.tick(time.Second)
	require.Equal(t, 1, r.m.State().Step, "%v", r.m.Verdicts())
	r.tick(time.Second)
	require.NotEmpty(t, r.m.State().Holding)
	require.NoError(t, r.m.Pause(r.now, strings.Repeat("\"<\x00é\u2028\\", 100)))
	require.NoError(t, r.m.Promote(r.now, false, strings.Repeat("\"<\x00é\u2028\\", 100)))
	require.NoError(t, r.m.Pause(r.now, strings.Repeat("\"<\x00é\u2028\\", 100)))
	s := r.m.State()
	s.Holding = s.Reason
	text := s.Encode()
	t.Logf("%d bytes: %s", len(text), text)
	require.LessOrEqual(t, len(text), rollout.MaxState)
	again, err := rollout.DecodeState(text)
	require.NoError(t, err)
	require.Equal(t, s, again)
	require.EqualValues(t, 6000, s.Weight(p.Canary))
}

func TestDecodeState(t *testing.T) {
	good := string(stepping(t, plan(10, 100)).m.State().Encode())
	for _, c := range []struct{ change, to, says string }{
		{`"Stepping"`, `"Dancing"`, `in phase "Dancing"`},
		{`"step":0`, `"step":50`, `in step 50`},
		{`"step":0`, `"step":-1`, `in step -1`},
		{`"step":0`, `"stp":0`, `stp is not a field`},
		{`9000`, `8000`, `weights that sum to 9000, want 10000`},
		{`9000`, `-9000`, `weights above 0`},
		{`"v1"`, `"v2"`, `one or two targets`},
		{`"epoch":2`, `"epoch":9`, `epoch 9`},
		{`"weights"`, `"changed":true,"weights"`, `somebody else's`},
		{`"weights"`, `"kept":{"requests":10,"errors":11},"weights"`, `figures that no window has`},
		{`"weights"`, `"kept":{"requests":10,"tpot":[[0,1,5,4,6,7,8,9]]},"weights"`, `figures that no window has`},
		{`"weights"`, `"kept":{"requests":10,"ttft":[[99,1,5,5,6,7,8,9]]},"weights"`, `figures that no window has`},
	} {
		require.Contains(t, good, c.change)
		_, err := rollout.DecodeState([]byte(strings.Replace(good, c.change, c.to, 1)))
		require.ErrorContains(t, err, c.says)
	}
	_, err := rollout.DecodeState(make([]byte, 1<<20))
	require.ErrorContains(t, err, "want at most 2048")
	_, err = rollout.DecodeState(nil)
	require.Error(t, err)
}

// FuzzState: a machine that is restored from whatever is read goes on without a panic, and writes what can be read.
func FuzzState(f *testing.F) {
	p := plan(10, 50, 100)
	full, _ := p.WithDefaults()
	add := func(s rollout.State) { f.Add(s.Encode()) }
	r := newRig(p)
	add(r.m.State())
	for range 4 {
		r.tick(time.Second)
	}
	r.good(600, 0)
	r.tick(time.Second)
	add(r.m.State())
	f.Add([]byte(strings.Replace(string(r.m.State().Encode()), `"weights"`,
		`"kept":{"requests":900,"told":800,"ttft":[[3,10,1,2,3,4,5,6]],"tpot":[[0,1000,1,2,3,4,5,700]]},"weights"`, 1)))
	s := r.m.State()
	s.Changed, s.Weights, s.Paused = true, nil, "by somebody"
	add(s)
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := rollout.DecodeState(data)
		if err != nil {
			return
		}
		again, err := rollout.DecodeState(s.Encode())
		require.NoError(t, err)
		require.Equal(t, s, again)
		s.Plan = full.Fingerprint()
		m, err := rollout.Restore(p, s, start)
		if err != nil {
			return
		}
		r := newRig(p)
		r.m = m
		r.home.State, r.home.Weights = s.Encode(), s.Weights
		for range 10 {
			r.tick(time.Minute)
			r.good(100, 1)
			_, err := rollout.DecodeState(m.State().Encode())
			require.NoError(t, err)
		}
	})
}
