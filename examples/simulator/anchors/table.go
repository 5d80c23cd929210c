package anchors

import "math"

// anchor is one published figure.
type anchor struct {
	group string // what was measured
	what  string
	unit  string
	key   string // of ours

	published float64
	// tolerance is the relative deviation that passes. 0: reported only, because the
	// publication leaves open what decides it.
	tolerance float64
	// low and high are the range that passes, in place of a tolerance.
	low, high float64
}

// Sources of the anchors, as the table prints them.
const (
	chartGroup    = "Gateway API Inference Extension, announcement of 2025-06-05: 10 x H100, Llama-2-7B, ShareGPT, decision tree of 0.3"
	serviceGroup  = "The same chart, the other arm: a Kubernetes Service (random)"
	sampleGroup   = "Inference Extension, sample.json of 2025-03-28: 6 x H100, 200 nominal QPS, decision tree"
	engineGroup   = "One engine"
	vidurGroup    = "Vidur, linear layers of Llama-2-7B on one H100"
	ladderGroup   = "llm-d, 73-capacity ladder of 2025-09: 8 x (2 x H100), Qwen3-32B, 150 x 6000 + 5 x 1200 tokens, 1000 out"
	capacityGroup = "llm-d, 37-capacity ladder: 4 x Llama-3.1-70B, 83 x 8000 + 3 x 1000 tokens, 1000 out (hardware not published)"
	stickyGroup   = "llm-d, blog of 2026-08: sticky until saturated, prefill-bound"
)

// table returns all anchors. Tolerances stand here and nowhere else.
func table() []anchor {
	var t []anchor
	add := func(a ...anchor) { t = append(t, a...) }

	// The chart, read to the pixel: one pixel is 0.008 M tokens/min, 4 ms, 115 ms.
	for _, p := range []struct {
		qps              int
		tokens, ntpot    float64 // M tokens per minute, seconds
		e2e              float64 // seconds
		tokensTol, e2Tol float64
	}{
		{100, 1.17, .006, 5.2, .06, .05},
		{200, 2.18, .014, 7.3, .06, .05},
		{300, 2.91, .021, 10.9, .06, .05},
		{400, 3.20, .033, 13.8, .06, .05},
		{500, 3.44, .044, 19.1, .06, .15},
		{600, 3.43, .114, 22.9, .06, .15},
		{700, 3.52, .106, 22.7, .06, .15},
		{800, 3.55, .176, 24.6, .06, .15},
		{900, 3.51, .511, 31.2, 0, 0},
		{1000, 3.50, 1.056, 40.1, 0, 0},
	} {
		add(anchor{group: chartGroup, what: nominal("output tokens", p.qps), unit: "M/min", key: chartKey("tree", p.qps, "tokens"), published: p.tokens, tolerance: p.tokensTol},
			anchor{group: chartGroup, what: nominal("end-to-end p90", p.qps), unit: "s", key: chartKey("tree", p.qps, "e2e"), published: p.e2e, tolerance: p.e2Tol},
			anchor{group: chartGroup, what: nominal("NTPOT p90", p.qps), unit: "s", key: chartKey("tree", p.qps, "ntpot"), published: p.ntpot})
	}
	for _, p := range []struct {
		qps                int
		tokens, ntpot, e2e float64
	}{{200, 2.22, .014, 7.4}, {400, 3.35, .037, 16.7}, {500, 3.35, .268, 27.0}, {600, 3.48, .762, 35.4}, {800, 3.56, 1.310, 44.6}, {1000, 3.54, 1.662, 49.2}} {
		add(anchor{group: serviceGroup, what: nominal("output tokens", p.qps), unit: "M/min", key: chartKey("random", p.qps, "tokens"), published: p.tokens},
			anchor{group: serviceGroup, what: nominal("end-to-end p90", p.qps), unit: "s", key: chartKey("random", p.qps, "e2e"), published: p.e2e},
			anchor{group: serviceGroup, what: nominal("NTPOT p90", p.qps), unit: "s", key: chartKey("random", p.qps, "ntpot"), published: p.ntpot})
	}

	add(anchor{group: sampleGroup, what: "output tokens per H100", unit: "/s", key: "sample/tokens", published: 5964, tolerance: .10},
		anchor{group: sampleGroup, what: "end-to-end p50", unit: "s", key: "sample/e2e50", published: 10.9},
		anchor{group: sampleGroup, what: "end-to-end p90", unit: "s", key: "sample/e2e90", published: 28.7})

	add(anchor{group: engineGroup, what: "prefill of 8192 tokens, Qwen3-32B on 2 x H100", unit: "s", key: "engine/prefill8192", published: .40, tolerance: .05},
		anchor{group: engineGroup, what: "time per token alone, Llama-2-7B on H100", unit: "s", key: "engine/itl/llama-2-7b-h100", published: 6.5e-3, tolerance: .15},
		anchor{group: engineGroup, what: "time per token alone, Llama-3.1-8B on H100", unit: "s", key: "engine/itl/llama-3.1-8b-h100", published: 6.9e-3, tolerance: .15},
		anchor{group: engineGroup, what: "time per token alone, Llama-3-70B on 4 x H100", unit: "s", key: "engine/itl/llama-3-70b-4xh100", published: 16.7e-3, tolerance: .15})

	// The four rows that we have of the table; the tolerance is that of all rows.
	for _, p := range vidurRows() {
		add(anchor{group: vidurGroup, what: p.name, unit: "s", key: p.key, published: p.seconds})
	}
	add(anchor{group: vidurGroup, what: "root mean square deviation of these rows", unit: "", key: "vidur/rms", high: .10})

	add(anchor{group: ladderGroup, what: "output tokens, precise / random", unit: "", key: "ladder/ratio", published: 8730.0 / 4428.7, tolerance: .15},
		anchor{group: ladderGroup, what: "output tokens, load / random: equal", unit: "", key: "ladder/load", published: 4266.4 / 4428.7, tolerance: .15},
		anchor{group: ladderGroup, what: "TTFT mean, random", unit: "s", key: "ladder/random/ttft", published: 45.28, tolerance: .30},
		anchor{group: ladderGroup, what: "TTFT mean, precise / random: far below", unit: "", key: "ladder/order", published: .298 / 45.28, high: .05},
		anchor{group: ladderGroup, what: "TTFT p90, random", unit: "s", key: "ladder/random/ttft90", published: 92.55},
		anchor{group: ladderGroup, what: "TTFT mean, load", unit: "s", key: "ladder/load/ttft", published: 46.99},
		anchor{group: ladderGroup, what: "TTFT mean, precise", unit: "s", key: "ladder/precise/ttft", published: .298},
		anchor{group: ladderGroup, what: "TTFT p90, precise", unit: "s", key: "ladder/precise/ttft90", published: .542},
		anchor{group: ladderGroup, what: "output tokens, random", unit: "/s", key: "ladder/random/tokens", published: 4428.7},
		anchor{group: ladderGroup, what: "output tokens, load", unit: "/s", key: "ladder/load/tokens", published: 4266.4},
		anchor{group: ladderGroup, what: "output tokens, precise", unit: "/s", key: "ladder/precise/tokens", published: 8730.0})

	add(anchor{group: capacityGroup, what: "output tokens, precise / random", unit: "", key: "37/ratio", published: 5380.9 / 2991.5},
		anchor{group: capacityGroup, what: "TTFT mean, random", unit: "s", key: "37/random/ttft", published: 40.92},
		anchor{group: capacityGroup, what: "TTFT mean, precise", unit: "s", key: "37/precise/ttft", published: .259},
		anchor{group: capacityGroup, what: "output tokens, random", unit: "/s", key: "37/random/tokens", published: 2991.5},
		anchor{group: capacityGroup, what: "output tokens, precise", unit: "/s", key: "37/precise/tokens", published: 5380.9})

	add(anchor{group: stickyGroup, what: "requests at the knee, sticky / random", unit: "", key: "sticky/ratio", low: 2.0, high: 2.9})
	return t
}

// judgement is what the comparison with one anchor came to.
type judgement string

const (
	pass    judgement = "pass"
	fail    judgement = "FAIL"
	report  judgement = "report"
	missing judgement = "MISSING"
)

// deviation returns how far ours is from the published figure, as a share of it;
// NaN where there is a range only.
func (a anchor) deviation(ours float64) float64 {
	if a.published == 0 {
		return math.NaN()
	}
	return ours/a.published - 1
}

// judge compares.
func (a anchor) judge(ours float64, measured bool) judgement {
	switch {
	case !measured || math.IsNaN(ours):
		return missing
	case a.low != 0 || a.high != 0:
		if ours < a.low || ours > a.high {
			return fail
		}
		return pass
	case a.tolerance == 0:
		return report
	case math.Abs(a.deviation(ours)) > a.tolerance:
		return fail
	}
	return pass
}
