package anchors_test

import (
	"context"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/examples/simulator/anchors"
	"github.com/stretchr/testify/require"
)

// TestShort plays a small part of everything: each anchor is measured, and the
// same again gives the same.
func TestShort(t *testing.T) {
	if testing.Short() {
		t.Skip("many simulated runs")
	}
	var one, two strings.Builder
	last := 0.0
	o := anchors.Options{Short: true, Progress: func(done float64, _ string) {
		if done < last || done > 1 {
			t.Errorf("progress went from %v to %v", last, done)
		}
		last = done
	}}
	failed, err := anchors.Run(context.Background(), &one, o)
	require.NoError(t, err)
	t.Logf("%d failed\n%s", failed, one.String())
	require.False(t, strings.Contains(one.String(), "MISSING"), "an anchor was not measured")
	if last != 1 {
		t.Errorf("progress ended at %v", last)
	}
	if raceEnabled {
		return // once is slow enough
	}
	last, o.Workers = 0, 1
	if _, err := anchors.Run(context.Background(), &two, o); err != nil {
		t.Fatal(err)
	}
	if one.String() != two.String() {
		t.Error("one worker gives other figures than several")
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out strings.Builder
	if _, err := anchors.Run(ctx, &out, anchors.Options{Short: true}); err == nil || out.Len() > 0 {
		t.Errorf("Run of a cancelled context = %v, %d bytes written", err, out.Len())
	}
}
