package rollout

import (
	"fmt"
	"math"

	"github.com/inferpick/inferpick/types"
)

// The names of metrics.
const (
	Errors = "errors" // share of requests that have failed
	Empty  = "empty"  // share of answers without a token
	TTFT   = "ttft"   // 90th percentile of the time to first token of streamed answers
	TPOT   = "tpot"   // the same of the time per token after the first
	NTPOT  = "ntpot"  // the same of the whole time per token of answers that were not streamed
	Length = "length" // median of the tokens of an answer
	Finish = "finish" // shares of the ways in which answers end
)

// MetricNames are those that a Metric may have.
var MetricNames = []string{Errors, Empty, TTFT, TPOT, NTPOT, Length, Finish}

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
	// Canary and Stable are the figures: shares of requests, seconds or tokens; NaN: not known.
	Canary, Stable float64
}

const (
	// latencyLevel is the quantile by which times are compared.
	latencyLevel = .9
	// enough is how many times of the canary are so many that it passes if what is seen is within the limit, although
	// it is not proven: as many as the errors take.
	enough = 400
	// hardlyAny is the share of answers below which those with a figure are too few to wait for.
	hardlyAny = .02
	// muchFewer is the share of one kind of times (streams, whole answers) in the other kind below which it is left to
	// the other one: both are of the same servers, and to wait for the few would hold each step for long.
	muchFewer = .1
	// leastAlike is the share of the canary's values that must have something alike to be compared with.
	leastAlike = .5
	// leastInStratum is how many values of the stable target make a stratum.
	leastInStratum = 3
	// mostRefused is by how much more of the requests the canary may refuse, or answer with what cannot be read.
	mostRefused = .5
	// blindFrom is the weight from which first tokens are judged although servers do not say what was cached: both
	// targets then have caches as warm.
	blindFrom = 50
)

// comparison is what a verdict is made of.
type comparison struct {
	canary, stable *Counts
	weight         float64 // of the canary, in percent
	least          int     // Plan.MinRequests
	// kept is set if stable is from before: the load may be another one now. Then times are told of and stop nothing, and
	// shares pass once enough requests do not surely break the limit: what was kept may be too little to prove more.
	kept bool
}

// judge returns the verdict of a metric.
func (c *comparison) judge(m *Metric) Verdict {
	v := Verdict{Metric: m.Name, WarnOnly: m.WarnOnly, Canary: math.NaN(), Stable: math.NaN()}
	if c.weight < m.From {
		return v.is(NotJudged, "it is judged from %g %% on", m.From)
	}
	if m.Name == Errors {
		if v, ok := c.refused(v); ok {
			return v
		}
	}
	if c.canary.Requests < c.least {
		return v.is(Unsure, "%d of at least %d requests", c.canary.Requests, c.least)
	}
	switch m.Name {
	case Errors:
		return c.rise(v, m, "requests failed", part{c.canary.Errors, c.canary.Requests},
			part{c.stable.Errors, c.stable.Requests})
	case Empty:
		return c.empty(v, m)
	case TTFT:
		return c.ttft(v, m)
	case TPOT:
		return c.streams(v, m, "time per token", &c.canary.tpot, &c.stable.tpot)
	case NTPOT:
		return c.whole(v, m)
	case Length:
		return c.length(v, m)
	default:
		return c.finish(v, m)
	}
}

func (v Verdict) is(r Result, format string, args ...any) Verdict {
	v.Result, v.Reason = r, fmt.Sprintf(format, args...)
	return v
}

// part is k of n.
type part struct{ k, n int }

func (p part) String() string { return fmt.Sprintf("%d of %d", p.k, p.n) }

// rise compares shares of what is bad.
func (c *comparison) rise(v Verdict, m *Metric, what string, canary, stable part) Verdict {
	v.Canary, v.Stable = canary.share(), stable.share()
	against := "against " + stable.String()
	if c.kept {
		against += " before"
	}
	if stable.n == 0 && c.weight >= 100 {
		stable = part{0, 1_000_000} // there is nothing else to compare with
		against = "of the stable target nothing is known"
	}
	least := canary.surelyMore(stable)
	low, most := canary.less(stable, sure95)
	limit := m.MaxRise / 100
	switch {
	case least > limit:
		return v.is(Fail, "%v %s, %s: at least %.1f points more, %.1f allowed", canary, what, against, 100*least, m.MaxRise)
	case most < limit:
		return v.is(Pass, "%v %s, %s: less than %.1f points more", canary, what, against, m.MaxRise)
	case c.kept && canary.n >= enough && low <= limit:
		return v.is(Pass, "%v %s, %s: not surely more than %.1f points more", canary, what, against, m.MaxRise)
	}
	return v.is(Unsure, "%v %s, %s: %.1f to %.1f points more, %.1f allowed: more requests will tell", canary, what,
		against, 100*low, 100*most, m.MaxRise)
}

func (p part) share() float64 {
	if p.n == 0 {
		return math.NaN()
	}
	return float64(p.k) / float64(p.n)
}

// less returns the interval of p less q.
func (p part) less(q part, z float64) (low, high float64) {
	return newcombe(float64(p.k), float64(p.n), float64(q.k), float64(q.n), z)
}

// surelyMore returns by how much p is more than q at least, which is less than nothing if it may be by chance.
func (p part) surelyMore(q part) float64 {
	low, _ := p.less(q, sureFail)
	if low > 0 && chance(p.k, p.n, q.k, q.n) > chanceFail {
		return -1
	}
	return low
}

// refused reports whether the canary refuses most requests, and much more of them than the stable target: then that is
// not the fault of clients. If there are fewer it may be that of one client, all of whose requests are the canary's.
func (c *comparison) refused(v Verdict) (Verdict, bool) {
	canary, stable := part{c.canary.Refused, c.canary.answered()}, part{c.stable.Refused, c.stable.answered()}
	if c.kept || canary.n < c.least || canary.surelyMore(stable) <= mostRefused {
		return v, false
	}
	v.Canary, v.Stable = canary.share(), stable.share()
	return v.is(Fail, "%v requests were refused (4xx), against %v", canary, stable), true
}

// empty compares empty answers, where the servers say how long answers are. Those that cannot be read, such as pages of
// errors, are so if most are of the canary alone: else they may be those of one client, which compresses them, say.
func (c *comparison) empty(v Verdict, m *Metric) Verdict {
	served, others := c.canary.Requests-c.canary.Errors, c.stable.Requests-c.stable.Errors
	canary, stable := part{c.canary.Unreadable, served}, part{c.stable.Unreadable, others}
	if !c.kept && canary.n >= c.least && stable.n > 0 && canary.surelyMore(stable) > mostRefused {
		v.Canary, v.Stable = canary.share(), stable.share()
		return v.is(Fail, "%v answers have nothing that an answer has, against %v", canary, stable)
	}
	if v, ok := c.few(v, "length of answers", c.canary.Told, c.stable.Told); ok {
		return v
	}
	return c.rise(v, m, "answers were empty", part{c.canary.Empty, c.canary.Told}, part{c.stable.Empty, c.stable.Told})
}

// few says what becomes of a figure of which there are n values of the canary and of of the stable target, if there
// are too few of them.
func (c *comparison) few(v Verdict, what string, n, of int) (Verdict, bool) {
	served, others := c.canary.Requests-c.canary.Errors, c.stable.Requests-c.stable.Errors
	switch {
	case n >= c.least:
		return v, false
	case float64(n) <= hardlyAny*float64(served) && float64(of) <= hardlyAny*float64(others):
		return v.is(NotJudged, "the %s is known of hardly any answer", what), true
	}
	return v.is(Unsure, "the %s is known of %d of %d answers, want %d", what, n, served, c.least), true
}

// ttft compares the time to first token of requests of which as much of the prompt had to be computed: the caches of
// a canary are colder.
func (c *comparison) ttft(v Verdict, m *Metric) Verdict {
	blind := 2*c.canary.Blind > c.canary.ttft.len() || 2*c.stable.Blind > c.stable.ttft.len()
	if blind && c.weight < blindFrom && c.canary.ttft.len() > 0 {
		return v.is(NotJudged, "servers do not say how much of a prompt was cached: it is judged from %d %% on, where "+
			"caches are as warm", blindFrom)
	}
	return c.streams(v, m, "time to first token", &c.canary.ttft, &c.stable.ttft)
}

// streams compares times of streamed answers, if those are not far fewer than the others.
func (c *comparison) streams(v Verdict, m *Metric, what string, canary, stable *strata) Verdict {
	if left(canary.len(), c.canary.whole.len()) && left(stable.len(), c.stable.whole.len()) {
		return v.is(NotJudged, "hardly any answer is streamed: see %s", NTPOT)
	}
	return c.times(v, m, what, "prompts", canary, stable)
}

// whole compares times of answers that were not streamed, if those are not far fewer than the others. The caches of a
// canary are colder, which matters where answers are short and prompts long.
func (c *comparison) whole(v Verdict, m *Metric) Verdict {
	canary, stable := &c.canary.whole, &c.stable.whole
	switch {
	case left(canary.len(), c.canary.ttft.len()) && left(stable.len(), c.stable.ttft.len()):
		return v.is(NotJudged, "nearly all answers are streamed: see %s and %s", TTFT, TPOT)
	case c.weight < blindFrom && (2*c.canary.BlindWhole > canary.len() || 2*c.stable.BlindWhole > stable.len()):
		return v.is(NotJudged, "prompts are long, and servers do not say how much of them was cached: it is judged from "+
			"%d %% on, where caches are as warm", blindFrom)
	}
	return c.times(v, m, "time per token of whole answers", "lengths", canary, stable)
}

// left reports whether n times are so few that the judgement is left to the others.
func left(n, others int) bool { return float64(n) < muchFewer*float64(others) }

// times compares quantiles of times. alikes is by what requests are alike.
func (c *comparison) times(v Verdict, m *Metric, what, alikes string, canary, stable *strata) Verdict {
	v.WarnOnly = v.WarnOnly || c.kept
	if v, ok := c.few(v, what, canary.len(), stable.len()); ok {
		return v
	}
	if stable.len() == 0 {
		if c.weight >= 100 {
			return v.is(NotJudged, "there is nothing to compare the %s with", what)
		}
		return v.is(Unsure, "the %s of the stable target is not known", what)
	}
	first, second, covered, n := alike(canary, stable, leastInStratum)
	if covered < leastAlike || n < c.least {
		return v.is(Unsure, "of %d requests only %d have %s like those of the stable target: the %s cannot be compared",
			canary.len(), n, alikes, what)
	}
	limit := m.MaxRatio
	a, b := first.quantile(latencyLevel, sureFail), second.quantile(latencyLevel, sureFail)
	v.Canary, v.Stable = valueOf(a.middle), valueOf(b.middle)
	text := fmt.Sprintf("p90 of the %s %s against %s", what, seconds(v.Canary), seconds(v.Stable))
	if c.kept {
		text += " before"
	}
	if a.low >= 0 && b.high < buckets && ratioOf(a.low, b.high) > limit {
		return v.is(Fail, "%s of %d and %d answers: at least %.2f times, %.2f allowed", text, n, stable.len(),
			ratioOf(a.low, b.high), limit)
	}
	likely, others := first.quantile(latencyLevel, sure95), second.quantile(latencyLevel, sure95)
	switch {
	case likely.high < buckets && others.low >= 0 && ratioOf(likely.high, others.low) < limit:
		return v.is(Pass, "%s: less than %.2f times", text, limit)
	case n >= enough && ratioOf(a.middle, b.middle) <= limit:
		return v.is(Pass, "%s: within %.2f times", text, limit)
	}
	return v.is(Unsure, "%s of %d and %d answers, %.2f times allowed: more requests will tell", text, n, stable.len(),
		limit)
}

// length compares medians of lengths, in both directions.
func (c *comparison) length(v Verdict, m *Metric) Verdict {
	canary, stable := &c.canary.length, &c.stable.length
	if v, ok := c.few(v, "length of answers", canary.len(), stable.len()); ok {
		return v
	}
	if stable.len() == 0 {
		return v.is(NotJudged, "there is nothing to compare the length of answers with")
	}
	first, second, _, _ := alike(canary, stable, 1)
	a, b := first.quantile(.5, sureFail), second.quantile(.5, sureFail)
	v.Canary, v.Stable = countOf(a.middle), countOf(b.middle)
	text := fmt.Sprintf("median length %.0f tokens against %.0f", v.Canary, v.Stable)
	longer := a.low >= 0 && b.high < buckets && ratioOf(a.low, b.high) > m.MaxRatio
	shorter := b.low >= 0 && a.high < buckets && ratioOf(b.low, a.high) > m.MaxRatio
	if longer || shorter {
		return v.is(Fail, "%s: more than %.2f times apart", text, m.MaxRatio)
	}
	return v.is(Pass, "%s", text)
}

// finish compares the shares of the ways in which answers end, in both directions.
func (c *comparison) finish(v Verdict, m *Metric) Verdict {
	n, of := known(&c.canary.Finish), known(&c.stable.Finish)
	if v, ok := c.few(v, "end of answers", n, of); ok {
		return v
	}
	if of == 0 {
		return v.is(NotJudged, "there is nothing to compare the ends of answers with")
	}
	for i := 1; i < finishes; i++ {
		canary, stable := part{c.canary.Finish[i], n}, part{c.stable.Finish[i], of}
		if max(canary.surelyMore(stable), stable.surelyMore(canary)) > m.MaxRise/100 {
			v.Canary, v.Stable = canary.share(), stable.share()
			return v.is(Fail, "%v answers end with %q, against %v: more than %.1f points apart", canary,
				types.Finish(i).String(), stable, m.MaxRise)
		}
	}
	return v.is(Pass, "%d answers end as those of the stable target", n)
}

// known returns of how many answers it is known how they ended.
func known(finish *[finishes]int) (n int) {
	for _, k := range finish[1:] {
		n += k
	}
	return n
}

// seconds shows a time.
func seconds(s float64) string {
	if s < 1 {
		return fmt.Sprintf("%.3g ms", 1000*s)
	}
	return fmt.Sprintf("%.3g s", s)
}
