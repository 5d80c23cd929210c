package policies

import (
	"math"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
)

// world is a truth by endpoint ID. A step takes 10 ms, 10 µs a sequence, and beyond
// 1,000 of them 20 µs more for each.
type world map[string]server

type server struct{ requests, owed, context, cached int }

func (w world) Outstanding(ep *types.Endpoint) (requests, prefillTokens, contextTokens int) {
	s := w[ep.ID]
	return s.requests, s.owed, s.context
}
func (w world) Cached(_ *types.Request, ep *types.Endpoint) int { return w[ep.ID].cached }
func (w world) Output(*types.Request) int                       { return 50 }
func (w world) StepTime(_ *types.Endpoint, sequences, _ int) time.Duration {
	return 10*time.Millisecond + time.Duration(sequences)*10*time.Microsecond + time.Duration(max(sequences-1000, 0))*20*time.Microsecond
}

func TestClairvoyantEstimate(t *testing.T) {
	truth := world{"a": {4, 1000, 5000, 80}, "long": {4, 8113, 5000, 80}}
	const step = .01004
	alone := step/2 + 20e-6*1080 + 1.3e-9*80*120 + step
	tests := []struct {
		name    string
		ep      *types.Endpoint
		adapter string
		ttft    float64
	}{
		{"plain", schedulingtest.Endpoint("a"), "", alone},
		{"two steps of prefill", schedulingtest.Endpoint("long"), "", alone + 20e-6*7113 + step},
		{"room to the token", geometry(6080), "", alone},
		{"80 tokens short", geometry(6000), "", alone + 80/(4/256./step*(5000/4.))},
		{"adapters never reported", schedulingtest.Endpoint("a"), "story", alone + .030},
		{"adapter to load", schedulingtest.Endpoint("a", schedulingtest.Adapters(2)), "story", alone + .030},
		{"no slot", schedulingtest.Endpoint("a", schedulingtest.Adapters(0)), "story", alone + .030 + 256*step},
	}
	for _, tt := range tests {
		c := Clairvoyant(truth).Scorers[0].Scorer.(*clairvoyant)
		req := prompt("x", 10, time.Time{})
		req.TargetModel = tt.adapter
		e := c.estimate(req, tt.ep)
		want := estimate{ttft: tt.ttft, output: 50 * .01005, token: 20e-6, decoding: 4, hit: 80}
		for _, v := range [][2]float64{{e.ttft, want.ttft}, {e.output, want.output}, {e.token, want.token}, {e.decoding, want.decoding}, {e.hit, want.hit}} {
			if math.Abs(v[0]-v[1]) > 1e-9 {
				t.Errorf("%s: estimate %+v, want %+v", tt.name, e, want)
				break
			}
		}
	}
}

func geometry(tokens int) *types.Endpoint {
	ep := schedulingtest.Endpoint("a")
	ep.Metrics.BlockSize, ep.Metrics.NumBlocks = types.Known(16), types.Known(float64(tokens)/16)
	return ep
}

// What this gateway has under way there changes what is met: a prompt that is not
// computed yet does not decode, an adapter in use costs nothing, and takes a slot.
func TestClairvoyantUnderWay(t *testing.T) {
	truth := world{"a": {requests: 4, context: 5000}}
	c := Clairvoyant(truth).Scorers[0].Scorer.(*clairvoyant)
	ep := schedulingtest.Endpoint("a", schedulingtest.Adapters(1))
	with := func(adapter string) *types.Request {
		req := prompt("x", 10, time.Time{})
		req.TargetModel = adapter
		return req
	}
	check := func(when, adapter string, decoding, load float64) {
		t.Helper()
		e := c.estimate(with(adapter), ep)
		step := .01 + decoding*10e-6
		ttft := step*1.5 + 20e-6*160 + 1.3e-9*160*80 + load
		if math.Abs(e.decoding-decoding) > 1e-9 || math.Abs(e.ttft-ttft) > 1e-9 {
			t.Errorf("%s: %v decoding and first token in %v s, want %v and %v", when, e.decoding, e.ttft, decoding, ttft)
		}
	}
	one := with("story")
	check("before", "story", 4, .030)
	c.Picked(one, ep)
	check("while it is prefilled", "story", 3, 0)
	check("while it is prefilled, another adapter", "poem", 3, .030+50*(.01+3*10e-6))
	c.FirstToken(one, ep)
	c.FirstToken(one, ep)
	check("while it decodes", "story", 4, 0)
	if got := c.seen(one, ep).reading; got != 160+50/2 {
		t.Errorf("while it decodes: %v tokens of context, want the prompt and half the output, 185", got)
	}
	c.Finished(one, ep, types.Outcome{})
	c.Finished(one, ep, types.Outcome{})
	check("after it", "poem", 4, .030)
	if got := c.seen(one, ep).reading; got != 0 {
		t.Errorf("after it: %v tokens of context, want 0", got)
	}
	c.Forget(ep)
	check("after a restart", "", 4, 0)
}

// By hand: a has half the prompt but much to do, b nothing of both.
//
//	a: 2.5·0.03667 + 0.5025                        = 0.5942
//	b: 2.5·0.01822 + 0.5005 + (0.5·0 + 3)·20µs·80  = 0.5508
//
// With a cached prompt of 2,000 tokens b would make a copy that is too dear.
func TestClairvoyantChoice(t *testing.T) {
	eps := []*types.Endpoint{schedulingtest.Endpoint("a"), schedulingtest.Endpoint("b")}
	tests := []struct {
		blocks, cached int
		want           []float64
	}{
		{10, 80, []float64{.5, 1}},
		{150, 2400, []float64{1, .5}},
	}
	for _, tt := range tests {
		truth := world{"a": {requests: 4, owed: 1000, context: 5000, cached: tt.cached}}
		s := Clairvoyant(truth).Scorers[0].Scorer
		got := schedulingtest.Score(t, s, prompt("x", tt.blocks, time.Time{}), eps...)
		if got[0] != tt.want[0] || got[1] != tt.want[1] {
			t.Errorf("scores with %d tokens cached = %v, want %v", tt.cached, got, tt.want)
		}
	}
}
