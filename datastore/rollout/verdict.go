package rollout

// Result is what a verdict says.
type Result string

// The results.
const (
	Unsure      Result = "unsure"      // too little is known: it waits for more
	Pass        Result = "passed"      // it is as good as the limit asks
	Fail        Result = "failed"      // it is worse than the limit allows
	Environment Result = "environment" // the stable target is in trouble too: nobody is blamed
	NotJudged   Result = "not judged"  // it has nothing to judge at this weight, and stops nothing
)

// Verdict is that of a metric.
type Verdict struct {
	Metric   string
	Result   Result
	Reason   string // in words, with the figures
	WarnOnly bool   // it stops nothing
	Looks    int    // how many looks in a row have failed
	// Canary and Stable are the figures: shares of requests, or seconds; NaN: not known.
	Canary, Stable float64
}
