package overload

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Fairness is how tenants shared a fleet that was asked for more than it can do.
type Fairness struct {
	Name, What string
	Rows       []FairnessRow
}

// FairnessRow is one way to share. Figures are the worst, or for throughput the mean,
// over the seeds.
type FairnessRow struct {
	Control    string
	Throughput float64 // output tokens per second while jobs arrived
	// Apart is the largest difference in weighted tokens that two tenants were served
	// while both had jobs waiting. Bound is what the controller promises without what it
	// misjudged of jobs under way, which Misjudged is, and VTC the bound of that scheduler,
	// which charges for tokens as they are made: twice the larger of what a prompt and what
	// all tokens under way cost at most. 0: nothing.
	Apart, Bound, Misjudged, VTC float64
	// WellBehaved is the p90 time to first token, and WellBehavedWait that of the wait, of
	// the tenants that asked for less than their share, the mean of them; Noisy is that of
	// the one that asked for the most. Zero where there are none such.
	WellBehaved, WellBehavedWait, Noisy float64
}

func (f *Fairness) write(b *strings.Builder) {
	fmt.Fprintf(b, "\nFairness: %s (%s)\n", f.Name, f.What)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "order\ttokens/s\tof first-come\tapart\tbound\tmisjudged\tVTC bound\twell-behaved TTFT s\twait s\tnoisy TTFT s\t")
	for _, r := range f.Rows {
		bound, wrong, vtc := "-", "-", "-"
		if r.Bound > 0 {
			bound, wrong, vtc = fmt.Sprintf("%.0f", r.Bound), fmt.Sprintf("%.0f", r.Misjudged), fmt.Sprintf("%.0f", r.VTC)
		}
		apart := "-"
		if r.Apart > 0 {
			apart = fmt.Sprintf("%.0f", r.Apart)
		}
		fmt.Fprintf(t, "%s\t%.0f\t%.3f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Control, r.Throughput, r.Throughput/f.Rows[0].Throughput,
			apart, bound, wrong, vtc, seconds(r.WellBehaved), seconds(r.WellBehavedWait), seconds(r.Noisy))
	}
	t.Flush()
}

// sharing is a fleet and tenants that share it.
type sharing struct {
	name, what  string
	config      simulation.Config
	wellBehaved map[string]bool // tenants within their share
	noisy       string          // the one that is not
	// What one of the well-behaved sends, and what all would if the noisy one were one of them;
	// nil: not played.
	alone, allWellBehaved simulation.Spec
}

func playFairness(ctx context.Context, o Options, part float64) ([]Fairness, error) {
	cases, err := sharings(o, part)
	if err != nil {
		return nil, err
	}
	out := make([]Fairness, len(cases))
	w := &work{ctx: ctx, progress: o.Progress}
	for i, s := range cases {
		f := &out[i]
		f.Name, f.What = s.name, s.what
		orders := []admission.Fairness{admission.FirstCome, admission.VirtualTokens, admission.PrefixLocality}
		f.Rows = make([]FairnessRow, len(orders), len(orders)+2)
		play := func(row int, what string, one func(context.Context, uint64) (FairnessRow, error)) {
			f.Rows[row].Control = what
			for _, seed := range o.Seeds {
				w.add(s.name+", "+what, func(ctx context.Context) error {
					r, err := one(ctx, seed)
					if err != nil {
						return err
					}
					w.mu.Lock()
					defer w.mu.Unlock()
					f.Rows[row].add(r, float64(len(o.Seeds)))
					return nil
				})
			}
		}
		for k, how := range orders {
			play(k, how.String(), func(ctx context.Context, seed uint64) (FairnessRow, error) { return share(ctx, s, how, seed) })
		}
		if s.alone == nil {
			continue
		}
		f.Rows = f.Rows[:len(orders)+2]
		for k, quiet := range []struct {
			what string
			spec simulation.Spec
		}{{"all well-behaved", s.allWellBehaved}, {"one well-behaved, alone", s.alone}} {
			s := s
			s.config.Workload = quiet.spec
			play(len(orders)+k, quiet.what, func(ctx context.Context, seed uint64) (FairnessRow, error) {
				r, err := share(ctx, s, admission.VirtualTokens, seed)
				r.Apart, r.Bound, r.Misjudged, r.VTC = 0, 0, 0, 0
				return r, err
			})
		}
	}
	return out, w.run()
}

func (r *FairnessRow) add(one FairnessRow, seeds float64) {
	r.Throughput += one.Throughput / seeds
	for _, f := range []struct{ all, one *float64 }{{&r.Apart, &one.Apart}, {&r.Bound, &one.Bound}, {&r.Misjudged, &one.Misjudged}, {&r.VTC, &one.VTC}, {&r.WellBehaved, &one.WellBehaved}, {&r.WellBehavedWait, &one.WellBehavedWait}, {&r.Noisy, &one.Noisy}} {
		*f.all = max(*f.all, *f.one)
	}
}

// share plays one run.
func share(ctx context.Context, s sharing, how admission.Fairness, seed uint64) (FairnessRow, error) {
	c := s.config
	c.Seed = seed
	outputs := &outputs{Spec: c.Workload}
	c.Workload = outputs
	l := newLedger(outputs)
	c.Admission = func() admission.Options {
		bands := admission.DefaultBands()
		for i := range bands {
			bands[i].MaxWait = time.Hour // who is refused for waiting is not served, however fair
		}
		return admission.Options{Bands: bands, Fairness: how, MaxRequests: 1_000_000, Hooks: l.hooks(), Tuning: admission.Tuning{MaxBytes: 1 << 40}}
	}
	rep, err := simulation.Run(ctx, c)
	if err != nil {
		return FairnessRow{}, err
	}
	row := FairnessRow{Throughput: rep.Throughput, Apart: l.apart}
	if how != admission.FirstCome {
		row.Bound, row.Misjudged = 2*l.dearest+admission.DefaultCredit, 2*l.misjudged
		row.VTC = 2 * max(l.prompt*admission.DefaultInputWeight, l.most*admission.DefaultOutputWeight)
	}
	if how == admission.PrefixLocality {
		row.Bound += 2 * admission.DefaultQuantum
	}
	n := 0.0
	for _, t := range rep.Tenants {
		switch {
		case t.Tenant == s.noisy:
			row.Noisy = t.TTFT.P90
		case s.wellBehaved[t.Tenant]:
			row.WellBehaved += t.TTFT.P90
			row.WellBehavedWait += t.Wait.P90
			n++
		}
	}
	row.WellBehaved, row.WellBehavedWait = row.WellBehaved/max(n, 1), row.WellBehavedWait/max(n, 1)
	return row, nil
}

// outputs is a workload that numbers its jobs, as sessions, and remembers how long their
// outputs will be: what a job really costs no controller knows when it lets it in.
type outputs struct {
	simulation.Spec
	lengths map[string]int
	n       int
}

func (o *outputs) Start(seed uint64) simulation.Source {
	o.lengths, o.n = map[string]int{}, 0
	return &counted{o.Spec.Start(seed), o}
}

type counted struct {
	simulation.Source
	o *outputs
}

func (c *counted) Next() (simulation.Job, bool) {
	j, ok := c.Source.Next()
	if ok {
		c.o.n++
		j.Session = fmt.Sprint(c.o.n)
		c.o.lengths[j.Session] = j.Output
	}
	return j, ok
}

// ledger follows what tenants are served while they have jobs waiting.
type ledger struct {
	outputs *outputs
	tenants map[string]*account
	pairs   map[[2]string]*pair

	dearest   float64 // job
	prompt    float64 // the longest
	inFlight  float64 // tokens of jobs under way
	most      float64 // that there were
	misjudged float64 // the most that a tenant's jobs under way were
	apart     float64
}

type account struct {
	waiting   int
	served    float64
	misjudged float64
}

// pair is two tenants while both have jobs waiting: the least and the greatest of what
// one was served more than the other.
type pair struct{ low, high float64 }

func newLedger(o *outputs) *ledger {
	return &ledger{outputs: o, tenants: map[string]*account{}, pairs: map[[2]string]*pair{}}
}

func (l *ledger) account(t *admission.Ticket) *account {
	name := t.Request().FairnessID
	a := l.tenants[name]
	if a == nil {
		a = &account{}
		l.tenants[name] = a
	}
	return a
}

// real is what a job costs, in weighted tokens.
func (l *ledger) real(r *types.Request) float64 {
	return admission.DefaultInputWeight*float64(r.Prompt.Tokens) + admission.DefaultOutputWeight*float64(l.outputs.lengths[r.SessionID])
}

// tokens is how many a job has in all.
func (l *ledger) tokens(r *types.Request) float64 {
	return float64(r.Prompt.Tokens + l.outputs.lengths[r.SessionID])
}

func (l *ledger) hooks() admission.Hooks {
	queued := map[*admission.Ticket]bool{}
	wrong := map[*admission.Ticket]float64{} // of those under way
	return admission.Hooks{
		Queued: func(t *admission.Ticket) {
			queued[t] = true
			l.account(t).waiting++
		},
		Dispatched: func(t *admission.Ticket, _ time.Duration) {
			a, cost := l.account(t), l.real(t.Request())
			a.served += cost
			wrong[t] = cost - t.Charge()
			a.misjudged += wrong[t]
			l.dearest = max(l.dearest, cost, t.Charge())
			l.misjudged = max(l.misjudged, math.Abs(a.misjudged))
			l.prompt = max(l.prompt, float64(t.Request().Prompt.Tokens))
			l.inFlight += l.tokens(t.Request())
			l.most = max(l.most, l.inFlight)
			l.compare()
			if queued[t] {
				delete(queued, t)
				a.waiting--
			}
			l.drop()
		},
		Finished: func(t *admission.Ticket, _ types.Outcome) {
			l.account(t).misjudged -= wrong[t]
			delete(wrong, t)
			l.inFlight -= l.tokens(t.Request())
		},
	}
}

// compare notes how far tenants that wait are apart.
func (l *ledger) compare() {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(l.tenants)) {
		if l.tenants[name].waiting > 0 {
			names = append(names, name)
		}
	}
	for i, a := range names {
		for _, b := range names[:i] {
			d := l.tenants[a].served - l.tenants[b].served
			p := l.pairs[[2]string{a, b}]
			if p == nil {
				p = &pair{d, d}
				l.pairs[[2]string{a, b}] = p
			}
			p.low, p.high = min(p.low, d), max(p.high, d)
			l.apart = max(l.apart, p.high-p.low)
		}
	}
}

// drop forgets pairs of which one no longer has anything waiting.
func (l *ledger) drop() {
	maps.DeleteFunc(l.pairs, func(names [2]string, _ *pair) bool {
		return l.tenants[names[0]].waiting == 0 || l.tenants[names[1]].waiting == 0
	})
}

// sharings are the cases.
func sharings(o Options, part float64) ([]sharing, error) {
	llama := engine.Llama31H100()
	of := func(d time.Duration) time.Duration { return time.Duration(float64(d) * part) }
	list := []sharing{}

	// Ten replicas with 64 places keep up with some 260 jobs a second.
	const tenants, fair = 8, 260. / 8
	neighbour := sharing{
		name: "one tenant at 10x", what: "8 tenants, 7 of which ask for 0.7 of their share and one for 10 times that: 1.5 of capacity in all",
		config: simulation.Config{
			Fleet: simulation.Uniform(replicas, engine.Config{Calibration: llama, MaxSeqs: 64}), Policy: policy(),
			Duration: of(arrivals), Warmup: of(warmup), Drain: of(drain),
		},
		wellBehaved: map[string]bool{}, noisy: "hog-0",
	}
	mix := simulation.Mix{Parts: []simulation.Spec{tenant("hog", 10*0.7*fair)}}
	for i := range tenants - 1 {
		name := fmt.Sprintf("modest%d", i)
		mix.Parts = append(mix.Parts, tenant(name, 0.7*fair))
		neighbour.wellBehaved[name+"-0"] = true
	}
	neighbour.config.Workload, neighbour.alone = mix, mix.Parts[1]
	neighbour.allWellBehaved = simulation.Mix{Parts: append([]simulation.Spec{tenant("hog", 0.7*fair)}, mix.Parts[1:]...)}
	list = append(list, neighbour)

	// Tenants with a system prompt each: what order does to prefix caches.
	prefixes := simulation.Mix{}
	for i := range 40 {
		prefixes.Parts = append(prefixes.Parts, simulation.Criticality{
			Workload: simulation.SharedPrefix{Groups: 5, SystemTokens: 4096, Rate: 6},
			Classes:  []simulation.Class{{Name: fmt.Sprintf("tenant%d", i), Share: 1, Tenants: 1}},
		})
	}
	list = append(list, sharing{
		name: "40 tenants with 5 system prompts each", what: "4,096 tokens each, on 4 replicas whose caches hold a third of them together; about 2 times what they can do",
		config: simulation.Config{
			Fleet:    simulation.Uniform(4, engine.Config{Calibration: llama, MaxSeqs: 64, Blocks: 6000}),
			Policy:   policy(),
			Workload: prefixes,
			Duration: of(arrivals), Warmup: of(warmup), Drain: of(drain) / 3,
		},
	})
	if o.VTC != "" {
		trace, err := loadVTC(o.VTC, 4)
		if err != nil {
			return nil, err
		}
		list = append(list, sharing{
			name: "VTC trace", what: "27 clients of the LMSYS Chatbot Arena, 4 times as fast, on one replica with 16 places",
			config: simulation.Config{
				Fleet: simulation.Uniform(1, engine.Config{Calibration: llama, MaxSeqs: 16}), Policy: policy(),
				Workload: trace, Duration: trace.length(), Warmup: trace.length() / 10,
			},
		})
	}
	return list, nil
}

// tenant is one tenant with chat requests.
func tenant(name string, rate float64) simulation.Spec {
	return simulation.Criticality{
		Workload: simulation.ShareGPT{Rate: rate},
		Classes:  []simulation.Class{{Name: name, Share: 1, Tenants: 1}},
	}
}
