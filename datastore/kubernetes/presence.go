package kubernetes

import "slices"

// presence is what is known of which resources the server has.
//
// A deleted CRD takes its objects with it, so the source drops them too: normally by the events
// that the server sends for each before it ends the watches. If those were missed, the server's
// word that it does not serve the resource must do: that the list of groups lacks it, as it does
// for seconds while a server starts, and that the resource's own version is not found, which a
// server that starts does not say. And as proxies may say anything while they cannot reach a
// server, it is believed only the second time in a row. That a list or discovery fails says
// nothing about objects.
type presence struct {
	known  bool             // the server has been asked successfully
	served []resource       // in the order of choose
	absent map[resource]int // how often in a row a resource was missing
}

// update takes an answer of the server, and reports whether served has changed.
func (p *presence) update(answer []resource) bool {
	next := slices.Clone(answer)
	absent := make(map[resource]int)
	for _, r := range p.missing(answer) {
		if n := p.absent[r] + 1; n < 2 {
			absent[r] = n
			next = append(next, r)
		}
	}
	changed := !p.known || !slices.Equal(p.served, next)
	p.known, p.served, p.absent = true, next, absent
	return changed
}

// missing returns the resources that were served and are not in an answer.
func (p *presence) missing(answer []resource) []resource {
	return slices.DeleteFunc(slices.Clone(p.served), func(r resource) bool { return slices.Contains(answer, r) })
}
