package epp

import (
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
)

// clusterMetrics tell how the cluster is read, and written.
type clusterMetrics struct{ *cluster }

var (
	sourceLabels  = []string{"kind", "namespace"}
	sourceUp      = prometheus.NewDesc("inferpick_kubernetes_source_up", "Whether all that is known of a kind is complete and kept up to date; it is used in any case. An empty namespace is all.", sourceLabels, nil)
	sourceObjects = prometheus.NewDesc("inferpick_kubernetes_source_objects", "Objects of a kind that were read.", sourceLabels, nil)
	sourceEvent   = prometheus.NewDesc("inferpick_kubernetes_source_last_event_timestamp_seconds", "When the API server was last heard of about a kind.", sourceLabels, nil)
	sourceLists   = prometheus.NewDesc("inferpick_kubernetes_source_lists_total", "Lists of a kind that were asked for.", sourceLabels, nil)
	sourceRelists = prometheus.NewDesc("inferpick_kubernetes_source_relists_total", "Lists of a kind that were asked for because the API server had forgotten where a watch ended.", sourceLabels, nil)
	sourceWatches = prometheus.NewDesc("inferpick_kubernetes_source_watches_total", "Watches of a kind that were begun.", sourceLabels, nil)
	refusedDesc   = prometheus.NewDesc("inferpick_kubernetes_refused_objects", "Objects whose latest version is not in force because something is wrong with it.", []string{"kind"}, nil)

	statusWrites  = prometheus.NewDesc("inferpick_kubernetes_status_writes_total", "Statuses that this picker has written, or tried to.", []string{"result"}, nil)
	statusPending = prometheus.NewDesc("inferpick_kubernetes_status_pending", "Statuses that this picker has yet to write; 0 if another one does.", nil, nil)
	statusLeader  = prometheus.NewDesc("inferpick_kubernetes_status_leader", "Whether this picker is the one that writes statuses.", nil, nil)

	rolloutLeader = prometheus.NewDesc("inferpick_kubernetes_rollout_leader", "Whether this picker is the one that judges rollouts and writes weights.", nil, nil)
	rolloutTold   = prometheus.NewDesc("inferpick_kubernetes_rollout_told_total", "What this picker has told of rollouts: events, those that were dropped as there were too many or they failed, conditions, and requests for either that failed.", []string{"what"}, nil)
)

// Describe implements prometheus.Collector.
func (m clusterMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sourceUp, sourceObjects, sourceEvent, sourceLists, sourceRelists, sourceWatches, refusedDesc, statusWrites, statusPending, statusLeader, rolloutLeader, rolloutTold} {
		ch <- d
	}
}

// watches are all of a kind in a namespace.
type watches struct {
	up                                      bool
	objects, lists, relists, watches, event float64
}

// Collect implements prometheus.Collector. Several watches of a kind in a namespace, as there is
// one of pods for each pool, are one series.
func (m clusterMetrics) Collect(ch chan<- prometheus.Metric) {
	all := make(map[[2]string]*watches)
	for _, k := range m.source.Kinds() {
		key := [2]string{k.Kind, k.Namespace}
		w := all[key]
		if w == nil {
			w = &watches{up: true}
			all[key] = w
		}
		w.up = w.up && k.Up
		w.objects += float64(k.Objects)
		w.lists, w.relists, w.watches = w.lists+float64(k.Lists), w.relists+float64(k.Relists), w.watches+float64(k.Watches)
		if !k.LastEvent.IsZero() {
			w.event = max(w.event, float64(k.LastEvent.UnixMilli())/1000)
		}
	}
	for key, w := range all {
		tell := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(d, t, v, key[0], key[1])
		}
		tell(sourceUp, prometheus.GaugeValue, float(w.up))
		tell(sourceObjects, prometheus.GaugeValue, w.objects)
		tell(sourceLists, prometheus.CounterValue, w.lists)
		tell(sourceRelists, prometheus.CounterValue, w.relists)
		tell(sourceWatches, prometheus.CounterValue, w.watches)
		if w.event > 0 {
			tell(sourceEvent, prometheus.GaugeValue, w.event)
		}
	}
	for kind, n := range m.refused() {
		ch <- prometheus.MustNewConstMetric(refusedDesc, prometheus.GaugeValue, n, kind)
	}
	if m.home != nil {
		m.collectRollouts(ch)
	}
	if m.status == nil {
		return
	}
	s := m.status.Stats()
	ch <- prometheus.MustNewConstMetric(statusWrites, prometheus.CounterValue, float64(s.Written), "written")
	ch <- prometheus.MustNewConstMetric(statusWrites, prometheus.CounterValue, float64(s.Failed), "failed")
	ch <- prometheus.MustNewConstMetric(statusPending, prometheus.GaugeValue, float64(s.Pending))
	ch <- prometheus.MustNewConstMetric(statusLeader, prometheus.GaugeValue, float(m.leads.Load()))
}

func (m clusterMetrics) collectRollouts(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(rolloutLeader, prometheus.GaugeValue, float(m.home.Leads()))
	s := m.home.Stats()
	for what, n := range map[string]uint64{"event": s.Events, "dropped": s.Dropped, "condition": s.Conditions, "failed": s.Failed} {
		ch <- prometheus.MustNewConstMetric(rolloutTold, prometheus.CounterValue, float64(n), what)
	}
}

// refused counts the objects that are not in force, by kind.
func (m clusterMetrics) refused() map[string]float64 {
	n := map[string]float64{"InferencePool": 0, "InferenceModel": 0, "InferenceObjective": 0, "InferenceModelRewrite": 0}
	for _, o := range m.source.Objects() {
		if o.Err != nil {
			n[o.Kind]++
		}
	}
	return n
}

func float(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// page says what of the cluster is in force, and what is wrong with the rest.
func (c *cluster) page(w io.Writer) {
	fmt.Fprintf(w, "\nFrom the cluster:\n")
	for _, k := range c.source.Kinds() {
		where := k.Namespace
		if where == "" {
			where = "all namespaces"
		}
		if k.Selector != "" {
			where += ", " + k.Selector
		}
		switch {
		case k.Up:
			fmt.Fprintf(w, "%s (%s): %d objects\n", k.Kind, where, k.Objects)
		case k.Err != nil:
			fmt.Fprintf(w, "%s (%s): %d objects, not up to date: %v\n", k.Kind, where, k.Objects, k.Err)
		default:
			fmt.Fprintf(w, "%s (%s): being read\n", k.Kind, where)
		}
	}
	for _, o := range c.source.Objects() {
		if o.Err != nil {
			fmt.Fprintf(w, "\nnot in force: %s %s of %s:\n%v\n", o.Kind, o.Name, o.Resource.GroupVersion(), o.Err)
		}
	}
}

var _ prometheus.Collector = clusterMetrics{}
