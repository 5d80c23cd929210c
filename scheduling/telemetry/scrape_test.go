package telemetry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

var (
	ctx  = context.Background()
	pool = types.NamespacedName{Namespace: "default", Name: "llama"}
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

	admissions map[types.NamespacedName]*admission.Controller
}

// newFixture returns a fixture for endpoints. Its metrics see the pool "llama".
func newFixture(t testing.TB, o telemetry.Options, profile scheduling.Profile, eps ...*types.Endpoint) *fixture {
	t.Helper()
	f := &fixture{t: t, now: time.Unix(1_700_000_000, 0), eps: eps}
	o.Now = func() time.Time { return f.now }
	o.Pools = func(yield func(types.NamespacedName, []*types.Endpoint) bool) { yield(pool, f.eps) }
	f.admissions = map[types.NamespacedName]*admission.Controller{}
	o.Admissions = func(yield func(types.NamespacedName, admission.Stats) bool) {
		for name, c := range f.admissions {
			if !yield(name, c.Stats()) {
				return
			}
		}
	}
	m, err := telemetry.New(o)
	require.NoError(t, err)
	if profile.Picker == nil {
		profile.Picker = first
	}
	profile.Now, profile.Hooks = o.Now, m.Hooks(pool, profile.Hooks)
	s, err := scheduling.New(profile)
	require.NoError(t, err)
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
		require.Equal(t, value, v, "%s", name)
	}
}

// scrape returns all series of the exposition by their name, as expfmt reads them.
func scrape(t testing.TB, m *telemetry.Metrics) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, f := range parse(t, exposition(t, m)) {
		for _, s := range f.series {
			if _, twice := all[s.name()]; twice {
				t.Fatal("twice in the exposition: " + s.name())
			}
			all[s.name()] = fmt.Sprintf("%.12g", s.value)
		}
	}
	return all
}

func exposition(t testing.TB, m *telemetry.Metrics) string {
	t.Helper()
	families, err := m.Gather()
	require.NoError(t, err)
	var b strings.Builder
	for _, f := range families {
		_, err := expfmt.MetricFamilyToText(&b, f)
		require.NoError(t, err)
	}
	return b.String()
}

// family is one of the exposition, as expfmt reads it.
type family struct {
	name, help, kind string
	series           []series
}

// series is a line of the exposition. The label of a bucket's bound comes last.
type series struct {
	of     string
	labels [][2]string
	value  float64
}

func (s series) name() string {
	var parts []string
	for _, l := range s.labels {
		parts = append(parts, fmt.Sprintf("%s=%q", l[0], l[1]))
	}
	if len(parts) == 0 {
		return s.of
	}
	return s.of + "{" + strings.Join(parts, ",") + "}"
}

// parse returns the families of a page by name, in the order of the page.
func parse(t testing.TB, page string) []family {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	read, err := p.TextToMetricFamilies(strings.NewReader(page))
	if err != nil {
		t.Fatalf("expfmt cannot read the exposition: %v\n%s", err, page)
	}
	var out []family
	for line := range strings.Lines(page) {
		name, isType := strings.CutPrefix(line, "# TYPE ")
		if !isType {
			continue
		}
		name, _, _ = strings.Cut(name, " ")
		mf := read[name]
		f := family{name: name, help: mf.GetHelp(), kind: strings.ToLower(mf.GetType().String())}
		for _, m := range mf.Metric {
			var labels [][2]string
			for _, l := range m.Label {
				labels = append(labels, [2]string{l.GetName(), l.GetValue()})
			}
			switch {
			case m.Counter != nil:
				f.series = append(f.series, series{name, labels, m.Counter.GetValue()})
			case m.Gauge != nil:
				f.series = append(f.series, series{name, labels, m.Gauge.GetValue()})
			case m.Histogram != nil:
				h := m.Histogram
				f.series = append(f.series, series{name + "_sum", labels, h.GetSampleSum()}, series{name + "_count", labels, float64(h.GetSampleCount())})
				for _, b := range h.Bucket {
					le := [2]string{"le", fmt.Sprintf("%g", b.GetUpperBound())}
					f.series = append(f.series, series{name + "_bucket", append(slices.Clone(labels), le), float64(b.GetCumulativeCount())})
				}
			}
		}
		out = append(out, f)
	}
	if len(out) != len(read) {
		t.Fatalf("%d types for %d families", len(out), len(read))
	}
	return out
}
