package datastore

import (
	"fmt"

	"github.com/inferpick/inferpick/types"
)

// Query is the part of a request that Resolve looks at.
//
// Objective and Rewrite are control inputs: a client that can set them chooses its own priority
// and model. A gateway that does not trust its clients strips both headers and sets them itself.
type Query struct {
	// Pool is the pool to use, for example that of the matching route. Default: the pool of the
	// oldest manifest that names the model, or if there is none the default pool. An empty
	// namespace is types.DefaultNamespace.
	Pool types.NamespacedName

	Model     string // the public name in the request
	NoModel   bool   // Model is optional in such requests: an empty one is not an unknown model
	SessionID string // for Options.StickySessions; empty: no session
	Objective string // header x-gateway-inference-objective
	Rewrite   string // header x-gateway-model-name-rewrite

	// Rand is the source for drawing a target. Nil: the random source of math/rand/v2.
	Rand *types.Rand
}

func (q *Query) modelless() bool { return q.NoModel && q.Model == "" }

// Source is where the target model came from.
type Source uint8

const (
	// FromRequest: the name in the request, unchanged.
	FromRequest Source = iota
	// FromHeader: Query.Rewrite.
	FromHeader
	// FromModel: an InferenceModel.
	FromModel
	// FromRewrite: an InferenceModelRewrite.
	FromRewrite
)

// String returns "request", "header", "model" or "rewrite".
func (s Source) String() string { return nameOfValue(s, "request", "header", "model", "rewrite") }

// nameOfValue returns the name of a value that counts from 0.
func nameOfValue[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return "invalid"
}

// Resolution is the result of Resolve. The objects in it must not be modified.
type Resolution struct {
	Pool        *Pool
	Model       string // the public name
	TargetModel string // the name to send to the servers
	Priority    int    // for types.Request
	Source      Source // where TargetModel came from

	// InferenceModel is the manifest that names the model, if any.
	InferenceModel *types.InferenceModel
	// Objective is the manifest that set the priority, if any.
	Objective *types.InferenceObjective
	// Rewrite and RewriteRule are the manifest, and the index of its rule, that set the target
	// if Source is FromRewrite.
	Rewrite     *types.InferenceModelRewrite
	RewriteRule int
}

// Resolve determines a request's pool, target model and priority. It does not block and, unless
// it fails, does not allocate.
//
// The target model comes from the first of: a rule of an InferenceModelRewrite for this model;
// a rule for all models; Query.Rewrite; the targets of the InferenceModel; the name in the
// request. Among equal rules, the first one of the oldest manifest applies.
//
// The priority is that of the InferenceObjective in the pool that Query.Objective names, or
// else follows from the criticality of the InferenceModel, or else is 0. Unknown objectives are
// ignored.
//
// A request without a model gets one from a rule for all models, which thus sets a pool's
// default, or else from Query.Rewrite. Otherwise its model is unknown and Options.UnknownModels
// applies: the result is ErrUnknownModel, or an empty TargetModel with Source FromRequest. For
// HTTP either is a 400, since the request lacks a model.
//
// Errors wrap ErrUnknownModel, ErrNoPool or ErrNoTarget.
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
