package autoscale

import "time"

// Surge is more than the replicas that serve can do, while it lasts.
type Surge struct {
	At    time.Time `json:"at"`            // when it began
	Over  time.Time `json:"over,omitzero"` // since when it seems to be over; zero: it does not
	Ready int       `json:"ready"`         // replicas that served when it began
	Need  float64   `json:"need"`          // replicas that it takes with nothing to spare, the most so far
}

const (
	// surgeWait is how many seconds of work wait for each replica when there is a surge.
	surgeWait = 5.
	// surgeOver is for how long those that served before must do again until it is over.
	surgeOver = 2 * RecentWindow
	// surgeGrowth is by how much what it takes may grow from one look to the next: one figure that is off says little.
	surgeGrowth = 1.05
	// surgeAgain is which part of what is kept must be needed for it to be kept for longer.
	surgeAgain = .8
)

// reserve is how many replicas are kept because of a surge of late that was over before a replica could have started:
// nothing that is ordered when such a one comes helps against it. They are kept for Tuning.Reserve, and for as long
// again each time that it comes.
func (l *law) reserve() int {
	h := l.h
	if !h.Speed.Known() {
		return 0
	}
	need := l.full(l.RecentWork.Or(0))
	l.followSurge(need)
	if need > surgeAgain*float64(h.Reserve.Replicas) {
		h.Reserve.At = l.At
	}
	if l.At.Sub(h.Reserve.At) > l.p.Reserve {
		h.Reserve = Past{}
	}
	return h.Reserve.Replicas
}

// followSurge notes when a surge begins, and what it has taken when it is over.
func (l *law) followSurge(need float64) {
	h, s := l.h, l.h.Surge
	switch {
	case s == nil:
		if l.owed > surgeWait*float64(l.Ready) && need > float64(l.Ready) {
			h.Surge = &Surge{At: l.At, Ready: l.Ready, Need: need}
		}
	case l.At.Sub(s.At) > l.startUp+l.startUp/4: // it stays, and is served by what was ordered
		h.Surge = nil
	case need > float64(s.Ready):
		s.Over = time.Time{}
		s.Need = max(s.Need, min(need, s.Need*surgeGrowth))
	case s.Over.IsZero():
		s.Over = l.At
	case l.At.Sub(s.Over) >= surgeOver:
		h.Reserve = Past{l.At, max(l.whole(s.Need), h.Reserve.Replicas)}
		h.Surge = nil
	}
}
