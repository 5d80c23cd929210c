package kubernetes

import (
	"maps"
	"unique"
)

// pod is what the source keeps of a pod. Immutable.
type pod struct {
	labels map[string]string
	ip     string // empty: it has none yet

	ready       bool
	terminating bool // it is being deleted
	finished    bool // its containers have ended and will not run again

	// limited is set if an annotation says which ports take requests; active lists them.
	limited bool
	active  string
}

// podForm is the JSON form of a pod, of which all else is skipped.
type podForm struct {
	Metadata struct {
		identity
		Labels            map[string]string `json:"labels"`
		DeletionTimestamp *string           `json:"deletionTimestamp"`
		Annotations       struct {
			Active       *string `json:"llm-d.ai/active-ports"`
			ActiveLegacy *string `json:"inference.networking.k8s.io/active-ports"`
		} `json:"annotations"`
	} `json:"metadata"`
	Status struct {
		Phase  string `json:"phase"`
		PodIP  string `json:"podIP"`
		PodIPs []struct {
			IP string `json:"ip"`
		} `json:"podIPs"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

// decodePod decodes a pod from JSON.
func decodePod(decode func(any) error) (d decoded[*pod], err error) {
	var f podForm
	err = decode(&f)
	d.identify(&f.Metadata.identity)
	if err != nil {
		return d, err
	}
	m, st := &f.Metadata, &f.Status
	p := &pod{
		labels:      intern(m.Labels),
		ip:          st.PodIP,
		terminating: m.DeletionTimestamp != nil,
		finished:    st.Phase == "Succeeded" || st.Phase == "Failed",
	}
	if len(st.PodIPs) > 0 {
		p.ip = st.PodIPs[0].IP
	}
	for _, c := range st.Conditions {
		if c.Type == "Ready" {
			p.ready = c.Status == "True"
		}
	}
	for _, active := range []*string{m.Annotations.ActiveLegacy, m.Annotations.Active} {
		if active != nil {
			p.limited, p.active = true, *active
		}
	}
	d.object = p
	return d, nil
}

// same reports whether nothing has changed that matters.
func (p *pod) same(q *pod) bool {
	return p.ip == q.ip && p.ready == q.ready && p.terminating == q.terminating && p.finished == q.finished &&
		p.limited == q.limited && p.active == q.active && maps.Equal(p.labels, q.labels)
}

// intern makes the strings of labels one with those of other pods: most are equal.
func intern(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for k, v := range labels {
		out[unique.Make(k).Value()] = unique.Make(v).Value()
	}
	return out
}
