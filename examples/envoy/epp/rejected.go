package epp

import (
	"fmt"
	"io"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/types"
)

// Loader returns what an App reads its configuration with, to check files for one.
func Loader(strict bool) config.Loader {
	return config.Loader{Registry: newRegistry(), Strict: strict, CheckEndpoint: checkAddress}
}

// rejections counts what was left out of the configuration in force, by kind.
type rejections struct{ fleet *fleet }

var rejectedDesc = prometheus.NewDesc("inferpick_config_rejected_objects",
	"Objects of the configuration in force that are left out, or kept as they were, because something is wrong with them.", []string{"kind"}, nil)

// Describe implements prometheus.Collector.
func (r rejections) Describe(ch chan<- *prometheus.Desc) { ch <- rejectedDesc }

// Collect implements prometheus.Collector. Kinds that are none of ours are in one series,
// as there may be any.
func (r rejections) Collect(ch chan<- prometheus.Metric) {
	c := r.fleet.config.Load()
	if c == nil {
		return
	}
	n := make(map[string]int)
	for _, kind := range config.Kinds() {
		n[kind] = 0
	}
	for _, one := range c.Rejected {
		kind := one.Kind
		if _, ours := n[kind]; !ours {
			kind = "unknown"
		}
		n[kind]++
	}
	for kind, count := range n {
		ch <- prometheus.MustNewConstMetric(rejectedDesc, prometheus.GaugeValue, float64(count), kind)
	}
}

// configPage says what of the configuration and of the cluster is in force, and what is wrong with
// them.
func (a *App) configPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c := a.fleet.config.Load()
	fmt.Fprintf(w, "%s: %d pools, %d manifests, %d objects rejected, %d warnings\n", a.o.Config, len(c.Pools()), len(c.Change.Objects), len(c.Rejected), len(c.Warnings))
	if err := a.Err(); err != nil {
		fmt.Fprintf(w, "\nThe files as they are now are not in force:\n%v\n", err)
	}
	for _, r := range c.Rejected {
		what := "left out"
		if r.Kept {
			what = "kept as it was"
		}
		fmt.Fprintf(w, "\n%s:\n%v\n", what, r.Err)
	}
	for i, text := range c.Warnings {
		if i == 0 {
			fmt.Fprint(w, "\nwarnings:\n")
		}
		fmt.Fprintln(w, text)
	}
	a.fleet.page(w)
	if a.cluster != nil {
		a.cluster.page(w)
	}
}

// page says which pools there are.
func (f *fleet) page(w io.Writer) {
	members := *f.members.Load()
	fmt.Fprint(w, "\npools:\n")
	for _, p := range f.store.Snapshot().Pools() {
		ready := 0
		for _, ep := range p.Endpoints() {
			if ep.State == types.Ready {
				ready++
			}
		}
		fmt.Fprintf(w, "%s: %d endpoints, %d ready\n", p.Name(), len(p.Endpoints()), ready)
		if m := members[p.Name()]; m != nil && m.wrong != "" {
			fmt.Fprintln(w, m.wrong)
		}
	}
}

var _ prometheus.Collector = rejections{}
