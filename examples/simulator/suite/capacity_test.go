package suite_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/simulator/suite"
)

// Each policy's own capacity is measured once for a family: that of the suite's policy is
// the one its loads are fractions of, and one that sends to servers of unequal speed at random keeps
// up with less.
func TestOwnCapacity(t *testing.T) {
	chat := `"family": "chat", "loads": [0.3], "workload": {"kind": "sharegpt", "output": {"kind": "fixed", "tokens": 20}}`
	s, err := suite.Parse([]byte(`{
	  "seeds": [1], "duration": "10s", "capacity": "least-req",
	  "scenarios": [
	    {"name": "one", ` + chat + `, "fleet": {"replicas": 2, "speeds": [1, 0.25]}},
	    {"name": "other", ` + chat + `, "fleet": {"replicas": 2}},
	    {"name": "own rate", "workload": {"kind": "sharegpt", "rate": 1}}
	  ]}`))
	require.NoError(t, err)
	chosen := policiesOf(t, "random,least-req")
	r, err := suite.Run(t.Context(), s, chosen, suite.Options{Capacity: chosen[1], OwnCapacity: true})
	require.NoError(t, err)
	require.Len(t, r.Capacities, 1)
	c := r.Capacities[0]
	require.Equal(t, []string{"one", "chat"}, []string{c.Scenario, c.Family})
	require.InEpsilon(t, r.Cases[0].Capacity, c.Rates[1], .03)
	require.Less(t, c.Rates[0], .8*c.Rates[1])
	var out strings.Builder
	r.Write(&out)
	require.Regexp(t, `(?m)^CAPACITY by policy.*\n +case +best +random +least-req *\n +one +[0-9.]+/s +0\.\d{3} +1\.000 *\n +least +0\.`, out.String())
}
