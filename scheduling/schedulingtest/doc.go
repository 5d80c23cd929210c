// Package schedulingtest helps to test filters, scorers, costers and pickers, with fixtures to call
// them and a conformance kit for the contracts of package scheduling.
//
//	func TestSpareRoom(t *testing.T) {
//		a := schedulingtest.Endpoint("a", schedulingtest.KVUsage(0.9))
//		b := schedulingtest.Endpoint("b", schedulingtest.KVUsage(0.1))
//		got := schedulingtest.Score(t, spareRoom{}, schedulingtest.Request("hello"), a, b)
//		if got[0] >= got[1] {
//			t.Errorf("scores = %v, want b above a", got)
//		}
//		schedulingtest.TestScorer(t, func() scheduling.Scorer { return spareRoom{} })
//	}
package schedulingtest
