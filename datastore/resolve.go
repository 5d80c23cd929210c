package datastore

import (
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// Query is what a request says of its model.
//
// Objective and Rewrite are control inputs: a client that may set them chooses
// its own priority and its own model. A gateway whose clients are not trusted
// strips both headers and sets them itself.
type Query struct {
	// Pool is the pool to ask, for example that of the route the request came
	// in by. Zero: the one in which a manifest names the model, if there are
	// several that of the oldest such manifest, if there is none the default
	// pool. An empty namespace is types.DefaultNamespace.
	Pool types.NamespacedName

	Model     string // the public name in the request
	NoModel   bool   // requests of its kind need not name one: without, it is of no unknown model
	SessionID string // for Options.StickySessions; empty: no session
	Objective string // header x-gateway-inference-objective
	Rewrite   string // header x-gateway-model-name-rewrite

	// Rand is what a target is drawn from. Nil: the process's random source,
	// which is safe but cannot be repeated.
	Rand *types.Rand
}

func (q *Query) modelless() bool { return q.NoModel && q.Model == "" }

// Source says what decided on the target model.
type Source uint8

const (
	// FromRequest: nothing did, the target is the name in the request.
	FromRequest Source = iota
	// FromHeader: Query.Rewrite.
	FromHeader
	// FromModel: an InferenceModel.
	FromModel
	// FromRewrite: an InferenceModelRewrite.
	FromRewrite
)

// String returns what decided in lower case.
func (s Source) String() string {
	switch s {
	case FromRequest:
		return "request"
	case FromHeader:
		return "header"
	case FromModel:
		return "model"
	case FromRewrite:
		return "rewrite"
	}
	return "invalid"
}

// Resolution is what becomes of a Query. The objects in it must not be
// modified.
type Resolution struct {
	Pool        *Pool
	Model       string // the public name
	TargetModel string // the name to ask the servers for
	Priority    int    // for types.Request
	Source      Source // what decided on TargetModel

	// InferenceModel names the model, nil if none does.
	InferenceModel *types.InferenceModel
	// Objective gave the priority, nil if none did.
	Objective *types.InferenceObjective
	// Rewrite decided on the target if Source is FromRewrite, by the rule with
	// the index RewriteRule; else nil.
	Rewrite     *types.InferenceModelRewrite
	RewriteRule int
}

// Resolve says where a request goes, under which model name, and with which
// priority. It does not block and, unless it fails, does not allocate.
//
// The target model comes from the first of these that there is: a rule of an
// InferenceModelRewrite for this very model; one for any model; Query.Rewrite;
// the targets of the InferenceModel; the name in the request. Of several rules
// that fit alike, the oldest manifest's first rule is taken.
//
// The priority is that of the InferenceObjective that Query.Objective names in
// the pool; else it follows from the criticality of the InferenceModel; else it
// is 0. A name of an objective that does not exist is read over.
//
// A request that names no model gets one from a rule for any model, which is how a pool
// has a default, else from Query.Rewrite. If nothing gives it one it is of an unknown
// model: refused with ErrUnknownModel, or passed through with an empty TargetModel and
// Source FromRequest. Either is for HTTP a 400: the request lacks its model.
//
// The errors are ErrUnknownModel, ErrNoPool and ErrNoTarget.
func (sn *Snapshot) Resolve(q Query) (Resolution, error) {
	p, err := sn.poolFor(&q)
	if err != nil {
		return Resolution{}, err
	}
	r := Resolution{Pool: p, Model: q.Model, TargetModel: q.Model}

	model := p.routes.models[q.Model]
	rewrite := p.routes.exact[q.Model]
	if rewrite == nil {
		rewrite = p.routes.generic
	}
	if model == nil && rewrite == nil && sn.config.refuse && !q.modelless() {
		return Resolution{}, fmt.Errorf("datastore: %w %s in pool %s", ErrUnknownModel, shorten(q.Model), p.name)
	}

	if model != nil {
		r.InferenceModel = model.model
		r.Priority = model.model.Spec.Criticality.Priority()
	}
	if q.Objective != "" {
		if o := p.routes.objectives[q.Objective]; o != nil {
			r.Objective = o
			r.Priority = o.Priority()
		}
	}

	ok := true
	switch {
	case rewrite != nil:
		r.Source, r.Rewrite, r.RewriteRule = FromRewrite, rewrite.rewrite, rewrite.rule
		r.TargetModel, ok = sn.draw(&rewrite.targets, &q)
	case q.Rewrite != "":
		r.Source = FromHeader
		r.TargetModel = q.Rewrite
	case model != nil:
		r.Source = FromModel
		r.TargetModel, ok = sn.draw(&model.targets, &q)
	}
	if !ok || r.TargetModel == "" && q.Model != "" {
		return Resolution{}, fmt.Errorf("datastore: %w for %s in pool %s", ErrNoTarget, shorten(q.Model), p.name)
	}
	return r, nil
}

func (sn *Snapshot) draw(t *targets, q *Query) (string, bool) {
	if sn.config.sticky && q.SessionID != "" {
		return t.drawSession(q.SessionID, q.Model)
	}
	return t.draw(q.Rand)
}

// poolFor returns the pool that a query goes to.
func (sn *Snapshot) poolFor(q *Query) (*Pool, error) {
	cfg := sn.config
	if !q.Pool.IsZero() {
		if p := sn.Pool(q.Pool); p != nil {
			return p, nil
		}
		return nil, fmt.Errorf("datastore: %w: %s", ErrNoPool, withNamespace(q.Pool))
	}
	if to, ok := cfg.byModel[q.Model]; ok {
		if to.pool < 0 {
			return nil, fmt.Errorf("datastore: %w: %s, which serves model %s", ErrNoPool, to.name, shorten(q.Model))
		}
		return sn.pools[to.pool], nil
	}
	switch {
	case cfg.defaultPool >= 0:
		return sn.pools[cfg.defaultPool], nil
	case cfg.refuse && !q.modelless():
		return nil, fmt.Errorf("datastore: %w %s", ErrUnknownModel, shorten(q.Model))
	case !cfg.defaultName.IsZero():
		return nil, fmt.Errorf("datastore: %w: %s, the default pool", ErrNoPool, cfg.defaultName)
	case len(sn.pools) == 0:
		return nil, fmt.Errorf("datastore: %w: the store has none", ErrNoPool)
	}
	return nil, fmt.Errorf("datastore: %w %s: no manifest names it, and which of %d pools to pass it to is not set (Options.DefaultPool)",
		ErrUnknownModel, shorten(q.Model), len(sn.pools))
}
