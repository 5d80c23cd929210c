// Package schedulingtest helps to test filters, scorers and pickers: fixtures to
// call one by hand, and a conformance kit that checks the contract which package
// scheduling states.
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
