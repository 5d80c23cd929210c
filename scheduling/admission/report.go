package admission

import (
	"fmt"
	"strings"
	"time"
)

// Report is why a request waits, or what would become of one, and what is before it.
type Report struct {
	// Verdict is "admitted", "queued" or "refused": what has become of the request, or
	// would now.
	Verdict string
	// Reason and Detail are those of the Refusal, or why it waits.
	Reason Reason
	Detail string

	Band     string
	Priority int
	Tenant   string // the flow it counts for; empty: that of requests without a tenant
	// Ceiling is how full an endpoint may be to have room for it; of so many Candidates
	// Room have.
	Ceiling          float64
	Candidates, Room int
	// Saturation is how full the candidates are in the mean, 0..1; NaN: unknown.
	Saturation float64

	// Program is that of its tenant for which it counts; empty: none.
	Program string

	// Before is how many requests are before it: of higher priorities, of tenants that
	// were served less, and of its own tenant. OwnProgram is how many of these are of its program.
	Higher, OtherTenants, OwnTenant, OwnProgram int
	// Counter is the weighted tokens that its tenant was served, and Least that of the
	// tenant at its priority whose turn it is. ProgramCounter and LeastProgram are the same of the
	// programs of its tenant. Only their differences mean anything.
	Counter, Least, ProgramCounter, LeastProgram float64
	// Elsewhere is the weighted tokens of those of its tenant that other gateways were heard to
	// have let in.
	Elsewhere float64

	// Waited is how long it has waited, Left how long it may yet, and Expected how long
	// it has to at the rate of late; 0: not known.
	Waited, Left, Expected time.Duration
}

// Before is how many requests are before it.
func (r Report) Before() int { return r.Higher + r.OtherTenants + r.OwnTenant }

// String is the report in a line or two.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: priority %d (%s), tenant %q; %d of %d endpoints are less than %g full", r.Verdict, r.Priority, r.Band, r.Tenant, r.Room, r.Candidates, r.Ceiling)
	if r.Saturation == r.Saturation {
		fmt.Fprintf(&b, ", in the mean they are %.2f full", r.Saturation)
	}
	if r.Detail != "" {
		fmt.Fprintf(&b, "; %s", r.Detail)
	}
	if r.Verdict == "queued" {
		fmt.Fprintf(&b, "\nbefore it: %d of higher priority, %d of other tenants, %d of its own", r.Higher, r.OtherTenants, r.OwnTenant)
		fmt.Fprintf(&b, "; its tenant has had %.0f weighted tokens more than the one that is next", r.Counter-r.Least)
		if r.Program != "" {
			fmt.Fprintf(&b, "; %d of its own are of program %q, which has had %.0f more than the one of its tenant that is next",
				r.OwnProgram, r.Program, r.ProgramCounter-r.LeastProgram)
		}
		if r.Elsewhere > 0 {
			fmt.Fprintf(&b, ", %.0f of its own at other gateways", r.Elsewhere)
		}
		fmt.Fprintf(&b, "; waited %v, may wait %v more", r.Waited.Round(time.Millisecond), r.Left.Round(time.Millisecond))
		if r.Expected > 0 {
			fmt.Fprintf(&b, ", expected %v", r.Expected.Round(time.Millisecond))
		}
	}
	return b.String()
}
