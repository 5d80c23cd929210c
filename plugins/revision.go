package plugins

import (
	"cmp"
	"context"
	"math"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
)

// RevisionLabel is the label by which a DisaggregatedSet of Kubernetes names the revision of a server.
const RevisionLabel = "disaggregatedset.x-k8s.io/revision"

// RevisionOptions configure a Revision. The zero value works.
type RevisionOptions struct {
	// Label names the revision of an endpoint. Default RevisionLabel.
	Label string `json:"label,omitempty"`
}

// Revision is a Filter that has all parts of a request served by endpoints of one revision. While servers
// are replaced by those of another revision, who computes a prompt and who answers may not understand each
// other.
//
// Each request draws its revision among the endpoints that may answer, so that each revision gets requests
// as it has endpoints. Those without a label are of a revision of their own, which is drawn only if no
// endpoint has a label.
//
// Create it with NewRevision. Safe for concurrent use.
type Revision struct {
	label string
	key   *types.Key[*types.Endpoint] // one of the revision that was drawn
}

// NewRevision returns a Revision.
func NewRevision(o RevisionOptions) (*Revision, error) {
	return &Revision{cmp.Or(o.Label, RevisionLabel), types.NewKey[*types.Endpoint]("revision")}, nil
}

// Filter implements scheduling.Filter. It is called for those that may answer first.
func (f *Revision) Filter(_ context.Context, req *types.Request, eps []*types.Endpoint, keep []bool) error {
	if len(eps) == 0 {
		return nil
	}
	of, ok := f.key.Get(&req.Attrs)
	if !ok {
		of = f.draw(req, eps)
		f.key.Set(&req.Attrs, of)
	}
	revision := of.Labels[f.label]
	for i, ep := range eps {
		keep[i] = ep.Labels[f.label] == revision
	}
	return nil
}

// draw returns an endpoint at random, one with a label if there is one. It does not depend on the order of
// eps.
func (f *Revision) draw(req *types.Request, eps []*types.Endpoint) *types.Endpoint {
	best, several := eps[0], false
	for _, ep := range eps {
		one, other := best.Labels[f.label], ep.Labels[f.label]
		several = several || one != "" && other != "" && one != other
		if one == "" {
			best = ep
		}
	}
	if !several {
		return best
	}
	seed, least := req.Rand.Uint64(), uint64(math.MaxUint64)
	for _, ep := range eps {
		r := types.NewRand(seed ^ prefixindex.Seed(ep.ID))
		if v := r.Uint64(); v <= least && ep.Labels[f.label] != "" {
			best, least = ep, v
		}
	}
	return best
}

// Describe implements scheduling.Describer.
func (f *Revision) Describe(_ *types.Request, ep *types.Endpoint) string {
	if r := ep.Labels[f.label]; r != "" {
		return "revision " + r
	}
	return "without a revision"
}
