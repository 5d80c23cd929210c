package admission

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/inferpick/inferpick/internal/list"
)

// Budget bounds what requests may use in a minute: those of a tenant, of a model, or of
// a tenant with a model. A request must be within every Budget that fits it.
//
// Gateways that share (see package scheduling/sharing) have their budgets in common: what one
// lets in is taken off at the others as soon as they hear of it, and until then each takes no
// more than its part of what is left, by what it let in of late. Gateways that do not, or do
// not hear of each other, have each its own.
type Budget struct {
	// Tenant is the fairness id that it is for. Empty: all requests together. "*": each
	// tenant has one of its own.
	Tenant string `json:"tenant,omitempty"`
	// Model is the public name that it is for. Empty: all models together. "*": each
	// model has one of its own.
	Model string `json:"model,omitempty"`
	// RequestsPerMinute and TokensPerMinute are the bounds; 0: none. Tokens are those of
	// prompt and output; what is expected is taken off at first, and put right at the
	// end.
	RequestsPerMinute float64 `json:"requestsPerMinute,omitempty"`
	TokensPerMinute   float64 `json:"tokensPerMinute,omitempty"`
	// Burst is how many minutes' worth may be used at once after a pause. Default 1,
	// at least 0.01.
	Burst float64 `json:"burst,omitempty"`
}

// String returns what errors and logs call the budget.
func (b Budget) String() string {
	return fmt.Sprintf("tenant %q, model %q", b.Tenant, b.Model)
}

// mostRequests is how many may come at once: one at least, or none ever could.
func (b *Budget) mostRequests() float64 { return max(b.RequestsPerMinute*b.Burst, 1) }

// mostTokens is how many may come at once.
func (b *Budget) mostTokens() float64 { return b.TokensPerMinute * b.Burst }

const (
	anyName = "*"
	// maxMeters bounds what is kept of the Budgets that are for each tenant or model.
	maxMeters  = 20_000
	maxBudgets = 1000
)

// meterKey says whose meter it is.
type meterKey struct {
	budget        int
	tenant, model string
}

// meter is what is left of a Budget: two token buckets, filled when they are looked at.
type meter struct {
	key meterKey
	*Budget
	requests, tokens float64
	at               time.Duration
	links            list.Node[meter] // in budgets.used
	shared           *sharedMeter     // nil: it was not used since budgets are shared
}

// budgets are the meters of a Controller. The zero value has none.
type budgets struct {
	of     []Budget
	meters map[meterKey]*meter
	used   list.List[meter] // the longest unused first
	shared *shared
}

// configure takes new Budgets. Meters of those that stay go on.
func (b *budgets) configure(all []Budget) {
	old := *b
	*b = budgets{of: all, meters: map[meterKey]*meter{}, shared: b.shared}
	for n := old.used.Head; n != nil; {
		m, next := n.Of, n.Next
		for i := range all {
			if n := &all[i]; n.Tenant == m.Tenant && n.Model == m.Model {
				m.requests = kept(m.requests, m.RequestsPerMinute, n.mostRequests())
				m.tokens = kept(m.tokens, m.TokensPerMinute, n.mostTokens())
				m.Budget, m.key.budget = n, i
				b.meters[m.key] = m
				b.used.Push(m, &m.links)
				break
			}
		}
		n = next
	}
}

// kept returns what is left in a bucket under a new bound. Where there was none, nobody
// kept account of it.
func kept(left, perMinute, full float64) float64 {
	if perMinute == 0 {
		return full
	}
	return min(left, full)
}

// use is what a request is expected to use, and whose it is.
type use struct {
	tenant, model string // as the request says
	flow          string // the name that its tenant counts for
	tokens        float64
}

// excess is a Budget that is used up; the zero value is none.
type excess struct {
	why    Reason
	detail string
	wait   time.Duration // until there is enough
}

// spend takes what a request is expected to use off all its budgets, or off none and
// says which is used up.
func (b *budgets) spend(u use, now time.Duration) (spent []*meter, over excess) {
	for i := range b.of {
		m := b.meterOf(i, u, now)
		if m == nil {
			continue
		}
		spent = append(spent, m)
		if w := m.waitForRequest(); w > over.wait {
			over = excess{Requests, fmt.Sprintf("the budget of %v is %g requests per minute%s", m.Budget, m.RequestsPerMinute, b.shared.ofAll()), w}
		}
		if w := m.waitForTokens(u.tokens); w > over.wait {
			over = excess{Tokens, fmt.Sprintf("the budget of %v is %g tokens per minute%s", m.Budget, m.TokensPerMinute, b.shared.ofAll()), w}
		}
	}
	if over.wait > 0 {
		return nil, over
	}
	for _, m := range spent {
		m.take(1, u.tokens, now)
	}
	return spent, over
}

// waitForRequest returns when there will be enough for a request.
func (m *meter) waitForRequest() time.Duration {
	if w := wait(m.requests, 1, m.RequestsPerMinute); w > 0 || m.shared == nil {
		return w
	}
	requests, _ := m.buckets()
	return m.shared.wait(&m.shared.requests, m.requests, 1, requests)
}

// waitForTokens returns when there will be enough for so many tokens. What is larger than the
// whole budget passes when that is full: it would never else.
func (m *meter) waitForTokens(tokens float64) time.Duration {
	tokens = min(tokens, m.mostTokens())
	if w := wait(m.tokens, tokens, m.TokensPerMinute); w > 0 || m.shared == nil {
		return w
	}
	_, bucket := m.buckets()
	return m.shared.wait(&m.shared.tokens, m.tokens, tokens, bucket)
}

// wait returns when there will be enough in a bucket.
func wait(have, want, perMinute float64) time.Duration {
	if perMinute == 0 || have >= want {
		return 0
	}
	return time.Duration(min((want-have)/perMinute*60, math.MaxInt32) * float64(time.Second))
}

// take takes off what a request uses, or, if that is negative, gives it back.
func (m *meter) take(requests, tokens float64, now time.Duration) {
	if requests > 0 {
		m.spill()
	}
	m.requests -= requests
	m.tokens -= tokens
	if m.shared != nil {
		m.age(now)
		m.shared.take(requests, tokens)
	}
}

// fill fills the buckets up to now.
func (m *meter) fill(now time.Duration) {
	minutes := (now - m.at).Minutes()
	over := m.shared.over()
	m.requests = min(m.requests+minutes*m.RequestsPerMinute, m.mostRequests()+over*m.RequestsPerMinute)
	m.tokens = min(m.tokens+minutes*m.TokensPerMinute, m.mostTokens()+over*m.TokensPerMinute)
	m.at = now
}

// spill takes off what is in the buckets beyond what they hold.
func (m *meter) spill() {
	m.requests = min(m.requests, m.mostRequests())
	m.tokens = min(m.tokens, m.mostTokens())
}

// full reports whether nothing is used of it.
func (m *meter) full() bool {
	return (m.RequestsPerMinute == 0 || m.requests >= m.mostRequests()) && (m.TokensPerMinute == 0 || m.tokens >= m.mostTokens())
}

// meterOf returns the meter of budget i for a request, filled up to now; nil if the
// budget is for others.
func (b *budgets) meterOf(i int, u use, now time.Duration) *meter {
	budget := &b.of[i]
	key := meterKey{budget: i}
	switch budget.Tenant {
	case "":
	case anyName:
		key.tenant = u.flow // not what the client says: that many are bounded
	case u.tenant:
	default:
		return nil
	}
	switch budget.Model {
	case "":
	case anyName:
		key.model = u.model
	case u.model:
	default:
		return nil
	}
	m := b.meters[key]
	if m == nil {
		if len(b.meters) >= maxMeters {
			delete(b.meters, b.used.Head.Of.key)
			b.used.Remove(b.used.Head)
		}
		key.tenant, key.model = strings.Clone(key.tenant), strings.Clone(key.model)
		m = &meter{key: key, Budget: budget, requests: budget.mostRequests(), tokens: budget.mostTokens(), at: now}
		b.meters[key] = m
	} else {
		b.used.Remove(&m.links)
		m.fill(now)
	}
	b.used.Push(m, &m.links)
	b.shared.use(m, now)
	return m
}

// refund gives back what a request that was not let in had spent.
func refund(spent []*meter, tokens float64, now time.Duration) {
	for _, m := range spent {
		m.take(-1, -tokens, now)
	}
}

// correct makes what was spent what was used.
func correct(spent []*meter, expected, used float64, now time.Duration) {
	for _, m := range spent {
		m.take(0, used-expected, now)
	}
}
