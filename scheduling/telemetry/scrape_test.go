package telemetry_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

var (
	ctx  = context.Background()
	pool = types.NamespacedName{Namespace: "default", Name: "llama"}
	text = expfmt.NewFormat(expfmt.TypeTextPlain)
)

// first picks the first endpoint.
var first = scheduling.PickerFunc(func(context.Context, *types.Request, []*types.Endpoint, []float64) (int, error) { return 0, nil })

// fixture is a scheduler with hooks, and a clock.
type fixture struct {
	*telemetry.Metrics
	*scheduling.Scheduler
	t   testing.TB
	now time.Time
	eps []*types.Endpoint
}

// newFixture returns a fixture for endpoints. Its metrics see the pool "llama".
func newFixture(t testing.TB, o telemetry.Options, profile scheduling.Profile, eps ...*types.Endpoint) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Unix(1_700_000_000, 0), eps: eps}
	o.Now = func() time.Time { return f.now }
	o.Pools = func(yield func(types.NamespacedName, []*types.Endpoint) bool) { yield(pool, f.eps) }
	m, err := telemetry.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if profile.Picker == nil {
		profile.Picker = first
	}
	profile.Now, profile.Hooks = o.Now, m.Hooks(pool, profile.Hooks)
	s, err := scheduling.New(profile)
	if err != nil {
		t.Fatal(err)
	}
	f.Metrics, f.Scheduler = m, s
	return f
}

// endpoint returns an endpoint that is read at the fixture's time.
func endpoint(id string, options ...schedulingtest.EndpointOption) *types.Endpoint {
	options = append(options, func(ep *types.Endpoint) {
		if !ep.Metrics.UpdatedAt.IsZero() {
			ep.Metrics.UpdatedAt = time.Unix(1_700_000_000, 0)
		}
	})
	return schedulingtest.Endpoint(id, options...)
}

func request(modelName, target string) *types.Request {
	r := schedulingtest.Request("Once upon a time")
	r.Model, r.TargetModel, r.Stream = modelName, target, true
	return r
}

func (f *fixture) pass(d time.Duration) { f.now = f.now.Add(d) }

func (f *fixture) schedule(req *types.Request) *scheduling.Decision {
	f.t.Helper()
	d, err := f.Schedule(ctx, req, f.eps)
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// want fails the test unless the exposition has these series, each as the value
// and the name with its labels in order; a value of "-" means that there is none.
func (f *fixture) want(series string) {
	f.t.Helper()
	check(f.t, scrape(f.t, f.Metrics), series)
}

func check(t testing.TB, got map[string]string, series string) {
	t.Helper()
	for line := range strings.Lines(series) {
		value, name, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		v, ok := got[name]
		if !ok {
			v = "-"
		}
		if v != value {
			t.Errorf("%s = %s, want %s", name, v, value)
		}
	}
}

// scrape returns all series of the exposition by their name, as expfmt reads them.
func scrape(t testing.TB, m *telemetry.Metrics) map[string]string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Write(&b, text); err != nil {
		t.Fatal(err)
	}
	return flatten(parse(t, b.String()))
}

func parse(t testing.TB, page string) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("expfmt cannot read the exposition: %v\n%s", err, page)
	}
	return families
}

func flatten(families map[string]*dto.MetricFamily) map[string]string {
	all := map[string]string{}
	put := func(name string, labels []*dto.LabelPair, more string, v float64) {
		var parts []string
		for _, l := range labels {
			parts = append(parts, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
		if more != "" {
			parts = append(parts, more)
		}
		if len(parts) > 0 {
			name += "{" + strings.Join(parts, ",") + "}"
		}
		if _, twice := all[name]; twice {
			panic("twice in the exposition: " + name)
		}
		all[name] = fmt.Sprintf("%.12g", v)
	}
	for name, f := range families {
		for _, m := range f.Metric {
			switch {
			case m.Counter != nil:
				put(name, m.Label, "", m.Counter.GetValue())
			case m.Gauge != nil:
				put(name, m.Label, "", m.Gauge.GetValue())
			case m.Untyped != nil:
				put(name, m.Label, "", m.Untyped.GetValue())
			case m.Histogram != nil:
				h := m.Histogram
				put(name+"_sum", m.Label, "", h.GetSampleSum())
				put(name+"_count", m.Label, "", float64(h.GetSampleCount()))
				for _, b := range h.Bucket {
					put(name+"_bucket", m.Label, fmt.Sprintf("le=%q", fmt.Sprintf("%g", b.GetUpperBound())), float64(b.GetCumulativeCount()))
				}
			}
		}
	}
	return all
}
