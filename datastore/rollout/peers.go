package rollout

// peers are what other gateways have seen in this epoch.
type peers struct {
	of map[string]*Window
}

func (p *peers) forget() { clear(p.of) }

func (p *peers) hear(name string, w *Window) {
	if p.of == nil {
		p.of = map[string]*Window{}
	}
	if _, known := p.of[name]; known || len(p.of) < mostPeers {
		p.of[name] = w
	}
}

// mostPeers is how many other gateways count.
const mostPeers = 1000

// sum returns what all gateways have seen of one target: own, unless there are others.
func (p *peers) sum(own *Counts, of func(*Window) *Counts) *Counts {
	if len(p.of) == 0 {
		return own
	}
	all := new(Counts)
	all.merge(own)
	for _, w := range p.of {
		all.merge(of(w))
	}
	return all
}

// recently returns how many of the last ends at all gateways were failures, and of how many.
func (p *peers) recently(own *Counts, of func(*Window) *Counts) (failed, n int) {
	failed, n = own.recently()
	for _, w := range p.of {
		k, m := of(w).recently()
		failed, n = failed+k, n+m
	}
	return failed, n
}

func stableOf(w *Window) *Counts { return &w.Stable }
func canaryOf(w *Window) *Counts { return &w.Canary }

func (m *Machine) stable() *Counts { return m.peers.sum(&m.window.Stable, stableOf) }
func (m *Machine) canary() *Counts { return m.peers.sum(&m.window.Canary, canaryOf) }
