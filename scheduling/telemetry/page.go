package telemetry

import (
	"cmp"
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// page collects what is exported.
type page map[*family]*dto.MetricFamily

// with returns the labels of a series of f that have these values. They are shared by
// whoever is given them, and never modified.
func (f *family) with(values ...string) []*dto.LabelPair {
	own := slices.Clone(values) // so that the caller's stay on its stack
	pairs := make([]dto.LabelPair, len(f.labels))
	labels := make([]*dto.LabelPair, len(f.labels))
	for i := range labels {
		pairs[i].Name, pairs[i].Value = &f.labels[i], &own[i]
		labels[i] = &pairs[i]
	}
	return labels
}

// count adds v to a counter, unless it is 0: a series begins with the first event.
func (p page) count(f *family, v uint64, values ...string) {
	if v > 0 {
		p.add(f, float64(v), f.with(values...))
	}
}

// add adds a counter or gauge.
func (p page) add(f *family, v float64, labels []*dto.LabelPair) {
	s := &struct { // all that a series needs, in one piece
		metric  dto.Metric
		counter dto.Counter
		gauge   dto.Gauge
		value   float64
	}{value: v}
	s.metric.Label = labels
	if f.kind == counter {
		s.metric.Counter, s.counter.Value = &s.counter, &s.value
	} else {
		s.metric.Gauge, s.gauge.Value = &s.gauge, &s.value
	}
	p.append(f, &s.metric)
}

// histogram adds h unless it is empty. What is counted meanwhile may be in the sum and not
// yet in the buckets.
func (p page) histogram(f *family, h *histogram, labels []*dto.LabelPair) {
	if h.empty() {
		return
	}
	n := len(h.b.bounds)
	s := &struct {
		metric dto.Metric
		hist   dto.Histogram
		sum    float64
	}{}
	buckets, refs, counts := make([]dto.Bucket, n), make([]*dto.Bucket, n), make([]uint64, n+1)
	total := uint64(0)
	for i := range counts {
		total += h.counts[i].Load()
		counts[i] = total
	}
	for i := range refs {
		buckets[i].UpperBound, buckets[i].CumulativeCount = &h.b.exported[i], &counts[i]
		refs[i] = &buckets[i]
	}
	s.sum = float64(h.sum.Load()) / h.b.per
	s.hist.Bucket, s.hist.SampleCount, s.hist.SampleSum = refs, &counts[n], &s.sum
	s.metric.Histogram, s.metric.Label = &s.hist, labels
	p.append(f, &s.metric)
}

func (p page) append(f *family, m *dto.Metric) {
	mf := p[f]
	if mf == nil {
		mf = f.called(f.name, nil)
		p[f] = mf
	}
	mf.Metric = append(mf.Metric, m)
}

// families returns what was collected, in no order, under the names that it is to have; the
// series of each are in that of their labels' values. The figures of all names are the same.
func (p page) families(names Names, legacy bool) []*dto.MetricFamily {
	all := make([]*dto.MetricFamily, 0, 2*len(p))
	for f, mf := range p {
		slices.SortStableFunc(mf.Metric, compareLabels)
		mf.Metric = merge(mf.Metric)
		if f.llmd == "" || names != NamesLLMD {
			all = append(all, mf)
		}
		if f.llmd != "" && names != NamesGIE {
			all = append(all, f.asLLMD(mf))
		}
		if f.legacy != "" && legacy {
			all = append(all, f.called(f.legacy, mf.Metric))
		}
	}
	return all
}

// called returns the family under another name.
func (f *family) called(name string, series []*dto.Metric) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &f.help, Type: f.kind.Enum(), Metric: series}
}

func compareLabels(a, b *dto.Metric) int {
	return slices.CompareFunc(a.Label, b.Label, func(a, b *dto.LabelPair) int {
		if a == b {
			return 0
		}
		return cmp.Compare(*a.Value, *b.Value)
	})
}

// merge adds neighbours with the same labels up: two names may have become one where they
// were cut, and what is too much counts under "other".
func merge(all []*dto.Metric) []*dto.Metric {
	kept := all[:1]
	for _, m := range all[1:] {
		last := kept[len(kept)-1]
		if compareLabels(last, m) != 0 {
			kept = append(kept, m)
			continue
		}
		switch {
		case m.Counter != nil:
			*last.Counter.Value += *m.Counter.Value
		case m.Gauge != nil:
			*last.Gauge.Value += *m.Gauge.Value
		default:
			for i, b := range m.Histogram.Bucket {
				*last.Histogram.Bucket[i].CumulativeCount += *b.CumulativeCount
			}
			*last.Histogram.SampleCount += *m.Histogram.SampleCount
			*last.Histogram.SampleSum += *m.Histogram.SampleSum
		}
	}
	return kept
}
