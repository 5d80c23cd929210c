package admission

import (
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/accounts"
)

// foresee is Controller.Explain for a ticket that was made of an arrival.
func (d *desk) foresee(a *Arrival, t *Ticket) (r Report) {
	d.queues.Rank(&t.item)
	d.queues.Assign(&t.item, t.req.FairnessID, t.req.ProgramID, d.now)
	defer d.queues.Drop(&t.item, d.now)
	d.queues.Estimate(&t.item, d.amount(t.req))
	d.queues.Try(&t.item, func() { r = d.wouldBe(a, t) })
	return r
}

func (d *desk) wouldBe(a *Arrival, t *Ticket) Report {
	r := d.report(t, t.lane)
	switch {
	case d.closed:
		r.Reason, r.Detail = Closed, shuttingDown
	case d.passes(t):
		r.Verdict = "admitted"
		return r
	default:
		if r.Reason, r.Detail = d.mayNotWait(t); r.Reason == "" {
			if _, _, r.Detail = d.queues.Victim(&t.item); r.Detail != "" {
				r.Reason = d.whyFull(t)
			}
		}
	}
	r.Verdict = "refused"
	if r.Reason == "" {
		t.item.Deadline = after(t.item.Arrived, d.mostWait(a, t))
		d.queuedReport(&r, t)
	}
	return r
}

// explain is Ticket.Explain.
func (d *desk) explain(t *Ticket) Report {
	if !t.item.Assigned() { // it came when the Controller was closed
		return Report{Verdict: "refused", Reason: Closed, Detail: t.refusal.Detail, Band: d.bandOf(t).Name, Priority: t.item.Priority}
	}
	if t.state == waiting {
		r := d.report(t, t.lane)
		d.queuedReport(&r, t)
		return r
	}
	r := d.report(t, d.whole)
	r.Verdict = "admitted"
	if t.refusal != nil && t.refusal.Reason != Revoked {
		r.Verdict, r.Reason, r.Detail = "refused", t.refusal.Reason, t.refusal.Detail
	}
	return r
}

// report fills in what does not depend on what becomes of the request.
func (d *desk) report(t *Ticket, l *lane) Report {
	by, k := d.seen(l), d.ceiling(t)
	return Report{
		Band: d.bandOf(t).Name, Priority: t.item.Priority, Tenant: t.item.Tenant(),
		Ceiling: d.table.Ceiling(k), Candidates: by.Members(), Room: by.RoomAt(k), Saturation: by.Saturation(),
		Program: t.item.Program(), ProgramCounter: t.item.ProgramCounter(),
		Counter: t.item.Counter(), Elsewhere: elsewhere(t),
	}
}

// elsewhere is what other gateways have let in of a ticket's tenant.
func elsewhere(t *Ticket) float64 {
	if a, ok := t.item.Flow().Of.(*accounts.Account); ok {
		return a.Elsewhere
	}
	return 0
}

// queuedReport fills in what is before a request that waits, or would.
func (d *desk) queuedReport(r *Report, t *Ticket) {
	a := d.queues.Ahead(&t.item)
	r.Verdict, r.Detail = "queued", d.describe(t)
	r.Higher, r.OtherTenants, r.OwnTenant, r.Least = a.Higher, a.OtherTenants, a.OwnTenant, a.Least
	r.OwnProgram, r.LeastProgram = a.OwnProgram, a.LeastProgram
	r.Waited = d.now - t.item.Arrived
	if t.item.Deadline != 0 {
		r.Left = max(t.item.Deadline-d.now, 0)
	}
	if rate := d.drained.Rate(d.now); rate > 0 {
		r.Expected = time.Duration(min(float64(r.Before()+1)/rate, 1e6) * float64(time.Second))
	}
}
