// Package picker is what a gateway asks of the core, in terms that cross the border of a
// WebAssembly module: bytes and numbers. It is the same natively.
package picker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// Reading is one reading of a model server. What it did not report is nil.
type Reading struct {
	ID      string            `json:"id"`
	Address string            `json:"address"`
	Labels  map[string]string `json:"labels,omitempty"`
	// At is when it was read; zero: the server was not read, and what follows is unknown.
	At      time.Time `json:"at,omitzero"`
	Waiting *float64  `json:"waiting,omitempty"`
	Running *float64  `json:"running,omitempty"`
	KVUsage *float64  `json:"kvUsage,omitempty"`
}

// Choice is where a request goes: the index of an endpoint, those of the fallbacks, and the
// ticket to report by, which is not 0.
type Choice struct {
	Ticket    uint32
	Endpoint  int
	Fallbacks []int
}

// Result is how a request ended.
type Result uint32

const (
	Answered  Result = iota // with a status
	Failed                  // without an answer, or in the midst of one
	Cancelled               // the client has gone
)

// End is how a request ended, as types.Outcome has it.
type End struct {
	Ticket       uint32
	Result       Result
	Status       int32 // of HTTP; 0: there was none
	CachedTokens int32 // of the prompt; below 0: not known
	OutputTokens int32 // below 0: not known
}

// Picker is for one goroutine at a time, as a module of WebAssembly has one.
type Picker struct {
	scheduler *scheduling.Scheduler
	list      *scheduling.EndpointList
	open      map[uint32]*scheduling.Decision
	last      uint32 // ticket
}

// New returns a Picker that decides by plugins.Default. now is its clock.
func New(seed uint64, now func() time.Time) *Picker {
	profile := plugins.Default()
	profile.Seed, profile.Now = seed, now
	scheduler := scheduling.Must(scheduling.New(profile))
	return &Picker{scheduler: scheduler, list: scheduling.NewEndpointList(scheduler), open: map[uint32]*scheduling.Decision{}}
}

// SetEndpoints takes the whole list of endpoints, by their newest readings. One with the
// address of one that was there before is the same. The error names an address that is there
// twice.
func (p *Picker) SetEndpoints(readings []Reading) error {
	specs := make([]types.Endpoint, len(readings))
	for i, r := range readings {
		specs[i] = types.Endpoint{ID: r.ID, Address: r.Address, Labels: r.Labels}
		if !r.At.IsZero() {
			specs[i].Metrics = types.Metrics{UpdatedAt: r.At, Waiting: gauge(r.Waiting), Running: gauge(r.Running), KVUsage: gauge(r.KVUsage)}
		}
	}
	_, err := p.list.Set(specs)
	return err
}

func gauge(v *float64) types.Gauge { return types.Known(*cmp.Or(v, new(math.NaN()))) }

func count(n int32) types.Gauge {
	if n < 0 {
		return types.Gauge{}
	}
	return types.Known(float64(n))
}

// parse reads a request as its path's API has it. The body is the request's from then on.
func parse(path string, body []byte) (*types.Request, error) {
	req := new(types.Request)
	_, err := openai.Parse(openai.APIOf(path), "application/json", bytes.Clone(body), req, openai.Limits{})
	return req, err
}

// Schedule decides where a request goes and books it there. The error's text is for a client.
func (p *Picker) Schedule(path string, body []byte) (Choice, error) {
	req, err := parse(path, body)
	if err != nil {
		return Choice{}, err
	}
	endpoints := p.list.Endpoints()
	decision, err := p.scheduler.Schedule(context.Background(), req, endpoints)
	if err != nil {
		return Choice{}, err
	}
	p.last++
	p.open[p.last] = decision
	choice := Choice{Ticket: p.last, Endpoint: slices.Index(endpoints, decision.Endpoint)}
	for _, ep := range decision.Fallbacks {
		choice.Fallbacks = append(choice.Fallbacks, slices.Index(endpoints, ep))
	}
	return choice, nil
}

// Explain returns why Schedule would decide as it would now, as a table.
func (p *Picker) Explain(path string, body []byte) (string, error) {
	req, err := parse(path, body)
	if err != nil {
		return "", err
	}
	explanation, err := p.scheduler.Explain(context.Background(), req, p.list.Endpoints())
	return explanation.String(), err
}

// FirstToken reports that a request has had its first token just now.
func (p *Picker) FirstToken(ticket uint32) {
	if decision := p.open[ticket]; decision != nil {
		decision.FirstToken()
	}
}

// Done reports how a request ended. Each ticket counts once.
func (p *Picker) Done(e End) {
	if decision := p.open[e.Ticket]; decision != nil {
		delete(p.open, e.Ticket)
		out := types.Outcome{Status: int(e.Status), Cancelled: e.Result == Cancelled}
		out.Usage = types.Usage{CachedTokens: count(e.CachedTokens), CompletionTokens: count(e.OutputTokens)}
		if e.Result == Failed {
			out.Err = errors.New("picker: the host saw no answer, or a part of one")
		}
		decision.Done(out)
	}
}

// Open returns how many tickets are out.
func (p *Picker) Open() int { return len(p.open) }
