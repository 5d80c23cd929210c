package scaling

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Ours, as shipped, is behind neither of the two best of the others, with some of their targets: seconds that find a law
// that was broken. What it is worth is for the suite to say.
func TestOursAreNotBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("some dozen simulated runs")
	}
	for _, c := range []struct {
		suite, name string
		startUp     time.Duration
		laws        []string
	}{
		{"testdata/small.json", "step", 40 * time.Second, []string{"inferpick", "inferpick by KEDA"}},
		{"../suite/autoscaling.json", "day", 2 * time.Minute, []string{"inferpick"}},
		{"../suite/autoscaling.json", "spikes", 2 * time.Minute, []string{"inferpick"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Load(c.suite)
			require.NoError(t, err)
			ours := laws(t, c.laws...)
			rivals := laws(t, "queue+running", "token backlog")
			rivals[0].Targets, rivals[1].Targets = []float64{10, 13}, []float64{0.5, 0.6, 0.7}
			r, err := Run(context.Background(), s, Options{
				Laws: append(ours, rivals...), Seeds: []uint64{1}, Cases: []string{c.name}, StartUps: []time.Duration{c.startUp},
			})
			require.NoError(t, err)
			var b strings.Builder
			require.NoError(t, r.Write(&b))
			require.Len(t, r.Cases, 1)
			for _, v := range r.Cases[0].Verdicts() {
				require.False(t, v.Behind, "%s is behind %s\n%s", v.Ours, v.Rival, b.String())
			}
		})
	}
}
