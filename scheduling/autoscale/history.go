package autoscale

import (
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// History is what Desired remembers of one pool from call to call. The zero value remembers nothing. It is small,
// survives a restart as JSON, and the same History decides the same. It is not safe for concurrent use.
type History struct {
	At    time.Time `json:"at,omitzero"`    // of the last call
	Last  int       `json:"last,omitempty"` // recommended then
	Quiet time.Time `json:"quiet,omitzero"` // since when nothing came; zero: something does

	Recent []Past `json:"recent,omitempty"` // the largest that was needed, by parts of the window, oldest first
	Brief  []Past `json:"brief,omitempty"`  // the same of what was wanted for the sake of trends and surprises
	Asked  []Past `json:"asked,omitempty"`  // what was recommended and is not there yet, oldest first

	Step Past `json:"step,omitzero"` // what was there when replicas were added last, or could have been

	Surge   *Surge `json:"surge,omitempty"`  // under way; nil: there is none
	Reserve Past   `json:"reserve,omitzero"` // replicas that are kept for another, and when it was there last

	StartUp float64     `json:"startUp,omitempty"` // seconds, learned; 0: nothing was
	Speed   types.Speed `json:"speed,omitzero"`    // known last

	Slow   float64   `json:"slow,omitempty"`    // arrivals of work, averaged over Tuning.Trend; 0: not known
	KV     float64   `json:"kv,omitempty"`      // part of the KV cache in use, averaged over a moment
	Batch  float64   `json:"batch,omitempty"`   // requests at a server, averaged over a moment
	Each   float64   `json:"each,omitempty"`    // seconds of a full replica that a request takes, averaged
	Bias   float64   `json:"bias,omitempty"`    // by which part more is needed than demand says, learned from targets missed
	Enough time.Time `json:"enough,omitzero"`   // since when as many serve as were recommended; zero: fewer do
	Biased time.Time `json:"biased,omitzero"`   // when Bias grew last
	Met    time.Time `json:"metSince,omitzero"` // since when targets are met
}

// Past is a number of replicas at one time.
type Past struct {
	At       time.Time `json:"at"`
	Replicas int       `json:"replicas"`
}

const (
	// mostGap is the time without a call after which nothing is taken to be known of the meantime.
	mostGap = 2 * time.Minute
	// recentParts is of how many parts a window is made.
	recentParts = 12
	// stepEvery is how often replicas may be added by as much as Tuning.StepUp says.
	stepEvery = 15 * time.Second
	// mostAsked bounds the numbers asked for that are remembered.
	mostAsked = 32
	// leastStartUp and mostStartUp bound what is learned.
	leastStartUp, mostStartUp = 1., 3600.
	// startUpGain is how much one start counts.
	startUpGain = .3
	// moment is over which time readings of servers are averaged.
	moment = 5 * time.Second
)

// begin takes the time of a call, and returns how long after the last one that is. After a gap, and where the clock was
// set back, it goes on with what is there now.
func (h *History) begin(now time.Time, current int) (elapsed time.Duration) {
	elapsed = now.Sub(h.At)
	if h.At.IsZero() || elapsed < 0 || elapsed > mostGap {
		last := current
		if !h.At.IsZero() {
			last = max(current, h.Last)
		}
		keep := *h
		*h = History{Last: last, StartUp: keep.StartUp, Speed: keep.Speed, Bias: keep.Bias, Quiet: keep.Quiet, Reserve: keep.Reserve}
		if h.Reserve.At.After(now) {
			h.Reserve.At = now
		}
		if !h.Quiet.IsZero() { // what came meanwhile is not known
			h.Quiet = h.Quiet.Add(now.Sub(keep.At))
		}
		h.Recent, h.Step = []Past{{now, last}}, Past{now, last}
		elapsed = 0
	}
	h.At = now
	return elapsed
}

// largest notes in a list what is wanted now, and returns the largest of what was within a window.
func (h *History) largest(list *[]Past, want int, window time.Duration) int {
	past, part := *list, window/recentParts
	if n := len(past); n > 0 && h.At.Sub(past[n-1].At) < part {
		past[n-1].Replicas = max(past[n-1].Replicas, want)
	} else {
		past = append(past, Past{h.At, want})
	}
	// A part counts until its last moment is over.
	past = slices.DeleteFunc(past, func(p Past) bool { return h.At.Sub(p.At) >= window+part })
	if extra := len(past) - 2*recentParts; extra > 0 { // the window was made longer
		past = slices.Delete(past, 0, extra)
	}
	*list = past
	most := want
	for _, p := range past {
		most = max(most, p.Replicas)
	}
	return most
}

// base returns what the next step starts from: what there was when the last one began, for as long as that lasts.
func (h *History) base(current int) int {
	if h.At.Sub(h.Step.At) >= stepEvery {
		h.Step = Past{h.At, max(current, h.Last)}
	}
	return h.Step.Replicas
}

// ask notes that replicas were recommended beyond those that there were.
func (h *History) ask(replicas int) {
	if n := len(h.Asked); n > 0 && h.Asked[n-1].Replicas >= replicas || len(h.Asked) == mostAsked {
		return
	}
	h.Asked = append(h.Asked, Past{h.At, replicas})
}

// served learns from how many replicas serve how long those take to start that were asked for, and forgets those that
// never came.
func (h *History) served(ready int, startUp time.Duration) {
	for len(h.Asked) > 0 && h.Asked[0].Replicas <= ready {
		took := min(max(h.At.Sub(h.Asked[0].At).Seconds(), leastStartUp), mostStartUp)
		if h.StartUp == 0 {
			h.StartUp = took
		} else {
			h.StartUp += startUpGain * (took - h.StartUp)
		}
		h.Asked = h.Asked[1:]
	}
	h.Asked = slices.DeleteFunc(h.Asked, func(p Past) bool { return h.At.Sub(p.At) > patience(startUp) })
	if len(h.Asked) == 0 {
		h.Asked = nil
	}
}

// patience is for how long what was asked for is taken to be on its way.
func patience(startUp time.Duration) time.Duration { return max(3*startUp, 10*time.Minute) }

// withdraw forgets what was asked for beyond so many.
func (h *History) withdraw(replicas int) {
	for n := len(h.Asked); n > 0 && h.Asked[n-1].Replicas > replicas; n-- {
		h.Asked = h.Asked[:n-1]
	}
}

// asked is how many replicas are on their way, by what was asked for.
func (h *History) asked(ready int) int {
	if n := len(h.Asked); n > 0 {
		return max(h.Asked[n-1].Replicas-ready, 0)
	}
	return 0
}

// follow moves *v towards now as an average over a time constant does; a v of 0 is not known yet.
func follow(v *float64, now float64, elapsed, over time.Duration) {
	if *v == 0 {
		*v = now
		return
	}
	*v += (1 - math.Exp(-elapsed.Seconds()/over.Seconds())) * (now - *v)
}

// repair makes a History that was read one that Desired could have left.
func (h *History) repair() {
	sane := func(v *float64, most float64) {
		if !(*v >= 0 && *v <= most) {
			*v = 0
		}
	}
	sane(&h.StartUp, mostStartUp)
	sane(&h.Slow, mostFigure)
	sane(&h.KV, 1e3)
	sane(&h.Batch, mostFigure)
	sane(&h.Each, 1e6)
	sane(&h.Bias, mostBias)
	sane(&h.Speed.Token, 1e6)
	sane(&h.Speed.Step, 1e6)
	sane(&h.Speed.Sequence, 1e6)
	if h.Surge != nil {
		sane(&h.Surge.Need, mostFigure)
	}
	h.Last, h.Step.Replicas, h.Reserve.Replicas = max(h.Last, 0), max(h.Step.Replicas, 0), max(h.Reserve.Replicas, 0)
	for _, list := range []*[]Past{&h.Recent, &h.Brief, &h.Asked} {
		if len(*list) > mostAsked {
			*list = slices.Clone((*list)[len(*list)-mostAsked:])
		}
	}
}
