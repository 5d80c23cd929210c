package admission

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
)

// Validate reports all that is wrong with o, each with the field it is in, by its name in a
// Config.
func (o Options) Validate() error {
	_, err := o.withDefaults()
	return err
}

// withDefaults returns a copy with the defaults filled in and the bands from the
// highest to the lowest, or what is wrong.
func (o Options) withDefaults() (Options, error) {
	wrong := check.Checks{Package: "admission"}
	o = o.checked(&wrong)
	return o, wrong.Err()
}

// checked is withDefaults for who collects what is wrong.
func (o Options) checked(wrong *check.Checks) Options {
	if o.Detector == nil {
		o.Detector = Default()
	}
	if o.Clock == nil {
		o.Clock = realClock{}
	}
	check.Positive(wrong, "maxRequests", &o.MaxRequests, DefaultMaxRequests)
	check.Positive(wrong, "maxBytes", &o.MaxBytes, DefaultMaxBytes)
	check.Positive(wrong, "maxBands", &o.MaxBands, DefaultMaxBands)
	check.Positive(wrong, "maxLanes", &o.MaxLanes, DefaultMaxLanes)
	check.Positive(wrong, "maxFlows", &o.MaxFlows, DefaultMaxFlows)
	if o.MaxPrograms >= 0 {
		check.Positive(wrong, "maxPrograms", &o.MaxPrograms, DefaultMaxPrograms)
	}
	check.Positive(wrong, "outputTokens", &o.OutputTokens, DefaultOutputTokens)
	check.Positive(wrong, "flowIdle", &o.FlowIdle, DefaultFlowIdle)
	check.Positive(wrong, "maxRetryAfter", &o.MaxRetryAfter, DefaultMaxRetry)
	check.Positive(wrong, "metricsTTL", &o.MetricsTTL, defaultMetricsTTL)
	check.Positive(wrong, "ticketTTL", &o.TicketTTL, DefaultTicketTTL)
	check.Positive(wrong, "peerDelay", &o.PeerDelay, DefaultPeerDelay)
	check.Positive(wrong, "maxAccounts", &o.MaxAccounts, DefaultMaxAccounts)
	check.Range(wrong, "waitForEndpoints", o.WaitForEndpoints, 0, 0)
	check.Default(wrong, "inputWeight", &o.InputWeight, DefaultInputWeight, 0, 1e9)
	check.Default(wrong, "outputWeight", &o.OutputWeight, DefaultOutputWeight, 0, 1e9)
	check.Default(wrong, "denoiseWeight", &o.DenoiseWeight, DefaultDenoiseWeight, 0, 1e9)
	check.Default(wrong, "quantum", &o.Quantum, DefaultQuantum, 0, 1e9)
	wrong.Want(!math.IsNaN(o.Credit) && !math.IsInf(o.Credit, 0), "credit", o.Credit, "a number")
	def(&o.Credit, DefaultCredit)
	o.Credit = max(o.Credit, 0)
	wrong.Want(int(o.Fairness) < len(fairnessNames), "fairness", uint8(o.Fairness), "one of %s", strings.Join(fairnessNames, ", "))
	wrong.Want(int(o.Order) < len(orderNames), "order", uint8(o.Order), "one of %s", strings.Join(orderNames, ", "))
	o.Bands = checkedBands(wrong, o.Bands)
	o.Tenants = checkedTenants(wrong, o.Tenants)
	o.Budgets = checkedBudgets(wrong, o.Budgets)
	return o
}

// checkedBands returns bands from the highest to the lowest.
func checkedBands(wrong *check.Checks, given []Band) []Band {
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
		b, path := &bands[i], fmt.Sprintf("bands[%d]", at)
		check.Required(wrong, path+".name", b.Name)
		if b.Name != "" && names[b.Name] {
			wrong.Failf(path+".name", "is %q, as that of another band", b.Name)
		}
		names[b.Name] = true
		b.check(wrong, path)
		if i > 0 {
			b.checkBelow(wrong, path, &bands[i-1])
		}
		floors += b.Floor
	}
	// All priorities below the others: of what shares a queue none is raised.
	bands[len(bands)-1].Priority = math.MinInt
	if floors > 0.9 {
		wrong.Failf("bands", "have floors that add up to %v, want at most 0.9", floors)
	}
	return bands
}

// check checks a band by itself, and fills in its defaults.
func (b *Band) check(wrong *check.Checks, path string) {
	def(&b.Ceiling, 1)
	wrong.Want(b.Ceiling > 0 && b.Ceiling <= 1000, path+".ceiling", b.Ceiling, "above 0 and at most 1000")
	def(&b.ModestCeiling, b.Ceiling)
	wrong.Want(b.ModestCeiling >= b.Ceiling, path+".modestCeiling", b.ModestCeiling, "at least its ceiling of %v", b.Ceiling)
	check.Range(wrong, path+".maxBytes", b.MaxBytes, 0, 0)
	check.Positive(wrong, path+".maxWait", &b.MaxWait, DefaultMaxWait)
	wrong.Want(b.MaxRequests >= -1, path+".maxRequests", b.MaxRequests, "at least 0, or -1 for no queue")
	check.Range(wrong, path+".floor", b.Floor, 0, 0.5)
	if b.Floor > 0 && !b.waits() {
		wrong.Failf(path+".floor", "is %v, but nothing of the band waits: maxRequests is %d", b.Floor, b.MaxRequests)
	}
}

// checkBelow checks a band beside the next higher one.
func (b *Band) checkBelow(wrong *check.Checks, path string, above *Band) {
	if b.Priority == above.Priority {
		wrong.Failf(path+".priority", "is %d, as that of band %q", b.Priority, above.Name)
	}
	if b.Ceiling > above.Ceiling {
		wrong.Failf(path+".ceiling", "is %v, above the %v of band %q, which goes first", b.Ceiling, above.Ceiling, above.Name)
	}
	if b.ModestCeiling > above.ModestCeiling {
		wrong.Failf(path+".modestCeiling", "is %v, above the %v of band %q, which goes first", b.ModestCeiling, above.ModestCeiling, above.Name)
	}
}

func checkedTenants(wrong *check.Checks, tenants map[string]Tenant) map[string]Tenant {
	tenants = maps.Clone(tenants)
	for _, name := range slices.Sorted(maps.Keys(tenants)) {
		t := tenants[name]
		check.Default(wrong, fmt.Sprintf("tenants[%q].weight", name), &t.Weight, 1, 0.001, 1000)
		tenants[name] = t
	}
	return tenants
}

func checkedBudgets(wrong *check.Checks, list []Budget) []Budget {
	list = slices.Clone(list)
	if len(list) > maxBudgets {
		wrong.Failf("budgets", "has %d entries, want at most %d", len(list), maxBudgets)
	}
	for i := range list {
		b, path := &list[i], fmt.Sprintf("budgets[%d]", i)
		check.Range(wrong, path+".requestsPerMinute", b.RequestsPerMinute, 0, 1e12)
		check.Range(wrong, path+".tokensPerMinute", b.TokensPerMinute, 0, 1e15)
		check.Default(wrong, path+".burst", &b.Burst, 1, 0.01, 1000)
		if b.RequestsPerMinute == 0 && b.TokensPerMinute == 0 {
			wrong.Failf(path, "bounds neither requestsPerMinute nor tokensPerMinute")
		}
		if slices.ContainsFunc(list[:i], func(o Budget) bool { return o.Tenant == b.Tenant && o.Model == b.Model }) {
			wrong.Failf(path, "is of %v, and so is another", b)
		}
	}
	return list
}
