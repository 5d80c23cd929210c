package policies

import (
	"context"
	"fmt"
	"sync"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/types"
)

// This file is rules for requests that ask for other things than text. They matter where there are such.

// Work returns the policies of these: the product's default that knows nothing of media and of work but tokens, and
// published rules, as published and tuned.
func Work() []simulation.Policy {
	return []simulation.Policy{
		{Name: "default-blind", Profile: Default, Sees: blind},
		{Name: "llmd-diffusion", Profile: LLMDDiffusion},
		{Name: "classic+media", Profile: ClassicMedia},
		{Name: "classic+media-tuned", Profile: ClassicMediaTuned},
	}
}

// What a gateway that does not look at media takes one for, in tokens.
const (
	blindImage = 768
	blindAudio = 512
	blindOther = 1024
)

// blind makes a request what it was before anything was known of media and of work: a number of tokens for
// each medium of a kind, and text.
func blind(r *types.Request) {
	p := &r.Prompt
	for _, m := range p.Media {
		p.Tokens -= m.Tokens
	}
	p.Tokens += blindImage*p.Images + blindAudio*p.Audio + blindOther*p.Other
	p.Tokens = max(p.Tokens, 1)
	p.Media, r.Work = nil, types.Work{}
}

// LLMDDiffusion is llm-d's diffusion-load-producer with its scorer (llm-d/llm-d-inference-scheduler, proposed in 2026):
// the endpoint with the least steps x pixels x pictures outstanding, of this gateway; here in latents, of which
// a model has as many for each pixel. A request that does not say is taken for one of a usual size.
func LLMDDiffusion() scheduling.Profile {
	o := &outstanding{at: map[*types.Load]float64{}, of: types.NewKey[*types.Load]("outstanding")}
	return rule("diffusion-load", lowest{"latents", func(_ *types.Request, ep *types.Endpoint) float64 { return o.load(ep) }}, o)
}

// usualDenoise is a picture of 1024 x 1024 in 50 steps with guidance.
const usualDenoise = 100 * 64 * 64

// outstanding is the work of diffusion models that was sent and has not ended. It is a scheduling.Tracker.
type outstanding struct {
	of *types.Key[*types.Load]
	mu sync.Mutex
	at map[*types.Load]float64 // guarded by mu
}

func denoising(req *types.Request) float64 {
	if d := req.Work.Denoise; d.Known() {
		return d.Tokens()
	}
	return usualDenoise
}

func (o *outstanding) load(ep *types.Endpoint) float64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.at[ep.Load]
}

func (o *outstanding) add(load *types.Load, work float64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at[load] += work; o.at[load] <= 0 || load.Retired() {
		delete(o.at, load)
	}
}

// Picked implements scheduling.Tracker.
func (o *outstanding) Picked(req *types.Request, ep *types.Endpoint) {
	if ep.Load != nil {
		o.of.Set(&req.Attrs, ep.Load)
		o.add(ep.Load, denoising(req))
	}
}

// FirstToken implements scheduling.Tracker.
func (o *outstanding) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker.
func (o *outstanding) Finished(req *types.Request, _ *types.Endpoint, _ types.Outcome) {
	if load, ok := o.of.Get(&req.Attrs); ok && load != nil {
		o.of.Set(&req.Attrs, nil)
		o.add(load, -denoising(req))
	}
}

// Forget implements scheduling.Forgetter.
func (o *outstanding) Forget(ep *types.Endpoint) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.at, ep.Load)
}

// ClassicMedia is ClassicInFlight plus llm-d's affinity to media (mm-embeddings-cache-producer): 1 x the part of a request's
// media that were sent to an endpoint before, of the 2048 that it is taken to keep.
func ClassicMedia() scheduling.Profile { return classicMedia(1) }

// ClassicMediaTuned is ClassicMedia with the weight that was best on the tuning seeds of suite/work.json.
func ClassicMediaTuned() scheduling.Profile { return classicMedia(tunedMedia) }

const tunedMedia = 4

func classicMedia(weight float64) scheduling.Profile {
	p := ClassicInFlight()
	p.Scorers = append(p.Scorers, scheduling.Weighted{Name: "media", Scorer: &mediaSent{at: map[*types.Load]*keys{}}, Weight: weight})
	return p
}

// keptMedia is how many media an endpoint is taken to keep: 4096 MiB at 2 MiB each.
const keptMedia = 2048

// mediaSent scores endpoints by the media that were sent there. It is a scheduling.Scorer and Tracker.
type mediaSent struct {
	mu sync.Mutex
	at map[*types.Load]*keys // guarded by mu
}

// keys are the last keptMedia different ones.
type keys struct {
	last map[uint64]uint64 // when each was sent
	now  uint64
}

func (k *keys) add(key uint64) {
	if k.now++; len(k.last) >= keptMedia && k.last[key] == 0 {
		oldest, at := uint64(0), k.now
		for one, when := range k.last {
			if when < at {
				oldest, at = one, when
			}
		}
		delete(k.last, oldest)
	}
	k.last[key] = k.now
}

// Score implements scheduling.Scorer.
func (s *mediaSent) Score(_ context.Context, req *types.Request, eps []*types.Endpoint, scores []float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, ep := range eps {
		scores[i] = s.part(req, ep)
	}
	return nil
}

// part is that of a request's media that an endpoint has. Caller holds mu.
func (s *mediaSent) part(req *types.Request, ep *types.Endpoint) float64 {
	has, all := 0, 0
	k := s.at[ep.Load]
	for _, m := range req.Prompt.Media {
		if m.Key == 0 {
			continue
		}
		if all++; k != nil && k.last[m.Key] > 0 {
			has++
		}
	}
	return float64(has) / float64(max(all, 1))
}

// Describe implements scheduling.Describer.
func (s *mediaSent) Describe(req *types.Request, ep *types.Endpoint) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%.0f %% of the media", 100*s.part(req, ep))
}

// Picked implements scheduling.Tracker.
func (s *mediaSent) Picked(req *types.Request, ep *types.Endpoint) {
	if len(req.Prompt.Media) == 0 || ep.Load == nil || ep.Load.Retired() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.at[ep.Load]
	if k == nil {
		k = &keys{last: map[uint64]uint64{}}
		s.at[ep.Load] = k
	}
	for _, m := range req.Prompt.Media {
		if m.Key != 0 {
			k.add(m.Key)
		}
	}
}

// FirstToken implements scheduling.Tracker.
func (s *mediaSent) FirstToken(*types.Request, *types.Endpoint) {}

// Finished implements scheduling.Tracker.
func (s *mediaSent) Finished(*types.Request, *types.Endpoint, types.Outcome) {}

// Forget implements scheduling.Forgetter.
func (s *mediaSent) Forget(ep *types.Endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, ep.Load)
}

var (
	_ scheduling.Tracker   = (*outstanding)(nil)
	_ scheduling.Forgetter = (*outstanding)(nil)
	_ scheduling.Scorer    = (*mediaSent)(nil)
	_ scheduling.Describer = (*mediaSent)(nil)
	_ scheduling.Tracker   = (*mediaSent)(nil)
	_ scheduling.Forgetter = (*mediaSent)(nil)
)
