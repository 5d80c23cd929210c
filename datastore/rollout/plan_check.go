package rollout

import (
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/inferpick/inferpick/internal/check"
)

const (
	maxSteps  = 50
	maxName   = 253  // bytes of a target's name
	maxSource = 4096 // bytes
	year      = 365 * 24 * time.Hour
)

// DefaultSteps returns those of a plan that has none: 1, 5, 25, 50 and 100 %, 5 minutes each.
func DefaultSteps() []Step {
	var steps []Step
	for _, w := range []float64{1, 5, 25, 50, 100} {
		steps = append(steps, Step{SetWeight: w, Pause: 5 * time.Minute})
	}
	return steps
}

// DefaultMetrics returns those of a plan that has none: all that there are, where times must have failed in two looks
// in a row.
func DefaultMetrics() []Metric {
	return []Metric{{Name: Errors}, {Name: Empty}, {Name: TTFT, FailureLimit: 1}, {Name: TPOT, FailureLimit: 1},
		{Name: NTPOT, FailureLimit: 1}, {Name: Length}, {Name: Finish}}
}

// WithDefaults returns p with its defaults, or all that is wrong with it, one a line.
func (p Plan) WithDefaults() (Plan, error) {
	c := check.Checks{Package: "rollout"}
	p.Object.check(&c)
	name(&c, "stable", p.Stable)
	name(&c, "canary", p.Canary)
	c.Want(p.Canary == "" || p.Canary != p.Stable, "canary", p.Canary, "another target than the stable one")
	p.steps(&c)
	p.metrics(&c)
	check.Default(&c, "minRequests", &p.MinRequests, 20, 10, 1_000_000)
	check.Default(&c, "deadline", &p.Deadline, time.Hour, time.Second, year)
	if p.OnUnsure == "" {
		p.OnUnsure = Hold
	}
	c.OneOf("onUnsure", string(p.OnUnsure), string(Hold), string(Abort))
	p.Load.check(&c)
	return p, c.Err()
}

func (o *Object) check(c *check.Checks) {
	c.OneOf("object.kind", o.Kind, "InferenceModel", "InferenceModelRewrite")
	check.Required(c, "object.name", o.Name.Name)
	if o.Kind == "InferenceModel" {
		c.Want(o.Rule == 0, "object.rule", o.Rule, "0: an InferenceModel has no rules")
	} else {
		check.Range(c, "object.rule", o.Rule, 0, math.MaxInt32)
	}
}

// name checks that of a target: one that is kept in a State takes as many bytes there.
func name(c *check.Checks, field, s string) {
	check.Required(c, field, s)
	c.Want(len(s) <= maxName && plain(s), field, s,
		"at most %d bytes without quotes, backslashes and control characters", maxName)
}

func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == '"' || r == '\\' || unicode.IsControl(r) || r == unicode.ReplacementChar
	})
}

func (p *Plan) steps(c *check.Checks) {
	if len(p.Steps) == 0 {
		p.Steps = DefaultSteps()
	}
	c.Want(len(p.Steps) <= maxSteps, "steps", len(p.Steps), "at most %d steps", maxSteps)
	before := 0.
	for i, s := range p.Steps {
		at := check.Join("steps", index(i))
		c.Want(s.SetWeight >= .01 && s.SetWeight <= 100 && isHundredths(s.SetWeight), at+".setWeight", s.SetWeight,
			"percent from 0.01 to 100 with at most two decimals")
		c.Want(i == 0 || s.SetWeight > before, at+".setWeight", s.SetWeight, "more than the %g of the step before", before)
		c.Want(s.Pause >= 0 && s.Pause <= year, at+".pause", s.Pause, "%s", check.Interval(time.Duration(0), year))
		before = s.SetWeight
	}
	last := len(p.Steps) - 1
	c.Want(before == 100, check.Join("steps", index(last))+".setWeight", before,
		"100 in the last step: else it would never be done")
}

func isHundredths(percent float64) bool {
	return math.Abs(percent*100-math.Round(percent*100)) < 1e-6
}

func (p *Plan) metrics(c *check.Checks) {
	if len(p.Metrics) == 0 {
		p.Metrics = DefaultMetrics()
	}
	p.Metrics = slices.Clone(p.Metrics)
	seen := map[string]bool{}
	for i := range p.Metrics {
		m, at := &p.Metrics[i], check.Join("metrics", index(i))
		if !slices.Contains(MetricNames, m.Name) {
			c.OneOf(at+".name", m.Name, MetricNames...)
			continue
		}
		c.Want(!seen[m.Name], at+".name", m.Name, "another metric than one before")
		seen[m.Name] = true
		m.check(c, at)
	}
}

func (m *Metric) check(c *check.Checks, at string) {
	rise, ratio, from := 0., 0., 0.
	switch m.Name {
	case Errors, Empty:
		rise = 1
	case Finish:
		rise, m.WarnOnly = 10, true
	case Length:
		ratio, m.WarnOnly = 1.5, true
	case TTFT:
		ratio, from = 1.2, 5
	case TPOT:
		ratio = 1.2
	case NTPOT:
		ratio, from = 1.5, 5
	}
	if rise > 0 {
		check.Default(c, at+".maxRise", &m.MaxRise, rise, .01, 100)
	} else {
		c.Want(m.MaxRise == 0, at+".maxRise", m.MaxRise, "nothing: %s has a maxRatio", m.Name)
	}
	if ratio > 0 {
		check.Default(c, at+".maxRatio", &m.MaxRatio, ratio, 1.01, 100)
	} else {
		c.Want(m.MaxRatio == 0, at+".maxRatio", m.MaxRatio, "nothing: %s has a maxRise", m.Name)
	}
	if from > 0 {
		check.Default(c, at+".from", &m.From, from, .01, 100)
	} else {
		check.Range(c, at+".from", m.From, 0, 100)
	}
	check.Range(c, at+".failureLimit", m.FailureLimit, 0, 100)
}

func (l *LoadPlan) check(c *check.Checks) {
	c.Want(len(l.Source) <= maxSource && plain(l.Source), "load.source", l.Source,
		"at most %d bytes without quotes, backslashes and control characters", maxSource)
	check.Default(c, "load.timeout", &l.Timeout, 2*time.Minute, time.Millisecond, 24*time.Hour)
	check.Default(c, "load.tries", &l.Tries, 3, 1, 100)
	check.Default(c, "load.parallel", &l.Parallel, 4, 1, 1000)
	check.Default(c, "load.share", &l.Share, 1, .001, 1)
	check.Default(c, "load.grace", &l.Grace, 30*time.Second, time.Millisecond, 24*time.Hour)
}
