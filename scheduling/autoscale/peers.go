package autoscale

import (
	crand "crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/inferpick/inferpick/types"
)

// This file is what gateways say to each other, by HTTPPeers or NotePeers.

const (
	// ownVersion is the version of Own that this gateway says and understands.
	ownVersion = 1
	// DefaultKeepAnswers is for how long what a peer has said stands for what it does not say.
	DefaultKeepAnswers = 10 * time.Second

	mostKeepAnswers = 5 * time.Minute
	mostOwnBytes    = 64 << 20
	mostSignals     = 10_000 // of one gateway
	mostGateway     = 128    // bytes of its name
	mostName        = 512    // bytes of the name of a pool, a model or a variant
	mostCount       = 1e12   // of requests and tokens
	mostReplicas    = 1e6
)

// newName returns a name that no other gateway has.
func newName() string { return crand.Text() }

// ParseOwn reads an Own from JSON. Fields that are not known are left out, and figures that are left out unknown, as
// gateways of several versions run side by side while they are updated. Another version of the form, figures that
// cannot be, and what is said twice, are errors.
func ParseOwn(data []byte) (Own, error) {
	var o Own
	if err := json.Unmarshal(data, &o); err != nil {
		return Own{}, fmt.Errorf("autoscale: what a gateway says: %w", err)
	}
	if err := o.check(); err != nil {
		return Own{}, fmt.Errorf("autoscale: what a gateway says: %w", err)
	}
	return o, nil
}

// check returns what cannot be.
func (o *Own) check() error {
	switch {
	case o.Version != ownVersion:
		return fmt.Errorf("version is %d, want %d", o.Version, ownVersion)
	case o.Gateway == "" || len(o.Gateway) > mostGateway:
		return fmt.Errorf("gateway has %d bytes, want 1 to %d", len(o.Gateway), mostGateway)
	case len(o.Signals) > mostSignals:
		return fmt.Errorf("%d signals are more than %d", len(o.Signals), mostSignals)
	}
	type key struct {
		pool  types.NamespacedName
		model string
	}
	seen := make(map[key]bool, len(o.Signals))
	for i := range o.Signals {
		s := &o.Signals[i]
		k := key{s.Pool, s.Model}
		if err := s.heard(); err != nil {
			return fmt.Errorf("signals[%d]: %w", i, err)
		}
		if seen[k] {
			return fmt.Errorf("signals[%d]: pool %v, model %q is there twice", i, s.Pool, s.Model)
		}
		seen[k] = true
	}
	return nil
}

// heard returns what cannot be in signals that were heard.
func (s *Signals) heard() error {
	if err := s.check(); err != nil {
		return err
	}
	for _, text := range [...]struct{ name, of string }{
		{"pool.namespace", s.Pool.Namespace}, {"pool.name", s.Pool.Name}, {"model", s.Model},
	} {
		if len(text.of) > mostName {
			return fmt.Errorf("%s has %d bytes, want at most %d", text.name, len(text.of), mostName)
		}
	}
	for _, n := range [...]struct {
		name string
		of   int64
	}{
		{"queued", s.Queued}, {"queuedTokens", s.QueuedTokens}, {"running", s.Running},
		{"prefillTokens", s.PrefillTokens}, {"contextTokens", s.ContextTokens}, {"ttft.n", s.TTFT.N}, {"tpot.n", s.TPOT.N},
	} {
		if n.of > mostCount {
			return fmt.Errorf("%s is %d, want at most %g", n.name, n.of, mostCount)
		}
	}
	for _, f := range [...]struct {
		name string
		of   Figure
	}{{"kvUsed", s.KVUsed}, {"ttft.met", s.TTFT.Met}, {"tpot.met", s.TPOT.Met}} {
		if f.of.Known() && f.of > 1.01 {
			return fmt.Errorf("%s is %v, want 0 to 1", f.name, float64(f.of))
		}
	}
	switch {
	case s.MaxWait < 0:
		return fmt.Errorf("maxWait is %d, want at least 0", s.MaxWait)
	case s.Ready > mostReplicas:
		return fmt.Errorf("ready is %d, want at most %g", s.Ready, mostReplicas)
	case s.Starting < -1 || s.Starting > mostReplicas:
		return fmt.Errorf("starting is %d, want -1 to %g", s.Starting, mostReplicas)
	}
	for i := range s.Variants {
		if !s.Variants[i].plausible() {
			return fmt.Errorf("variants[%d] is %+.100v, which cannot be", i, s.Variants[i])
		}
	}
	return nil
}

// plausible reports whether there can be such a variant.
func (v *Variant) plausible() bool {
	return len(v.Name) <= mostName && v.CostPerHour >= 0 && v.CostPerHour <= mostFigure && plausible(v.Speed) &&
		v.Ready >= 0 && v.Ready <= mostReplicas && v.Starting >= -1 && v.Starting <= mostReplicas
}

func plausible(s types.Speed) bool {
	for _, v := range []float64{s.Token, s.Step, s.Sequence} {
		if !(v >= 0 && v <= 1e6) {
			return false
		}
	}
	return true
}

// faded is what a gateway that has gone said, of which a part counts yet: its requests are still at servers for a
// moment, and come to other gateways only then.
func (o Own) faded(part float64) Own {
	all := make([]Signals, len(o.Signals))
	for i, s := range o.Signals {
		for _, n := range []*int64{&s.Queued, &s.QueuedTokens, &s.Running, &s.PrefillTokens, &s.ContextTokens} {
			*n = int64(math.Ceil(float64(*n) * part))
		}
		for _, of := range sums {
			*of(&s) *= Figure(part)
		}
		s.WorkNoise *= Figure(part)
		s.RecentNoise *= Figure(part)
		all[i] = s
	}
	o.Signals = all
	return o
}

// PeerStatus is what there is to say of a peer, for people.
type PeerStatus struct {
	// Peer is the address of HTTPPeers, or the number of NotePeers.
	Peer string
	// Gateway is the Own.Gateway that it said last; empty: it has said nothing that could be read.
	Gateway string
	// Age is how long ago that was, and Gone that it is a peer no more.
	Age  time.Duration
	Gone bool
	// Err says what was wrong with its last answer; nil: nothing.
	Err error
}

// binder is Peers that have to know the Autoscaler that asks them.
type binder interface{ bind(a *Autoscaler) }

// teller is Peers that tell by themselves, and can do so at once.
type teller interface{ tellSoon() }
