package kubernetes

import "github.com/inferpick/inferpick/types"

// Starting returns how many endpoints a pool will have more once all of its pods serve that are there
// and do not yet: those that wait for a node, pull an image or load a model, at each of the pool's
// ports. Pods that are being deleted are not among them. With a label, only pods count that have it
// with that value. Not ok: the pods have not been read yet, or come from EndpointSlices, which do not
// tell of pods that have no address.
//
// It may be called from any goroutine, at any time.
func (s *Source) Starting(pool types.NamespacedName, label, value string) (n int, ok bool) {
	if s.opt.EndpointSlices {
		return 0, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.state.byName[pool]
	if p == nil {
		return 0, false
	}
	pods, ok := s.state.podsOf(p)
	for _, one := range pods {
		if !one.ready && !one.terminating && !one.finished && (label == "" || one.labels[label] == value) {
			n += len(p.Spec.TargetPorts)
		}
	}
	return n, ok
}
