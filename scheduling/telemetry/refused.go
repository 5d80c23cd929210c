package telemetry

import "github.com/inferpick/inferpick/types"

// Refused counts a request that was answered without asking an endpoint: one that
// could not be understood, one for an unknown model, one that was shed. It is
// meant for the director's OnRefused, which tells of every refusal, so that those
// of Schedule need no hook:
//
//	OnRefused: func(req *types.Request, pool types.NamespacedName, err *director.Error) {
//		m.Refused(req, pool, err.Code, err.Status)
//	},
//
// The code is the label error_code if it is one that a director gives, or else
// "other_4xx", "other_5xx" or "other" by the status. A request whose pool is not
// known, for which pool is zero, gets no series of its own: a client could fill
// all of them with names that it made up. It counts for its model if that has
// series already, and else for the model "other".
func (m *Metrics) Refused(req *types.Request, pool types.NamespacedName, errorCode string, status int) {
	var p *pair
	if !pool.IsZero() {
		p = m.pair(req)
	} else if known, ok := m.pairs.get(pairName{label(req.Model), label(req.Target())}); ok {
		p = known
	} else {
		p = m.other
	}
	c := refusal(errorCode, status)
	p.request(req.Priority)
	p.failed(c)
	if !pool.IsZero() {
		m.pool(pool).refused[c].Add(1)
	}
}
