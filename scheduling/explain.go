package scheduling

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/inferpick/inferpick/types"
)

// Explanation explains a decision with every term of every candidate. It can be encoded as JSON, and
// String formats it as a table.
type Explanation struct {
	// Candidates are all endpoints passed to Explain, in order.
	Candidates []Candidate
	// Rule is the name of the rule that applied. Empty: none.
	Rule string `json:",omitempty"`
	// Endpoint and Fallbacks are as in a Decision; nil if Err is set.
	Endpoint  *types.Endpoint   `json:"-"`
	Fallbacks []*types.Endpoint `json:"-"`
	// Prefill explains the endpoints that may compute the prompt for another one that answers, if the
	// request may be split and there are such. Rank 1 is the one that was chosen for it.
	Prefill []Candidate `json:",omitempty"`
	// Alone and Apart are the best ways to serve the request at one endpoint, and at two. Nil: there is
	// none, or it was not asked.
	Alone, Apart *Way `json:",omitempty"`
	// Dropped lists scorers and costs that failed and were left out.
	Dropped []string `json:",omitempty"`
	// Err is why there is no decision.
	Err error `json:"-"`
}

// Candidate explains one endpoint.
type Candidate struct {
	Endpoint *types.Endpoint `json:"-"`
	ID       string
	Address  string
	// FilteredBy is the filter that removed the endpoint, which then has no terms.
	FilteredBy string `json:",omitempty"`
	// FilterDetail is that filter's description of the endpoint, see Describer.
	FilterDetail string `json:",omitempty"`
	// Terms has one term for each scorer that ran, and one or more for each cost, in the order of
	// the profile.
	Terms []Term
	// Total is the sum of the contributions, as passed to the picker.
	Total float64
	// Rank is 1 for the chosen endpoint, 2 for the first fallback and so on, and 0 for the rest.
	Rank int
}

// Way is a way to serve a request.
type Way struct {
	Endpoint string  // the ID of who answers
	Prefill  string  `json:",omitempty"` // and of who computes the prompt, if that is another
	Total    float64 // as in Candidate
	Terms    []Term
}

// Term is the contribution of a scorer, or of a part of a cost, to one candidate.
type Term struct {
	Scorer string
	Weight float64
	// Score is the scorer's result before clamping, 0 if Unknown.
	Score float64
	// Unknown means that the scorer had no opinion, and Used is the mean of the others.
	Unknown bool `json:",omitempty"`
	// Used is the score that counted, 0..1.
	Used float64
	// Contribution is Weight times Used, or for a part of a cost the negative of its seconds.
	Contribution float64
	// Cost marks a part of a cost, which has no Weight, Score and Used.
	Cost bool `json:",omitempty"`
	// Detail is the plugin's description of the endpoint, see Describer and CostItem.
	Detail string `json:",omitempty"`
}

// Chosen returns the candidate of rank 1, or nil.
func (x *Explanation) Chosen() *Candidate {
	for i := range x.Candidates {
		if x.Candidates[i].Rank == 1 {
			return &x.Candidates[i]
		}
	}
	return nil
}

// String returns a table with a line per candidate and a column per term.
func (x *Explanation) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "rank\tendpoint\ttotal")
	for _, c := range x.Candidates {
		if len(c.Terms) > 0 {
			for _, t := range c.Terms {
				if t.Cost {
					fmt.Fprintf(w, "\t%s (s)", t.Scorer)
				} else {
					fmt.Fprintf(w, "\t%s x%g", t.Scorer, t.Weight)
				}
			}
			break
		}
	}
	fmt.Fprintln(w)
	for _, c := range x.Candidates {
		if c.FilteredBy != "" {
			fmt.Fprintf(w, "-\t%s\tfiltered by %s %s\n", c.ID, c.FilteredBy, c.FilterDetail)
			continue
		}
		rank := "-"
		if c.Rank > 0 {
			rank = fmt.Sprint(c.Rank)
		}
		fmt.Fprintf(w, "%s\t%s\t%.3f", rank, c.ID, c.Total)
		for _, t := range c.Terms {
			fmt.Fprintf(w, "\t%.3f", t.Contribution)
			if t.Unknown {
				fmt.Fprint(w, " (unknown: mean)")
			}
			if t.Detail != "" {
				fmt.Fprintf(w, " (%s)", t.Detail)
			}
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	for _, way := range [...]*Way{x.Alone, x.Apart} {
		if way != nil {
			fmt.Fprintln(&b, way)
		}
	}
	if x.Err != nil {
		fmt.Fprintf(&b, "no decision: %v\n", x.Err)
	}
	return b.String()
}

// String returns the way and its terms in a line.
func (w *Way) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "alone at %s", w.Endpoint)
	if w.Prefill != "" {
		b.Reset()
		fmt.Fprintf(&b, "prompt at %s, answer at %s", w.Prefill, w.Endpoint)
	}
	fmt.Fprintf(&b, ": %.3f", w.Total)
	for _, t := range w.Terms {
		fmt.Fprintf(&b, "  %s %.3f", t.Scorer, t.Contribution)
		if t.Detail != "" {
			fmt.Fprintf(&b, " (%s)", t.Detail)
		}
	}
	return b.String()
}

// The methods below record what the pipeline does. A nil Explanation, as on the hot path, records
// nothing.

func newExplanation(eps []*types.Endpoint) *Explanation {
	x := &Explanation{Candidates: make([]Candidate, len(eps))}
	for i, ep := range eps {
		x.Candidates[i] = Candidate{Endpoint: ep, ID: ep.ID, Address: ep.Address}
	}
	return x
}

func (x *Explanation) rule(name string) {
	if x != nil {
		x.Rule = name
	}
}

// roles strikes out those that may not answer.
func (x *Explanation) roles(eps []*types.Endpoint) {
	if x == nil {
		return
	}
	for i, ep := range eps {
		if !ep.Roles.Answers() {
			x.Candidates[i].FilteredBy, x.Candidates[i].FilterDetail = roleFilter, ep.Roles.String()
		}
	}
}

// strike records that a filter struck out ep.
func (x *Explanation) strike(ep *types.Endpoint, filter, detail string) {
	if x == nil {
		return
	}
	next := 0
	c := x.of(ep, &next)
	c.FilteredBy, c.FilterDetail = filter, detail
}

// of returns the candidate of ep. Since the pipeline keeps the order of endpoints up to the picker,
// the search continues from the last hit and is linear in total.
func (x *Explanation) of(ep *types.Endpoint, from *int) *Candidate {
	for n := 0; n < len(x.Candidates); n++ {
		i := (*from + n) % len(x.Candidates)
		if x.Candidates[i].Endpoint == ep {
			*from = i + 1
			return &x.Candidates[i]
		}
	}
	panic("scheduling: an endpoint that was not among the candidates")
}

func (x *Explanation) filtered(f *Named, req *types.Request, eps []*types.Endpoint, keep []bool) {
	if x == nil {
		return
	}
	next := 0
	for i, ep := range eps {
		if c := x.of(ep, &next); !keep[i] {
			c.FilteredBy, c.FilterDetail = f.Name, describe(f.Filter, req, ep)
		}
	}
}

func (x *Explanation) scored(w *Weighted, req *types.Request, eps []*types.Endpoint, scores []float64, mean float64) {
	if x == nil {
		return
	}
	next := 0
	for i, ep := range eps {
		t := Term{Scorer: w.Name, Weight: w.Weight, Score: scores[i], Detail: describe(w.Scorer, req, ep)}
		if t.Unknown = t.Score != t.Score; t.Unknown {
			t.Score, t.Used = 0, mean
		} else {
			t.Used = clamp(t.Score)
		}
		t.Contribution = t.Weight * t.Used
		c := x.of(ep, &next)
		c.Terms = append(c.Terms, t)
	}
}

func (x *Explanation) cost(c *Costed, req *types.Request, eps []*types.Endpoint, costs []float64, mean float64) {
	if x == nil {
		return
	}
	next := 0
	for i, ep := range eps {
		of := x.of(ep, &next)
		if !finite(costs[i]) {
			of.Terms = append(of.Terms, Term{Scorer: c.Name, Cost: true, Unknown: true, Contribution: -mean, Detail: describe(c.Coster, req, ep)})
			continue
		}
		items, ok := itemize(c.Coster, req, ep)
		if !ok {
			of.Terms = append(of.Terms, Term{Scorer: c.Name, Cost: true, Contribution: -costs[i], Detail: describe(c.Coster, req, ep)})
			continue
		}
		for _, it := range items {
			of.Terms = append(of.Terms, Term{Scorer: it.Name, Cost: true, Contribution: -it.Seconds, Detail: it.Detail})
		}
	}
}

func (x *Explanation) dropped(err *PluginError) {
	if x != nil {
		x.Dropped = append(x.Dropped, fmt.Sprintf("%s: %v", err.Plugin, err.Err))
	}
}

func (x *Explanation) totals(eps []*types.Endpoint, totals []float64) {
	if x == nil {
		return
	}
	next := 0
	for i, ep := range eps {
		x.of(ep, &next).Total = totals[i]
	}
}

func (x *Explanation) picked(ep *types.Endpoint, rank int) {
	if x == nil {
		return
	}
	next := 0
	x.of(ep, &next).Rank = rank + 1
	if rank == 0 {
		x.Endpoint = ep
	} else {
		x.Fallbacks = append(x.Fallbacks, ep)
	}
}

// reserved records a fallback that was not among the candidates.
func (x *Explanation) reserved(ep *types.Endpoint) {
	if x != nil {
		x.Fallbacks = append(x.Fallbacks, ep)
	}
}

// apart explains those that may compute the prompt, and the best pair, as a Splitter found it that was told that
// another endpoint must.
func (x *Explanation) apart(p *pipeline, req *types.Request, eps, prefill []*types.Endpoint, totals []float64, by []int32, gains []float64) {
	itemizer, _ := p.splitter.(SplitItemizer)
	for _, ep := range prefill {
		c := Candidate{Endpoint: ep, ID: ep.ID, Address: ep.Address}
		if itemizer != nil {
			c.Terms = terms(func() []CostItem { return itemizer.PrefillItems(req, ep) })
		}
		for _, t := range c.Terms {
			c.Total += t.Contribution
		}
		x.Prefill = append(x.Prefill, c)
	}
	best := bestWay(totals, gains, func(i int) bool { return by[i] >= 0 && int(by[i]) < len(prefill) })
	if best < 0 {
		return
	}
	helper := int(by[best])
	x.Apart = &Way{Endpoint: eps[best].ID, Prefill: prefill[helper].ID, Total: totals[best] + gains[best], Terms: slices.Clone(x.Prefill[helper].Terms)}
	if itemizer != nil {
		x.Apart.Terms = append(x.Apart.Terms, terms(func() []CostItem { return itemizer.AnswerItems(req, eps[best], prefill[helper]) })...)
	}
}

// alone explains the best endpoint to serve the request by itself.
func (x *Explanation) alone(p *pipeline, eps []*types.Endpoint, totals, gains []float64) {
	best := bestWay(totals, gains, func(i int) bool { return !eps[i].Roles.Has(types.RoleNotAlone) })
	if best < 0 {
		return
	}
	next := 0
	terms := slices.Clone(x.of(eps[best], &next).Terms)
	if gains[best] != 0 {
		terms = append(terms, Term{Scorer: p.splitterName, Cost: true, Contribution: gains[best], Detail: "another could compute the prompt"})
	}
	x.Alone = &Way{Endpoint: eps[best].ID, Total: totals[best] + gains[best], Terms: terms}
}

// bestWay returns the best of those that are ways of a kind; -1: there is none.
func bestWay(totals, gains []float64, is func(i int) bool) (best int) {
	best = -1
	for i := range totals {
		if is(i) && (best < 0 || totals[i]+gains[i] > totals[best]+gains[best]) {
			best = i
		}
	}
	return best
}

// terms returns the items of a Splitter as terms, none if it panics.
func terms(items func() []CostItem) (all []Term) {
	defer func() { _ = recover() }()
	for _, it := range items() {
		all = append(all, Term{Scorer: it.Name, Cost: true, Contribution: -it.Seconds, Detail: it.Detail})
	}
	return all
}

// helped records who computes the prompt for the endpoint that was chosen; nil: nobody else.
func (x *Explanation) helped(prefill *types.Endpoint) {
	if x == nil || prefill == nil {
		return
	}
	for i := range x.Prefill {
		if x.Prefill[i].Endpoint == prefill {
			x.Prefill[i].Rank = 1
		}
	}
}

// describe returns a plugin's description of ep, empty if it panics.
func describe(plugin any, req *types.Request, ep *types.Endpoint) (what string) {
	defer func() { _ = recover() }()
	if d, ok := plugin.(Describer); ok {
		return d.Describe(req, ep)
	}
	return ""
}

// itemize returns the items of a Coster, and whether it has any.
func itemize(c Coster, req *types.Request, ep *types.Endpoint) (items []CostItem, ok bool) {
	defer func() { _ = recover() }()
	i, can := c.(Itemizer)
	if !can {
		return nil, false
	}
	return i.Items(req, ep), true
}
