package schedulingtest

import (
	"testing"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Simulate runs a simulation and returns its report, for tests that compare policies. It takes seconds
// and no GPU, and the same Config gives the same Report on every machine, so assertions need no margin
// for noise. An error fails the test. If the fleet did not keep up, Simulate only logs that, see
// Report.Steady: latencies then depend on the length of the run rather than on the policy.
func Simulate(t testing.TB, c simulation.Config) *simulation.Report {
	t.Helper()
	report, err := simulation.Run(t.Context(), c)
	if err != nil {
		t.Fatalf("Simulate %s, seed %d: %v", c.Policy.Name, c.Seed, err)
	}
	if !report.Steady {
		t.Logf("Simulate %s, seed %d: overload: %s", c.Policy.Name, c.Seed, report.Why)
	}
	return report
}
