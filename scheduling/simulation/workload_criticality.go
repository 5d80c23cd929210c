package simulation

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
	"github.com/inferpick/inferpick/types"
)

// Criticality gives the jobs of another workload priorities and tenants. Jobs that
// follow from a job are of its class. Apart from that the jobs are those that the
// workload would have made alone.
type Criticality struct {
	// Workload makes the jobs. Required.
	Workload Spec
	// Classes are what a job can be, at most 1000. Default: a fifth critical, half
	// standard, the rest sheddable.
	Classes []Class
}

// Class is a part of the jobs of a Criticality.
type Class struct {
	// Name begins the names of its tenants. Default: class-0, class-1, …
	Name string `json:"name,omitempty"`
	// Share is how often jobs are of this class, in relation to the other classes.
	// Above 0, at most 1,000,000.
	Share float64 `json:"share"`
	// Priority of its jobs, as in types.Request.
	Priority int `json:"priority,omitempty"`
	// Tenants is how many it has, called Name-0, Name-1, …, which send by Zipf's law
	// with exponent Skew, 0 to 5. At most 100,000. Default 0: jobs keep the tenant
	// they have.
	Tenants int     `json:"tenants,omitempty"`
	Skew    float64 `json:"skew,omitempty"`
	// Patience is after how many seconds without a first token a client gives up.
	// Default 0: jobs keep the patience they have.
	Patience float64 `json:"patience_s,omitempty"`
	// TTFT and TPOT are the targets of its requests, in seconds. Default 0: jobs keep
	// those they have.
	TTFT float64 `json:"ttft_slo_s,omitempty"`
	TPOT float64 `json:"tpot_slo_s,omitempty"`
}

func (c Criticality) classes() []Class {
	if len(c.Classes) > 0 {
		return c.Classes
	}
	return []Class{
		{Name: "critical", Share: 0.2, Priority: types.PriorityCritical},
		{Name: "standard", Share: 0.5, Priority: types.PriorityStandard},
		{Name: "sheddable", Share: 0.3, Priority: types.PrioritySheddable},
	}
}

// Validate reports the first field that is out of its limits, and what is wrong
// with the workload.
func (c Criticality) Validate() error {
	check := checker{kind: "criticality"}
	if len(c.Classes) > 1000 {
		check.failf("classes has %d entries, want at most 1000", len(c.Classes))
	}
	for i, class := range c.classes() {
		field := func(name string) string { return fmt.Sprintf("classes[%d]: %s", i, name) }
		if !(class.Share > 0 && class.Share <= 1e6) {
			check.failf("classes[%d]: share is %v, want above 0 and at most 1e6", i, class.Share)
		}
		check.intRange(field("tenants"), class.Tenants, 0, 100_000)
		check.floatRange(field("skew"), class.Skew, 0, 5)
		check.floatRange(field("patience_s"), class.Patience, 0, 1e6)
		check.floatRange(field("ttft_slo_s"), class.TTFT, 0, 1e6)
		check.floatRange(field("tpot_slo_s"), class.TPOT, 0, 1e6)
	}
	if check.err == nil {
		check.nested("workload", c.Workload)
	}
	return check.err
}

// nested reports what is wrong with a Spec inside another.
func (c *checker) nested(field string, s Spec) {
	if s == nil {
		c.failf("%s is missing", field)
	} else if err := s.Validate(); err != nil {
		c.failf("%s: %w", field, inner(err))
	}
}

// Start makes the stream of one run.
func (c Criticality) Start(seed uint64) Source {
	if err := c.Validate(); err != nil {
		return broken{err}
	}
	s := &classified{
		Source: c.Workload.Start(seed),
		class:  types.NewRand(derive(seed, streamClass)),
		tenant: types.NewRand(derive(seed, streamTenant)),
	}
	sum := 0.0
	for _, class := range c.classes() {
		sum += class.Share
	}
	var shares []float64
	for i, class := range c.classes() {
		shares = append(shares, class.Share/sum)
		name := withDefault(class.Name, fmt.Sprintf("class-%d", i))
		s.classes = append(s.classes, runningClass{
			Class:   class,
			tenants: labels(name, class.Tenants),
			popular: zipf(class.Tenants, class.Skew),
		})
	}
	s.shares = sharesOf(shares)
	return s
}

// MeanRate returns that of Workload.
func (c Criticality) MeanRate() float64 { return Rate(c.Workload) }

// AtRate returns the same with Workload at that rate.
func (c Criticality) AtRate(rate float64) (Spec, error) {
	w, err := WithRate(c.Workload, rate)
	if err != nil {
		return nil, err
	}
	c.Workload = w
	return c, nil
}

// criticalityJSON is how a Criticality is written.
type criticalityJSON struct {
	Workload json.RawMessage `json:"workload"`
	Classes  []Class         `json:"classes,omitempty"`
}

// MarshalJSON writes the fields, Workload as EncodeSpec does.
func (c Criticality) MarshalJSON() ([]byte, error) {
	w, err := EncodeSpec(c.Workload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(criticalityJSON{w, c.Classes})
}

// UnmarshalJSON reads what MarshalJSON writes. Fields it does not know are errors.
func (c *Criticality) UnmarshalJSON(data []byte) error { return unmarshalSpec(c, data) }

func (c *Criticality) decode(doc *strictjson.Document, depth int) error {
	var raw criticalityJSON
	if err := doc.Decode(&raw); err != nil {
		return err
	}
	if raw.Workload == nil {
		return &check.Error{Field: "workload", Problem: "is missing"}
	}
	w, err := decodeSpec(raw.Workload, depth-1)
	if err != nil {
		return check.Under("workload", err)
	}
	c.Workload, c.Classes = w, raw.Classes
	return nil
}

// classified is a run of Criticality.
type classified struct {
	Source
	shares        popularity
	classes       []runningClass
	class, tenant types.Rand
}

type runningClass struct {
	Class
	tenants []string
	popular popularity
}

func (s *classified) Next() (Job, bool) {
	j, ok := s.Source.Next()
	if !ok {
		return Job{}, false
	}
	// Two numbers for each job, used or not, so that a class with other tenants
	// leaves those of the others as they are.
	c := &s.classes[min(s.shares.pick(&s.class), len(s.classes)-1)]
	u := unit(&s.tenant)
	j.Priority = c.Priority
	if len(c.tenants) > 0 {
		j.Tenant = c.tenants[c.popular.at(u)]
	}
	if c.Patience > 0 {
		j.Patience = toDuration(c.Patience)
	}
	if c.TTFT > 0 {
		j.SLO.TTFT = toDuration(c.TTFT)
	}
	if c.TPOT > 0 {
		j.SLO.TPOT = toDuration(c.TPOT)
	}
	return j, true
}

func (s *classified) Done(j *Job, at time.Duration, served bool) (Job, bool) {
	next, ok := s.Source.Done(j, at, served)
	if ok {
		next.Priority, next.Tenant, next.Patience, next.SLO = j.Priority, j.Tenant, j.Patience, j.SLO
	}
	return next, ok
}

// Err tells why there are no jobs, if that is an error.
func (s *classified) Err() error { return sourceErr(s.Source) }

var (
	_ RatedSpec = Criticality{}
	_ Source    = (*classified)(nil)
)
