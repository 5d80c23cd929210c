package plugins_test

import (
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

var updateTranscript = flag.Bool("update-transcript", false, "write the transcript of costs anew")

// transcript plays a long random life of a fleet by one goroutine, with every kind of event
// there is, and writes down what each request would have cost where.
type transcript struct {
	*costBench
	rnd  types.Rand
	open []*scheduling.Decision
	bits io.Writer // all costs, to the last bit
	last []float64
}

func newTranscript(t *testing.T, o plugins.CostOptions, servers int, foreign float64, bits io.Writer) *transcript {
	var eps []*types.Endpoint
	for i := range servers {
		id := fmt.Sprint("ep-", i)
		ep := schedulingtest.Endpoint(id, schedulingtest.Running(foreign), schedulingtest.KVUsage(.1), schedulingtest.Adapters(2))
		if i%4 == 3 {
			ep = schedulingtest.Endpoint(id, schedulingtest.Unread())
		}
		ep.Capacity = types.Capacity{CostPerHour: float64(1 + i%3), KVTokens: 40_000 * (1 + i%2), Speed: []float64{0, 1, 2}[i%3]}
		eps = append(eps, ep)
	}
	return &transcript{costBench: newCostBench(t, o, eps...), rnd: types.NewRand(7), bits: bits}
}

func (tr *transcript) ask() *types.Request {
	r := &tr.rnd
	req := prompt(fmt.Sprint("group ", r.IntN(12)), 300*(1+r.IntN(6)))
	req.Stream = r.IntN(3) > 0
	req.FairnessID = fmt.Sprint("tenant-", r.IntN(3))
	switch r.IntN(6) {
	case 0:
		req.SLO = types.SLO{TTFT: time.Duration(1+r.IntN(200)) * time.Millisecond}
	case 1:
		req.SLO.TPOT = time.Duration(1+r.IntN(30)) * time.Millisecond
	case 2:
		req.TargetModel = fmt.Sprint("adapter-", r.IntN(5))
	}
	return req
}

func (tr *transcript) read(i int) {
	m := tr.eps[i].Metrics
	if m.UpdatedAt.IsZero() {
		return
	}
	r := &tr.rnd
	m.UpdatedAt = tr.now
	m.Running, m.Waiting, m.KVUsage = types.Known(float64(r.IntN(20))), types.Known(float64(r.IntN(3))), types.Known(float64(r.IntN(90))/100)
	m.RunningAdapters = nil
	for range r.IntN(3) {
		m.RunningAdapters = append(m.RunningAdapters, fmt.Sprint("adapter-", r.IntN(5)))
	}
	tr.eps[i] = tr.eps[i].WithMetrics(m)
}

// event plays one, and returns where the request went.
func (tr *transcript) event(step int) string {
	r := &tr.rnd
	tr.pass(time.Duration(r.IntN(12)) * time.Millisecond)
	switch r.IntN(40) {
	case 0:
		tr.s.Forget(tr.eps[r.IntN(len(tr.eps))])
	case 1:
		tr.pass(time.Duration(r.IntN(3000)) * time.Millisecond)
	case 2: // somebody looks, and does not book
		req := tr.ask()
		tr.costs(req)
	}
	tr.read(r.IntN(len(tr.eps)))
	req := tr.ask()
	tr.costs(req)
	if step%16 == 0 {
		ex, err := tr.s.Explain(ctx, req, tr.eps)
		require.NoError(tr.t, err)
		_, _ = io.WriteString(tr.bits, ex.String())
	}
	d := tr.schedule(req)
	tr.open = append(tr.open, d)
	for len(tr.open) > 25 {
		tr.end(r.IntN(len(tr.open)))
	}
	return d.Endpoint.ID
}

// costs writes down what req costs.
func (tr *transcript) costs(req *types.Request) {
	req.Now, req.Rand = tr.now, types.NewRand(1)
	tr.last = append(tr.last[:0], make([]float64, len(tr.eps))...)
	require.NoError(tr.t, tr.cost.Cost(ctx, req, tr.eps, tr.last))
	for _, v := range tr.last {
		fmt.Fprintf(tr.bits, "%x ", math.Float64bits(v))
	}
}

func (tr *transcript) end(k int) {
	r, d := &tr.rnd, tr.open[k]
	tr.pass(time.Duration(r.IntN(9)) * time.Millisecond)
	out := types.Outcome{Status: 200, Tokens: 20 + r.IntN(100)}
	switch r.IntN(9) {
	case 0:
		if len(d.Fallbacks) > 0 {
			d.Retry(d.Fallbacks[0], types.Outcome{Err: io.ErrUnexpectedEOF})
			return
		}
	case 1, 2:
		d.FirstToken()
		return
	case 3:
		out = types.Outcome{Cancelled: true}
	case 4:
		out = types.Outcome{Status: 500}
	case 5:
		out.Usage = types.Usage{PromptTokens: types.Known(float64(d.Request.Prompt.Tokens)), CompletionTokens: types.Known(float64(out.Tokens)), CachedTokens: types.Known(float64(r.IntN(d.Request.Prompt.Tokens)))}
	case 6:
		d.FirstToken()
		tr.pass(time.Duration(out.Tokens) * time.Millisecond)
		out.Reads, out.Usage.CachedTokens = out.Tokens, types.Known(200)
	}
	d.Done(out)
	tr.open = append(tr.open[:k], tr.open[k+1:]...)
}

// What every request of a long life costs everywhere is written down: a change of structure
// changes none of it, and a change of policy needs a reason in the commit that writes it anew
// (go test ./plugins -run Transcript -update-transcript).
func TestCostTranscript(t *testing.T) {
	oneGoroutine(t)
	var got strings.Builder
	for _, tt := range []struct {
		name    string
		o       plugins.CostOptions
		servers int
		foreign float64
	}{
		{"alone", plugins.CostOptions{}, 6, 0},
		{"beside others", plugins.CostOptions{Price: 3}, 9, 20},
		{"fixed rates", plugins.CostOptions{FixedRates: true, Transport: -1}, 4, 5},
	} {
		bits := fnv.New64a()
		tr := newTranscript(t, tt.o, tt.servers, tt.foreign, bits)
		fmt.Fprintf(&got, "%s\n", tt.name)
		for step := 1; step <= 3000; step++ {
			at := tr.event(step)
			if step%100 == 0 {
				fmt.Fprintf(&got, "%4d %s", step, at)
				for _, v := range tr.last {
					fmt.Fprintf(&got, " %.9g", v)
				}
				got.WriteByte('\n')
			}
		}
		if runtime.GOARCH == "amd64" { // others multiply and add in one, and round once
			fmt.Fprintf(&got, "to the last bit: %x\n", bits.Sum64())
		}
	}
	golden := filepath.Join("testdata", "cost-transcript.txt")
	if *updateTranscript {
		require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	if runtime.GOARCH == "amd64" {
		require.Equal(t, string(want), got.String())
	}
}
