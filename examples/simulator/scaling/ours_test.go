package scaling

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/scalers"
)

// After a step ours, as shipped, is behind neither of the two best of the others: seconds that find a law that was broken.
// What it is worth is for the suite to say.
func TestOursAreNotBehind(t *testing.T) {
	if testing.Short() {
		t.Skip("some dozen simulated runs")
	}
	s, err := Load("testdata/small.json")
	require.NoError(t, err)
	var played []scalers.Law
	for _, name := range []string{"inferpick", "inferpick by KEDA", "queue+running", "token backlog"} {
		l, err := scalers.ByName(name)
		require.NoError(t, err)
		if isOurs(name) {
			l.Targets = nil
		}
		played = append(played, l)
	}
	r, err := Run(context.Background(), s, Options{Laws: played, Seeds: []uint64{1}, Cases: []string{"step"}})
	require.NoError(t, err)
	var b strings.Builder
	require.NoError(t, r.Write(&b))
	require.Len(t, r.Cases, 1)
	for _, v := range r.Cases[0].Verdicts() {
		require.False(t, v.Behind, "%s is behind %s\n%s", v.Ours, v.Rival, b.String())
	}
}
