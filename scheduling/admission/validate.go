package admission

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Validate reports all that is wrong with o, each with the field it is in.
func (o Options) Validate() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults returns a copy with the defaults filled in and the bands from the
// highest to the lowest, or what is wrong.
func (o Options) withDefaults() (Options, error) {
	o, wrong := o.checked()
	var errs []error
	for _, p := range wrong {
		errs = append(errs, errors.New(p.said()))
	}
	return o, errors.Join(errs...)
}

// checked is withDefaults for who says what is wrong in another way.
func (o Options) checked() (Options, []problem) {
	var v validator
	if o.Detector == nil {
		o.Detector = Default()
	}
	if o.Clock == nil {
		o.Clock = realClock{}
	}
	v.count("MaxRequests", &o.MaxRequests, DefaultMaxRequests)
	if o.MaxBytes < 0 {
		v.is("MaxBytes", o.MaxBytes, "at least 0")
	}
	def(&o.MaxBytes, DefaultMaxBytes)
	v.count("MaxBands", &o.MaxBands, DefaultMaxBands)
	v.count("MaxLanes", &o.MaxLanes, DefaultMaxLanes)
	v.count("MaxFlows", &o.MaxFlows, DefaultMaxFlows)
	v.count("OutputTokens", &o.OutputTokens, DefaultOutputTokens)
	v.duration("FlowIdle", &o.FlowIdle, DefaultFlowIdle)
	v.duration("MaxRetryAfter", &o.MaxRetryAfter, DefaultMaxRetry)
	v.duration("MetricsTTL", &o.MetricsTTL, defaultMetricsTTL)
	v.duration("TicketTTL", &o.TicketTTL, DefaultTicketTTL)
	v.duration("WaitForEndpoints", &o.WaitForEndpoints, 0)
	v.weight("InputWeight", &o.InputWeight, DefaultInputWeight)
	v.weight("OutputWeight", &o.OutputWeight, DefaultOutputWeight)
	v.weight("Quantum", &o.Quantum, DefaultQuantum)
	if math.IsNaN(o.Credit) || math.IsInf(o.Credit, 0) {
		v.is("Credit", o.Credit, "a number")
	}
	def(&o.Credit, DefaultCredit)
	o.Credit = max(o.Credit, 0)
	if int(o.Fairness) >= len(fairnessNames) {
		v.is("Fairness", uint8(o.Fairness), "one of %v", fairnessNames)
	}
	if int(o.Order) >= len(orderNames) {
		v.is("Order", uint8(o.Order), "one of %v", orderNames)
	}
	o.Bands = v.bands(o.Bands)
	o.Tenants = v.tenants(o.Tenants)
	o.Budgets = v.budgets(o.Budgets)
	return o, v.wrong
}

// problem is something that is wrong with Options.
type problem struct {
	where string // such as `band "x"`; empty: the Options themselves
	path  string // the same in a declaration: `.bands[1] ("x")`
	field string
	is    bool // what is the field's value, and what is allowed
	what  string
}

// said is the problem in words of Go.
func (p problem) said() string {
	s := "admission: "
	if p.where != "" {
		s += p.where + ": "
	}
	if p.is {
		return s + p.field + " is " + p.what
	}
	return s + p.what
}

// declared is the problem in words of a declaration.
func (p problem) declared() string {
	s := "admission" + p.path
	if p.field != "" {
		s += "." + strings.ToLower(p.field[:1]) + p.field[1:]
	}
	return s + ": " + p.what
}

// validator collects what is wrong. where and path say what is being checked.
type validator struct {
	where, path string
	wrong       []problem
}

// failf notes that something is wrong.
func (v *validator) failf(format string, args ...any) {
	v.wrong = append(v.wrong, problem{where: v.where, path: v.path, what: fmt.Sprintf(format, args...)})
}

// is notes that a field has another value than is allowed.
func (v *validator) is(field string, value any, want string, args ...any) {
	v.isBut(field, value, "want "+want, args...)
}

func (v *validator) isBut(field string, value any, but string, args ...any) {
	v.wrong = append(v.wrong, problem{v.where, v.path, field, true, fmt.Sprint(value) + ", " + fmt.Sprintf(but, args...)})
}

func (v *validator) count(name string, field *int, value int) {
	if *field < 0 {
		v.is(name, *field, "above 0, or 0 for the default of %d", value)
	}
	def(field, value)
}

func (v *validator) duration(name string, field *time.Duration, value time.Duration) {
	if *field < 0 {
		v.is(name, *field, "at least 0")
	}
	def(field, value)
}

func (v *validator) weight(name string, field *float64, value float64) {
	if !(*field >= 0 && *field <= 1e9) {
		v.is(name, *field, "above 0, or 0 for the default of %v", value)
	}
	def(field, value)
}

// bands returns bands from the highest to the lowest.
func (v *validator) bands(given []Band) []Band {
	if len(given) == 0 {
		given = DefaultBands()
	}
	order := make([]int, len(given))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(given[b].Priority, given[a].Priority) })
	bands := make([]Band, len(given))
	names, floors := map[string]bool{}, 0.0
	for i, at := range order {
		bands[i] = given[at]
		b := &bands[i]
		v.where, v.path = fmt.Sprintf("band %q", b.Name), "."+bandPath(at, b.Name)
		if b.Name == "" {
			v.where = ""
			v.wrong = append(v.wrong, problem{path: v.path, field: "Name", what: fmt.Sprintf("band of priority %d has no Name", b.Priority)})
		} else if names[b.Name] {
			v.failf("another band has the same Name")
		}
		names[b.Name] = true
		var above *Band
		if i > 0 {
			above = &bands[i-1]
		}
		v.band(b, above)
		floors += b.Floor
	}
	v.where, v.path = "", ""
	// All priorities below the others: of what shares a queue none is raised.
	bands[len(bands)-1].Priority = math.MinInt
	if floors > 0.9 {
		v.failf("the Floors of all bands add up to %v, want at most 0.9", floors)
	}
	return bands
}

// bandPath is where a band is in a declaration.
func bandPath(i int, name string) string { return fmt.Sprintf("bands[%d] (%q)", i, name) }

// band checks one band, beside the next higher one, if there is one.
func (v *validator) band(b, above *Band) {
	if above != nil && b.Priority == above.Priority {
		v.isBut("Priority", b.Priority, "as that of band %q", above.Name)
	}
	def(&b.Ceiling, 1)
	if !(b.Ceiling > 0 && b.Ceiling <= 1000) {
		v.is("Ceiling", b.Ceiling, "above 0 and at most 1000")
	} else if above != nil && b.Ceiling > above.Ceiling {
		v.isBut("Ceiling", b.Ceiling, "above the %v of band %q, which goes first", above.Ceiling, above.Name)
	}
	def(&b.ModestCeiling, b.Ceiling)
	if !(b.ModestCeiling >= b.Ceiling) {
		v.is("ModestCeiling", b.ModestCeiling, "at least its Ceiling of %v", b.Ceiling)
	} else if above != nil && b.ModestCeiling > above.ModestCeiling {
		v.isBut("ModestCeiling", b.ModestCeiling, "above the %v of band %q, which goes first", above.ModestCeiling, above.Name)
	}
	if b.MaxRequests < -1 {
		v.is("MaxRequests", b.MaxRequests, "at least 0, or -1 for no queue")
	}
	if b.MaxBytes < 0 {
		v.is("MaxBytes", b.MaxBytes, "at least 0")
	}
	v.duration("MaxWait", &b.MaxWait, DefaultMaxWait)
	if !(b.Floor >= 0 && b.Floor <= 0.5) {
		v.is("Floor", b.Floor, "0 to 0.5")
	} else if b.Floor > 0 && !b.waits() {
		v.isBut("Floor", b.Floor, "but nothing of the band waits (MaxRequests is -1)")
	}
}

func (v *validator) tenants(tenants map[string]Tenant) map[string]Tenant {
	tenants = maps.Clone(tenants)
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		t := tenants[name]
		v.where, v.path = fmt.Sprintf("tenant %q", name), fmt.Sprintf(".tenants[%q]", name)
		def(&t.Weight, 1)
		if !(t.Weight >= 0.001 && t.Weight <= 1000) {
			v.is("Weight", t.Weight, "0.001 to 1000")
		}
		tenants[name] = t
	}
	v.where, v.path = "", ""
	return tenants
}

func (v *validator) budgets(list []Budget) []Budget {
	list = slices.Clone(list)
	if len(list) > maxBudgets {
		v.failf("Budgets has %d entries, want at most %d", len(list), maxBudgets)
	}
	for i := range list {
		b := &list[i]
		v.where, v.path = fmt.Sprintf("Budgets[%d] (%v)", i, b), fmt.Sprintf(".budgets[%d] (%v)", i, b)
		def(&b.Burst, 1)
		if !(b.RequestsPerMinute >= 0 && b.RequestsPerMinute <= 1e12) {
			v.is("RequestsPerMinute", b.RequestsPerMinute, "at least 0")
		}
		if !(b.TokensPerMinute >= 0 && b.TokensPerMinute <= 1e15) {
			v.is("TokensPerMinute", b.TokensPerMinute, "at least 0")
		}
		if b.RequestsPerMinute == 0 && b.TokensPerMinute == 0 {
			v.failf("bounds neither RequestsPerMinute nor TokensPerMinute")
		}
		if !(b.Burst >= 0.01 && b.Burst <= 1000) {
			v.is("Burst", b.Burst, "0.01 to 1000 minutes")
		}
		if slices.ContainsFunc(list[:i], func(o Budget) bool { return o.Tenant == b.Tenant && o.Model == b.Model }) {
			v.failf("there is another for the same")
		}
	}
	v.where, v.path = "", ""
	return list
}
