package autoscale

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Signals is what is known of the load on a pool, or of one model of it, at one time: by one gateway, or by several
// together (see Merge). Counts are of what the gateways themselves have queued and sent; figures of servers are as
// these report them, whoever sent the requests.
//
// Work is measured in seconds of one replica of mean speed: a prompt token takes Speed.Token of them, and a token of
// output Speed.Sequence, which is what it adds to a step. What a step takes that serves nobody, Speed.Step, is no
// work, but bounds how much of it a replica can do at a given time per token.
type Signals struct {
	Pool  types.NamespacedName `json:"pool"`
	Model string               `json:"model,omitempty"` // public name; empty: all of the pool
	At    time.Time            `json:"at"`

	// What waits and what runs.
	Queued        int64         `json:"queued"`        // requests that wait to be let in, or for an endpoint
	QueuedTokens  int64         `json:"queuedTokens"`  // of their prompts
	OldestWait    time.Duration `json:"oldestWait"`    // nanoseconds
	MaxWait       time.Duration `json:"maxWait"`       // how long a request may wait at most, nanoseconds; 0: not known
	Running       int64         `json:"running"`       // requests at servers
	PrefillTokens int64         `json:"prefillTokens"` // prompt tokens that servers still have to compute
	ContextTokens int64         `json:"contextTokens"` // that requests at servers hold, or will

	// Backlog is the seconds that one replica takes to compute the prompts that are queued and owed.
	Backlog Figure `json:"backlogSeconds"`

	// What servers say: means over the ready ones. Only of a pool.
	KVUsed     Figure `json:"kvUsed"`         // part of the KV cache in use, 0..1
	Batch      Figure `json:"batch"`          // requests in the batch of a server
	Waiting    Figure `json:"engineWaiting"`  // requests queued in a server
	Slots      Figure `json:"maxConcurrency"` // requests that a server can run at once, by types.Capacity
	KVTokens   Figure `json:"kvTokens"`       // that fit in the KV cache of a server
	Saturation Figure `json:"saturation"`     // as admission control has it, 0..1

	// What comes and goes, of late. Refused requests have come, too, unless for a budget.
	Arrivals      Figure `json:"arrivals"`      // requests per second
	ArrivalTokens Figure `json:"arrivalTokens"` // prompt tokens per second
	// ArrivalCompute is the part of them that is not expected in prefix caches.
	ArrivalCompute Figure `json:"arrivalCompute"`
	ArrivalOutput  Figure `json:"arrivalOutput"`      // tokens of output per second that are expected of what comes
	ArrivalWork    Figure `json:"arrivalWork"`        // seconds of work per second, over RateWindow
	RecentWork     Figure `json:"recentArrivalWork"`  // the same over RecentWindow
	WorkNoise      Figure `json:"arrivalWorkNoise"`   // standard error of ArrivalWork by chance alone
	RecentNoise    Figure `json:"recentArrivalNoise"` // the same of RecentWork
	ServedWork     Figure `json:"servedWork"`         // seconds of work per second of requests that ended
	OutputTokens   Figure `json:"outputTokens"`       // per second, of requests that ended
	Refused        Figure `json:"refused"`            // of the arrivals, those that were refused, per second
	Duration       Figure `json:"duration"`           // seconds that requests are at a server, in the mean

	TTFT Latency `json:"ttft"` // of late, against SLOs
	TPOT Latency `json:"tpot"`

	// Speed is that of a replica in the mean. Zero: not known yet.
	Speed types.Speed `json:"speed"`

	// Replicas. Only of a pool.
	Ready int `json:"ready"` // that serve
	// Starting is how many replicas are there that do not serve yet. Below 0: nobody knows, and those that were asked
	// for of late are taken to be on their way.
	Starting int       `json:"starting"`
	Variants []Variant `json:"variants,omitempty"` // by name, if the pool has several kinds of replicas

	// Idle is for how long nothing has come, been queued or run. Below 0: nothing has since the gateway began.
	Idle time.Duration `json:"idle"` // nanoseconds

	Gateways int `json:"gateways"`          // that answered for this
	Missing  int `json:"missing,omitempty"` // that should have, and did not
}

// Latency is a quantile over the last minute, next to what requests ask for.
type Latency struct {
	P90    Figure `json:"p90"`    // seconds
	Target Figure `json:"target"` // seconds that requests ask for, or else the Policy, in the mean
	Met    Figure `json:"met"`    // part of the requests that met their target
	N      int64  `json:"n"`      // requests that this is of
}

// Variant is the replicas of one kind in a pool.
type Variant struct {
	Name        string      `json:"name"`
	Ready       int         `json:"ready"`
	Starting    int         `json:"starting"`    // below 0: nobody knows
	CostPerHour float64     `json:"costPerHour"` // 0: not known
	Speed       types.Speed `json:"speed"`       // zero: not known
}

// The times over which a Collector averages what comes.
const (
	RateWindow   = 60 * time.Second
	RecentWindow = 10 * time.Second
)

// Merge returns the signals of several gateways in front of one pool as one: own are those of each that answered, for
// the same pool and model, at least one, and missing is how many should have answered and did not.
func Merge(own []Signals, missing int) Signals { return mergeSignals(own, missing) }

// NewSignals returns signals of a pool, or of one model of it, of which nothing is known: who makes Signals by hand
// begins with it.
func NewSignals(pool types.NamespacedName, model string, at time.Time) Signals {
	s := Signals{Pool: pool, Model: model, At: at, Gateways: 1, Starting: -1, Idle: -1}
	for _, f := range s.figures() {
		*f.Figure = Unknown()
	}
	return s
}

// UnmarshalJSON implements json.Unmarshaler: what is left out is unknown.
func (s *Signals) UnmarshalJSON(data []byte) error {
	type signals Signals // without this method
	read := signals(NewSignals(types.NamespacedName{}, "", time.Time{}))
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	*s = Signals(read)
	return nil
}

// namedFigure is a figure with its name in JSON.
type namedFigure struct {
	name string
	*Figure
}

// figures are all that may be unknown.
func (s *Signals) figures() [25]namedFigure {
	return [...]namedFigure{
		{"backlogSeconds", &s.Backlog}, {"kvUsed", &s.KVUsed}, {"batch", &s.Batch}, {"engineWaiting", &s.Waiting},
		{"maxConcurrency", &s.Slots}, {"kvTokens", &s.KVTokens}, {"saturation", &s.Saturation}, {"arrivals", &s.Arrivals},
		{"arrivalTokens", &s.ArrivalTokens}, {"arrivalCompute", &s.ArrivalCompute}, {"arrivalOutput", &s.ArrivalOutput},
		{"arrivalWork", &s.ArrivalWork}, {"recentArrivalWork", &s.RecentWork}, {"arrivalWorkNoise", &s.WorkNoise},
		{"recentArrivalNoise", &s.RecentNoise}, {"servedWork", &s.ServedWork}, {"outputTokens", &s.OutputTokens},
		{"refused", &s.Refused}, {"duration", &s.Duration},
		{"ttft.p90", &s.TTFT.P90}, {"ttft.target", &s.TTFT.Target}, {"ttft.met", &s.TTFT.Met},
		{"tpot.p90", &s.TPOT.P90}, {"tpot.target", &s.TPOT.Target}, {"tpot.met", &s.TPOT.Met},
	}
}

// check returns what cannot be in signals that another gateway told of.
func (s *Signals) check() error {
	for _, f := range s.figures() {
		if v := *f.Figure; v.Known() && (v < 0 || v > mostFigure) {
			return fmt.Errorf("%s is %v, want 0 to %g", f.name, float64(v), float64(mostFigure))
		}
	}
	for name, n := range map[string]int64{
		"queued": s.Queued, "queuedTokens": s.QueuedTokens, "running": s.Running, "prefillTokens": s.PrefillTokens,
		"contextTokens": s.ContextTokens, "ready": int64(s.Ready), "ttft.n": s.TTFT.N, "tpot.n": s.TPOT.N,
		"oldestWait": int64(s.OldestWait),
	} {
		if n < 0 {
			return fmt.Errorf("%s is %d, want at least 0", name, n)
		}
	}
	for _, v := range []float64{s.Speed.Token, s.Speed.Step, s.Speed.Sequence} {
		if !(v >= 0 && v <= 1e6) {
			return fmt.Errorf("speed is %+v, want seconds", s.Speed)
		}
	}
	if len(s.Variants) > mostVariants {
		return fmt.Errorf("%d variants are more than %d", len(s.Variants), mostVariants)
	}
	return nil
}

const (
	mostFigure   = 1e15
	mostVariants = 1000
)
