package simulation

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// Scaling is a fleet whose number of replicas follows a Scaler. Those of Config.Fleet serve from the beginning; there
// may be none.
type Scaling struct {
	// Scaler makes what decides, anew for each run. Required.
	Scaler func() (Scaler, error)
	// Template is what a new replica is; it has no Name and no Role. Required if it is not to be the default.
	Template Replica
	// Every is how often the Scaler is asked. Default 15 s, which is how often Kubernetes does so.
	Every time.Duration
	// Sample is how often a Sampler looks. Default 1 s.
	Sample time.Duration
	// Min and Max bound the number of replicas. Defaults 0 and 100.
	Min, Max int
	// Startup is how long a new replica takes until it serves: uniformly between the two. Default 60 to 300 s.
	Startup Span
	// Grace is after how long a replica that was removed is killed with what it has. Default 0: it never is.
	Grace time.Duration
	// Victim says which replica is removed. Default: Youngest.
	Victim Victim
}

// Span is a range of durations.
type Span struct{ From, To time.Duration }

// Victim says which replica is removed when there are too many. Those that do not serve yet always go first, the last
// ordered before the others, as a ReplicaSet does it.
type Victim uint8

const (
	// Youngest is that which began to serve last: what a ReplicaSet removes where pods have no deletion cost, are on
	// nodes of their own, and differ in age by more than a factor of two.
	Youngest Victim = iota
	// LeastLoaded is that with the fewest jobs, and of those the youngest: what a ReplicaSet removes where somebody
	// keeps the deletion cost of pods at what they have under way.
	LeastLoaded
)

// Scaler says how many replicas there should be. It is called by one goroutine.
type Scaler interface {
	// Scale returns the number wanted of replicas that serve, or will. Those that were removed and are not gone yet are
	// not among them. It keeps nothing of o.
	Scale(o *Observation) int
}

// Waker is a Scaler that hears at once of a job that waits where there are to be no replicas.
type Waker interface {
	Scaler
	// Wake returns the number wanted, as Scale does.
	Wake(o *Observation) int
}

// Sampler is a Scaler that looks more often than it is asked.
type Sampler interface {
	Scaler
	// Sample looks, and changes nothing. It keeps nothing of o.
	Sample(o *Observation)
}

// Watcher is a Scaler that hears of what happens at gateways.
type Watcher interface {
	Scaler
	// Watch is called for each gateway before it is made, to put hooks into its profile, and into its options of
	// admission, which are nil if it has none.
	Watch(gateway string, p *scheduling.Profile, o *admission.Options)
}

// Observation is what may be known of a pool from outside: from metrics of servers as gateways read them, from those
// of gateways, and from the API of a cluster. What is not known is NaN.
type Observation struct {
	Now time.Time
	// At is Now since the start of the run.
	At time.Duration
	// Target is how many replicas there are to be: the last answer, within its bounds. Ready serve, Starting do not yet,
	// and Draining were removed and have jobs.
	Target, Ready, Starting, Draining int
	Min, Max                          int
	// Servers are the replicas that serve, in the order in which they began to.
	Servers []Server
	// Queued jobs wait at gateways for admission, with QueuedTokens in their prompts, the first of them for Oldest.
	Queued, QueuedTokens int
	Oldest               time.Duration
	// InFlight is how many jobs gateways have sent to servers and not seen ended, those at servers that drain among them.
	InFlight int
	// PrefillTokens and ContextTokens are what the ledgers of gateways have for Servers: tokens of prompts to be computed
	// still, without those taken to be cached, and those of jobs under way.
	PrefillTokens, ContextTokens int64
	// Saturation is that of admission controls, the mean of all gateways.
	Saturation float64
	// Arrived, Answered and Tokens count, since the start, jobs that came, jobs that were served, and tokens of prompts
	// that came.
	Arrived, Answered, Tokens int
	// Gateways are those that live.
	Gateways []Observed

	ttft, tpot *recent
}

// Server is a replica that serves, by the last reading of a gateway.
type Server struct {
	Name             string
	Serves           time.Duration // for so long
	Age              time.Duration // of the reading; 0 if there is none
	Waiting, Running float64
	KVUsage          float64
}

// Observed is one gateway, for a Scaler that asks it. Nothing of it is to be changed.
type Observed struct {
	Name      string
	Admission *admission.Controller // nil: none
	Endpoints []*types.Endpoint
}

// TTFT returns a quantile of the times to the first token, in seconds, that gateways saw within the last window, at most
// ten minutes; NaN if they saw none.
func (o *Observation) TTFT(window time.Duration, q float64) float64 {
	return o.ttft.quantile(o.At-window, q)
}

// TPOT returns a quantile of the times per output token, in seconds, of the jobs that ended within the last window.
func (o *Observation) TPOT(window time.Duration, q float64) float64 {
	return o.tpot.quantile(o.At-window, q)
}

// recent is what was seen lately, in the order of time.
type recent struct {
	at     []time.Duration
	value  []float64
	sorted []float64 // memory
}

// keptFor is how long it is.
const keptFor = 10 * time.Minute

func (r *recent) add(at time.Duration, value time.Duration) {
	if n := len(r.at); n >= 1024 && r.at[n/2] < at-keptFor {
		r.at, r.value = slices.Delete(r.at, 0, n/2), slices.Delete(r.value, 0, n/2)
	}
	r.at, r.value = append(r.at, at), append(r.value, value.Seconds())
}

func (r *recent) quantile(since time.Duration, q float64) float64 {
	i, _ := slices.BinarySearch(r.at, since)
	r.sorted = append(r.sorted[:0], r.value[i:]...)
	if len(r.sorted) == 0 {
		return math.NaN()
	}
	slices.Sort(r.sorted)
	return r.sorted[min(max(int(q*float64(len(r.sorted))), 0), len(r.sorted)-1)]
}

// ScalingReport is what scaling came to. What it counts over time is from the end of Config.Warmup until jobs stopped
// arriving; how many of them met their SLO is Report.Goodput.
type ScalingReport struct {
	// Hours is the replica-hours, of each from its order until it was gone.
	Hours float64
	// Ordered and Removed count replicas.
	Ordered, Removed int
	// Killed counts replicas that were removed and had jobs when Scaling.Grace was over.
	Killed int
	// ColdStarts is how often a replica began to serve while none did.
	ColdStarts int
	// Reversals is how often the number wanted began to fall after it had risen, or to rise after it had fallen.
	Reversals int
	// Peak is the most replicas that there were to be.
	Peak int
	// Every is the step of Timeline, seconds.
	Every float64
	// Timeline has what was at each moment at which the Scaler was asked, from the start of the run on.
	Timeline []ScalingSample
}

// ScalingSample is what was at one moment. Arrived jobs came in the time Every before it, and Met of them met their SLO,
// later.
type ScalingSample struct {
	At                                        float64 // seconds
	Target, Ready, Starting, Draining, Queued int
	Arrived, Met                              int
}

// Recovery returns how many seconds after a moment the part of the jobs that meet their SLO is share again, at the
// least, and stays so for a minute; -1 if it never is. Times in which no job came do not count against it.
func (r *ScalingReport) Recovery(after time.Duration, share float64) float64 {
	from := after.Seconds()
	minute := max(1, int(60/r.Every))
	for i := range r.Timeline {
		begins := r.Timeline[i].At - r.Every
		if begins < from || i+minute > len(r.Timeline) {
			continue
		}
		if !slices.ContainsFunc(r.Timeline[i:i+minute], func(s ScalingSample) bool {
			return float64(s.Met) < share*float64(s.Arrived)
		}) {
			return begins - from
		}
	}
	return -1
}

// validate reports the first thing that is wrong with s.
func (s *Scaling) validate(f Fleet) error {
	switch {
	case s.Scaler == nil:
		return fmt.Errorf("simulation: Scaling.Scaler is required")
	case s.Every < 0 || s.Sample < 0 || s.Grace < 0 || s.Startup.From < 0 || s.Startup.To < s.Startup.From:
		return fmt.Errorf("simulation: Scaling has Every %v, Sample %v, Grace %v and Startup %v, want at least 0, and no span that ends before it begins", s.Every, s.Sample, s.Grace, s.Startup)
	case s.Min < 0 || s.Max < 0 || s.Max > 0 && s.Max < s.Min:
		return fmt.Errorf("simulation: Scaling has Min %d and Max %d, want at least 0, and Max not below Min", s.Min, s.Max)
	case s.Victim > LeastLoaded:
		return fmt.Errorf("simulation: Scaling.Victim is %d", s.Victim)
	case s.Template.Name != "":
		return fmt.Errorf("simulation: Scaling.Template has the name %q, want none", s.Template.Name)
	}
	for _, r := range append(slices.Clone(f.Replicas), s.Template) {
		if r.Role != "" {
			return fmt.Errorf("simulation: a replica has role %q, want none where there is Scaling", r.Role)
		}
	}
	if err := s.Template.validate(); err != nil {
		return fmt.Errorf("simulation: Scaling.Template%w", err)
	}
	return nil
}

func (s Scaling) withDefaults() Scaling {
	if s.Every == 0 {
		s.Every = 15 * time.Second
	}
	if s.Sample == 0 {
		s.Sample = time.Second
	}
	if s.Max == 0 {
		s.Max = max(s.Min, 100)
	}
	if s.Startup == (Span{}) {
		s.Startup = Span{time.Minute, 5 * time.Minute}
	}
	return s
}
