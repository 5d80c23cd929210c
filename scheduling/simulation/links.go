package simulation

import (
	"fmt"
	"time"
)

// Links is what the keys and values of a prompt take from the replica that computed them to
// the one that decodes. A replica sends and receives at full speed at once, and shares either
// equally among its transfers. The zero value is 200 Gb/s everywhere, and Llama-3.1-8B.
type Links struct {
	// Setup is what a transfer takes before its first byte. Default 5 ms; negative: nothing.
	Setup time.Duration
	// Handshake is what the first transfer of a pair of replicas takes besides, and with it
	// those that begin meanwhile. NIXL takes about 5 s. Default 0.
	Handshake time.Duration
	// BytesPerToken of the prompt. Default 131072, that of Llama-3.1-8B in 16 bits.
	BytesPerToken int
	// BytesPerSecond of each port of a replica. Default 25e9, which is 200 Gb/s.
	BytesPerSecond float64
	// Classes are the shorter ways, the shortest first: the first that two replicas are in
	// together is theirs, apart from all else that they send and receive. At most 8.
	Classes []LinkClass
	// Overlap is the part of a transfer, 0 to 1, that is over when the prefill is, as it is
	// where layers or chunks are sent once they are computed. It loads no link. Default 0.
	Overlap float64
}

// LinkClass is the links between replicas that have a label in common, such as their host's
// or their rack's.
type LinkClass struct {
	// Label is the key in Replica.Labels. Replicas with the same value, not empty, are in
	// the class together. Required.
	Label string
	// BytesPerSecond of each port of a replica, to all others of the class. Required.
	BytesPerSecond float64
	// Setup is that of Links, for this class. Default: the same; negative: nothing.
	Setup time.Duration
}

// Validate reports the first thing that is wrong with l, by the name of its field.
func (l *Links) Validate() error {
	switch {
	case l.Handshake < 0:
		return fmt.Errorf("Links.Handshake is %v, want at least 0", l.Handshake)
	case l.BytesPerToken < 0:
		return fmt.Errorf("Links.BytesPerToken is %d, want at least 0", l.BytesPerToken)
	case !(l.BytesPerSecond == 0 || l.BytesPerSecond >= 1):
		return fmt.Errorf("Links.BytesPerSecond is %v, want at least 1, or 0 for the default", l.BytesPerSecond)
	case !(l.Overlap >= 0 && l.Overlap <= 1):
		return fmt.Errorf("Links.Overlap is %v, want 0 to 1", l.Overlap)
	case len(l.Classes) > 8:
		return fmt.Errorf("Links.Classes are %d, want at most 8", len(l.Classes))
	}
	for i, c := range l.Classes {
		if c.Label == "" || !(c.BytesPerSecond >= 1) {
			return fmt.Errorf("Links.Classes[%d] is %+v, want a Label, and a BytesPerSecond of at least 1", i, c)
		}
	}
	return nil
}

func (l Links) withDefaults() Links {
	l.Setup = durationOr(l.Setup, 5*time.Millisecond)
	if l.BytesPerToken == 0 {
		l.BytesPerToken = 128 << 10
	}
	if l.BytesPerSecond == 0 {
		l.BytesPerSecond = 25e9
	}
	classes := make([]LinkClass, len(l.Classes))
	for i, c := range l.Classes {
		c.Setup = durationOr(c.Setup, l.Setup)
		classes[i] = c
	}
	l.Classes = classes
	return l
}

// class returns the way between two replicas with these labels: an index of Classes, or the
// one behind them.
func (l *Links) class(a, b map[string]string) int {
	for i, c := range l.Classes {
		if v := a[c.Label]; v != "" && v == b[c.Label] {
			return i
		}
	}
	return len(l.Classes)
}

// way returns a class by its index, or what all pairs have that are in none.
func (l *Links) way(class int) LinkClass {
	if class < len(l.Classes) {
		return l.Classes[class]
	}
	return LinkClass{BytesPerSecond: l.BytesPerSecond, Setup: l.Setup}
}
