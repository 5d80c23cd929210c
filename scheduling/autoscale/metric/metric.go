package metric

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/types"
)

// Source is who knows: an *autoscale.Autoscaler.
type Source interface {
	// Signals returns what all gateways know of a pool, or of one model of it.
	Signals(ctx context.Context, pool types.NamespacedName, model string) (autoscale.Signals, error)
	// Desired returns the last recommendation for a pool.
	Desired(ctx context.Context, pool types.NamespacedName) (autoscale.Recommendation, error)
	// Active reports whether a pool should have replicas.
	Active(ctx context.Context, pool types.NamespacedName) (bool, error)
	// Watch returns a channel with what Active is, now and each time that it changes.
	Watch(pool types.NamespacedName) (active <-chan bool, stop func(), err error)
}

// Errors of an Asker, beside autoscale.ErrUnknownPool and autoscale.ErrPartial. They are wrapped with what was asked.
var (
	// ErrUnknownMetric: there is no metric of that name, or none of a single model.
	ErrUnknownMetric = errors.New("metric: unknown metric")
	// ErrUnknownModel: the pool serves no model of that name.
	ErrUnknownModel = errors.New("metric: unknown model")
	// ErrNotKnown: the figure is not known now.
	ErrNotKnown = errors.New("metric: not known")
)

// Desired is the metric that most should use: the recommendation, which weighs all that the others tell.
const Desired = "desired"

// figure is a metric that is made of Signals.
type figure struct {
	name   string
	models bool // it is there of a single model, too
	of     func(*autoscale.Signals) autoscale.Figure
}

var figures = []figure{
	{"queued", true, func(s *autoscale.Signals) autoscale.Figure { return autoscale.Figure(s.Queued) }},
	{"queuedTokens", true, func(s *autoscale.Signals) autoscale.Figure { return autoscale.Figure(s.QueuedTokens) }},
	{"backlogSeconds", true, backlog},
	{"running", true, func(s *autoscale.Signals) autoscale.Figure { return autoscale.Figure(s.Running) }},
	{"kv", false, func(s *autoscale.Signals) autoscale.Figure { return total(s.KVUsed, s.Ready) }},
	{"saturation", false, func(s *autoscale.Signals) autoscale.Figure { return total(s.Saturation, s.Ready) }},
}

// backlog is 0 without work, also while it is not known how long work takes.
func backlog(s *autoscale.Signals) autoscale.Figure {
	if s.QueuedTokens == 0 && s.PrefillTokens == 0 && s.Queued == 0 {
		return 0
	}
	return s.Backlog
}

// total is the sum of which a mean was made.
func total(mean autoscale.Figure, n int) autoscale.Figure {
	if n == 0 {
		return 0
	}
	return mean * autoscale.Figure(n)
}

// Names returns the names of all metrics, or of those that there are of single models.
func Names(ofModels bool) (names []string) {
	if !ofModels {
		names = append(names, Desired)
	}
	for _, f := range figures {
		if f.models || !ofModels {
			names = append(names, f.name)
		}
	}
	return names
}

// Query is what is asked for.
type Query struct {
	// Pool is that in question. An empty namespace is types.DefaultNamespace.
	Pool types.NamespacedName
	// Model is the public name of one of its models. Empty: all of the pool.
	Model string
	// Metric is one of Names.
	Metric string
}

// String names what is asked for.
func (q Query) String() string {
	if q.Model == "" {
		return fmt.Sprintf("%s of pool %s", q.Metric, q.Pool)
	}
	return fmt.Sprintf("%s of model %.80q of pool %s", q.Metric, q.Model, q.Pool)
}

// Validate returns what is wrong with the query whatever pools there are: ErrUnknownMetric, wrapped.
func (q Query) Validate() error {
	known := Names(q.Model != "")
	want := strings.Join(known, ", ")
	switch {
	case slices.Contains(known, q.Metric):
		return nil
	case slices.Contains(Names(false), q.Metric):
		return fmt.Errorf("%w: %s is of whole pools, of a model there are %s", ErrUnknownMetric, q.Metric, want)
	}
	nearest := ""
	if n := check.Nearest(q.Metric, known); n != "" {
		nearest = "; the nearest is " + n
	}
	return fmt.Errorf("%w: %.80q%s, want one of %s", ErrUnknownMetric, q.Metric, nearest, want)
}

// Asker answers queries. Its methods may be called from any goroutine.
type Asker struct {
	// Source is who knows. Required.
	Source Source
	// Models reports whether a pool, which there is, serves a model of that public name. Nil: all do.
	Models func(pool types.NamespacedName, model string) bool
}

// Value returns the value of a metric now.
func (a Asker) Value(ctx context.Context, q Query) (float64, error) {
	if err := q.Validate(); err != nil {
		return 0, err
	}
	if q.Metric == Desired {
		return a.desired(ctx, q)
	}
	s, err := a.Signals(ctx, q)
	if err != nil {
		return 0, err
	}
	of := figures[slices.IndexFunc(figures, func(f figure) bool { return f.name == q.Metric })].of
	v := of(&s)
	if !v.Known() {
		return 0, fmt.Errorf("%w now: %s", ErrNotKnown, q)
	}
	return float64(v), nil
}

func (a Asker) desired(ctx context.Context, q Query) (float64, error) {
	r, err := a.Source.Desired(ctx, q.Pool)
	if err == nil && r.Partial {
		err = fmt.Errorf("%w: %s", autoscale.ErrPartial, q)
	}
	if err != nil {
		return 0, err
	}
	return float64(r.Replicas), nil
}

// Signals returns what is known of the pool or the model of a query.
func (a Asker) Signals(ctx context.Context, q Query) (autoscale.Signals, error) {
	s, err := a.Source.Signals(ctx, q.Pool, q.Model)
	switch {
	case err != nil:
		return s, err
	case q.Model != "" && a.Models != nil && !a.Models(q.Pool, q.Model):
		return s, fmt.Errorf("%w: %.80q of pool %s", ErrUnknownModel, q.Model, q.Pool)
	case s.Missing > 0:
		return s, fmt.Errorf("%w: %d are missing: %s", autoscale.ErrPartial, s.Missing, q)
	}
	return s, nil
}
