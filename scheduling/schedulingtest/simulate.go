package schedulingtest

import (
	"testing"

	"github.com/inferpick/inferpick/scheduling/simulation"
)

// Simulate plays a run on a simulated fleet and returns its report, for a test to
// compare with that of another policy. It takes seconds and no GPU, and the same
// Config gives the same Report on every machine, so that an assertion needs no
// margin for noise. An error fails the test. A fleet that did not keep up does not:
// Report.Steady tells, and it is logged, because latencies then say how long the
// run was rather than how good the policy is.
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
