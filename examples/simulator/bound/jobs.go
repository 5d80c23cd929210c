package bound

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// ErrUnknown is wrapped by the error of a case that has no bound here.
var ErrUnknown = errors.New("bound: not known")

// job is what a job of the run needs at least.
type job struct {
	arrival  time.Duration
	prompt   float64
	compute  float64 // tokens of the prompt that cannot have been cached
	pairs    float64 // of tokens attended to in its prefill
	chunks   float64 // steps that its prefill takes
	decodes  float64 // tokens after the first
	counted  bool
	adapter  string
	content  []simulation.Segment
	complete []simulation.Segment // with the output, if others may contain it
}

// context is the mean that its decodes read.
func (j *job) context() float64 { return j.prompt + (j.decodes+1)/2 }

// draw returns the jobs of a run, in order of arrival.
func draw(c *simulation.Config) ([]job, error) {
	source := c.Workload.Start(c.Seed)
	var all []job
	for {
		j, ok := source.Next()
		if !ok || c.Duration > 0 && j.Arrival > c.Duration || c.Jobs > 0 && len(all) == c.Jobs {
			return all, nil
		}
		if j.Work.Kind != types.Generates {
			return nil, fmt.Errorf("%w: of jobs without tokens", ErrUnknown)
		}
		if _, follows := source.Done(&j, j.Arrival, true); follows {
			return nil, fmt.Errorf("%w: when turns of a session arrive depends on the policy", ErrUnknown)
		}
		one := job{
			arrival: j.Arrival, prompt: float64(j.Prompt()), decodes: float64(j.Output - 1),
			counted: j.Arrival >= c.Warmup, adapter: j.Adapter, content: j.Content, complete: j.Content,
		}
		if j.OutputID != 0 {
			one.complete = append(slices.Clone(j.Content), simulation.Segment{ID: j.OutputID, Tokens: j.Output})
		}
		all = append(all, one)
	}
}

// prefill fills in what is to be computed of each prompt. A block may be cached if a job that
// arrived before had it too; where jobs can overtake each other, any other job.
func prefill(jobs []job, overtake bool, e *engine.Config) {
	cached := make([]int, len(jobs))
	if !e.NoPrefixCache {
		before := prefixes{}
		for i := range jobs {
			cached[i] = before.match(&jobs[i])
			before.add(&jobs[i])
		}
	}
	if overtake && !e.NoPrefixCache {
		after := prefixes{}
		for i := len(jobs) - 1; i >= 0; i-- {
			cached[i] = max(cached[i], after.match(&jobs[i]))
			after.add(&jobs[i])
		}
	}
	for i := range jobs {
		j := &jobs[i]
		blocks := min(cached[i], int(j.prompt)-1) / engine.BlockTokens // the last token is always computed
		hit := float64(blocks * engine.BlockTokens)
		j.compute = j.prompt - hit
		j.pairs = (j.prompt*j.prompt - hit*hit) / 2
		budget := e.MaxBatchedTokens
		j.chunks = float64((int(j.compute) + budget - 1) / budget)
		j.content, j.complete = nil, nil
	}
}

// prefixes are the beginnings of contents, by adapter.
type prefixes map[string]*beginning

// beginning is what follows some content.
type beginning struct {
	next    map[simulation.Segment]*beginning
	longest map[uint64]int // of the segments in next, by ID
}

func (p prefixes) add(j *job) {
	at := p[j.adapter]
	if at == nil {
		at = newBeginning()
		p[j.adapter] = at
	}
	for _, s := range j.complete {
		at.longest[s.ID] = max(at.longest[s.ID], s.Tokens)
		if at.next[s] == nil {
			at.next[s] = newBeginning()
		}
		at = at.next[s]
	}
}

func newBeginning() *beginning {
	return &beginning{map[simulation.Segment]*beginning{}, map[uint64]int{}}
}

// match returns how many tokens a prompt has in common with any of them.
func (p prefixes) match(j *job) (tokens int) {
	at := p[j.adapter]
	for i := 0; i < len(j.content) && at != nil; i++ {
		s := j.content[i]
		tokens += min(s.Tokens, at.longest[s.ID])
		at = at.next[s]
	}
	return tokens
}
