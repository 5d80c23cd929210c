package datastore

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/types"
)

// config indexes the manifests for Resolve. Immutable.
type config struct {
	poolIndex   map[types.NamespacedName]int
	routes      []*routes           // by pool
	byModel     map[string]anyRoute // for queries that name no pool
	defaultPool int                 // index, -1: none
	defaultName types.NamespacedName
	refuse      bool
	sticky      bool
	models      []Model // named by manifests, sorted by name
	status      map[objectName][]types.Condition
	objects     []types.Object // all, oldest first
}

// routes indexes the manifests of one pool.
type routes struct {
	models     map[string]*modelRoute
	exact      map[string]*rewriteRoute
	generic    *rewriteRoute
	objectives map[string]*types.InferenceObjective
}

type modelRoute struct {
	model   *types.InferenceModel
	targets targets
}

type rewriteRoute struct {
	rewrite *types.InferenceModelRewrite
	rule    int
	targets targets
}

// anyRoute is the pool of a model for requests that do not name one.
type anyRoute struct {
	pool int                  // index, -1: the pool does not exist
	name types.NamespacedName // of the pool
}

// Status returns the conditions of a manifest, and whether it is in the snapshot. Every
// manifest has the condition Accepted, which is True; False, with reason ModelNameInUse, if an
// older model in the pool has the same name, or older rewrites match all that a rewrite does; or
// Unknown, with reason Pending, if its pool does not exist. The message says which, also of what
// has no effect in a manifest that is accepted.
func (sn *Snapshot) Status(kind string, name types.NamespacedName) ([]types.Condition, bool) {
	conditions, ok := sn.config.status[objectName{kind, withNamespace(name)}]
	return slices.Clone(conditions), ok
}

// Status returns the conditions of a manifest in the current snapshot, see Snapshot.Status.
func (s *Store) Status(kind string, name types.NamespacedName) ([]types.Condition, bool) {
	return s.Snapshot().Status(kind, name)
}

// configLocked indexes the manifests, oldest first, so that older ones take precedence. Caller
// must hold s.mu.
func (s *Store) configLocked(pools []*poolState, before *config) *config {
	b := configBuilder{
		store: s, now: s.opt.Now(), before: before.status,
		config: &config{
			poolIndex:   make(map[types.NamespacedName]int, len(pools)),
			byModel:     make(map[string]anyRoute),
			defaultPool: -1,
			defaultName: s.opt.DefaultPool,
			refuse:      s.opt.UnknownModels == Refuse,
			sticky:      s.opt.StickySessions,
			status:      make(map[objectName][]types.Condition, len(s.objects)),
		},
	}
	cfg := b.config
	for i, p := range pools {
		cfg.poolIndex[p.name] = i
		cfg.routes = append(cfg.routes, &routes{
			models:     make(map[string]*modelRoute),
			exact:      make(map[string]*rewriteRoute),
			objectives: make(map[string]*types.InferenceObjective),
		})
	}
	if i, ok := cfg.poolIndex[cfg.defaultName]; ok {
		cfg.defaultPool = i
	} else if cfg.defaultName.IsZero() && len(pools) == 1 {
		cfg.defaultPool = 0
	}

	objects := slices.SortedFunc(maps.Values(s.objects), func(a, b types.Object) int { return a.Meta().CompareAge(b.Meta()) })
	if cfg.objects = objects; slices.Equal(objects, before.objects) {
		cfg.objects = before.objects
	}
	created := make(map[string]time.Time)
	for _, o := range objects {
		if m, ok := o.(*types.InferenceModel); ok {
			b.model(m, created)
		}
	}
	// Rewrites come second: whatever their ages, a model takes precedence over a rewrite in
	// assigning a name to a pool.
	for _, o := range objects {
		switch o := o.(type) {
		case *types.InferencePool:
			b.report(o, types.ConditionTrue, types.ReasonAccepted, "")
		case *types.InferenceObjective:
			b.objective(o)
		case *types.InferenceModelRewrite:
			b.rewrite(o, created)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.byModel)) {
		if to := cfg.byModel[name]; to.pool >= 0 {
			cfg.models = append(cfg.models, Model{Name: name, Pool: to.name, Created: created[name]})
		}
	}
	return cfg
}

type configBuilder struct {
	*config
	store  *Store
	now    time.Time
	before map[objectName][]types.Condition
}

// pool returns the index of the pool that o refers to, and sets o's condition.
func (b *configBuilder) pool(o types.Object, name types.NamespacedName) (int, bool) {
	i, ok := b.poolIndex[name]
	if ok {
		b.report(o, types.ConditionTrue, types.ReasonAccepted, "")
	} else {
		b.report(o, types.ConditionUnknown, types.ReasonPending, "pool "+name.String()+" does not exist")
	}
	return i, ok
}

// claim routes queries for a model that do not name a pool. The first claim wins, except that
// an existing pool comes before one that does not exist.
func (b *configBuilder) claim(name string, to anyRoute, at time.Time, created map[string]time.Time) {
	if old, ok := b.byModel[name]; ok && (old.pool >= 0 || to.pool < 0) {
		return
	}
	b.byModel[name] = to
	created[name] = at
}

func (b *configBuilder) model(m *types.InferenceModel, created map[string]time.Time) {
	i, ok := b.pool(m, m.Pool())
	if !ok {
		b.claim(m.Spec.ModelName, anyRoute{-1, m.Pool()}, m.CreationTimestamp, created)
		return
	}
	r := b.routes[i]
	if first := r.models[m.Spec.ModelName]; first != nil {
		b.report(m, types.ConditionFalse, types.ReasonModelNameInUse,
			"model name "+shorten(m.Spec.ModelName)+" is that of "+first.model.Key().String()+", which is older")
		return
	}
	route := &modelRoute{model: m}
	for _, t := range m.Spec.TargetModels {
		route.targets.add(t.Name, t.Weight)
	}
	if len(m.Spec.TargetModels) == 0 {
		route.targets.add(m.Spec.ModelName, nil)
	}
	route.targets.finish()
	r.models[m.Spec.ModelName] = route

	b.claim(m.Spec.ModelName, anyRoute{i, m.Pool()}, m.CreationTimestamp, created)
	if to := b.byModel[m.Spec.ModelName]; to.name != m.Pool() {
		b.report(m, types.ConditionTrue, types.ReasonAccepted,
			"requests that name no pool go to pool "+to.name.String()+", whose model of this name is older")
	}
}

// objective adds o to all pools that it names or selects.
func (b *configBuilder) objective(o *types.InferenceObjective) {
	pools := o.Pools()
	if o.Spec.PoolSelector != nil {
		for _, pool := range b.store.objects {
			if p, ok := pool.(*types.InferencePool); ok && o.Selects(p) {
				pools = append(pools, p.Key())
			}
		}
	}
	found := false
	var missing []string
	for _, name := range pools {
		if i, ok := b.poolIndex[name]; ok {
			b.routes[i].objectives[o.Name] = o
			found = true
		} else {
			missing = append(missing, "pool "+name.String()+" does not exist")
		}
	}
	switch {
	case found:
		b.report(o, types.ConditionTrue, types.ReasonAccepted, strings.Join(missing, "; "))
	case len(pools) == 0:
		b.report(o, types.ConditionUnknown, types.ReasonPending, "no pool has the labels of spec.poolSelector")
	case len(pools) == 1:
		b.report(o, types.ConditionUnknown, types.ReasonPending, "pool "+pools[0].String()+" does not exist")
	default:
		b.report(o, types.ConditionUnknown, types.ReasonPending, "no pool of spec.poolRefs exists")
	}
}

func (b *configBuilder) rewrite(w *types.InferenceModelRewrite, created map[string]time.Time) {
	i, ok := b.pool(w, w.Pool())
	if !ok {
		return
	}
	r := b.routes[i]
	var taken []string // what rules before it match already
	effective := false
	for n, rule := range w.Spec.Rules {
		route := &rewriteRoute{rewrite: w, rule: n}
		for _, t := range rule.Targets {
			route.targets.add(t.ModelRewrite, t.Weight)
		}
		route.targets.finish()
		if len(rule.Matches) == 0 {
			if r.generic == nil {
				r.generic, effective = route, true
			} else {
				taken = append(taken, route.after(r.generic, "all models"))
			}
		}
		for _, match := range rule.Matches {
			name := match.Model.Value
			if first := r.exact[name]; first != nil {
				taken = append(taken, route.after(first, "model name "+shorten(name)))
				continue
			}
			r.exact[name], effective = route, true
			b.claim(name, anyRoute{i, w.Pool()}, w.CreationTimestamp, created)
		}
	}
	switch {
	case len(taken) > 0 && effective:
		b.report(w, types.ConditionTrue, types.ReasonAccepted, strings.Join(taken, "; "))
	case len(taken) > 0:
		b.report(w, types.ConditionFalse, types.ReasonModelNameInUse, strings.Join(taken, "; "))
	}
}

// after says that a rule has no effect for what is rewritten by another one.
func (r *rewriteRoute) after(first *rewriteRoute, what string) string {
	if first.rewrite == r.rewrite {
		return fmt.Sprintf("rule %d: %s: rule %d goes before", r.rule, what, first.rule)
	}
	return fmt.Sprintf("rule %d: %s: rewrite %s goes before, which is older", r.rule, what, first.rewrite.Key())
}

// report sets the condition Accepted of an object. LastTransitionTime changes only with Status.
func (b *configBuilder) report(o types.Object, status types.ConditionStatus, reason, message string) {
	name := nameOf(o)
	c := types.Condition{
		Type: types.ConditionAccepted, Status: status, Reason: reason, Message: message, LastTransitionTime: b.now,
	}
	same := false
	if before := b.before[name]; len(before) > 0 && before[0].Status == status {
		c.LastTransitionTime = before[0].LastTransitionTime
		same = before[0].Reason == reason
	}
	b.status[name] = []types.Condition{c}
	if status != types.ConditionTrue && !same {
		b.store.opt.Logger.LogAttrs(context.Background(), slog.LevelWarn, "manifest is not in force",
			slog.String("kind", o.Kind()), slog.String("name", o.Key().String()),
			slog.String("reason", reason), slog.String("message", message))
	}
}
