package plugins

import (
	"fmt"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// This file is Cost where diffusion models are: what it takes until a picture or a film is done. Until the first
// request for one comes, nothing of it is looked at.

// ExpectedDenoise implements scheduling.DenoiseEstimator.
func (c *Cost) ExpectedDenoise(req *types.Request) float64 {
	d, _ := c.usual.Denoise(c.of(req).model, req.Work.Denoise)
	return d.Tokens()
}

// diffuse notes that there are diffusion models. Caller must hold no lock.
func (c *Cost) diffuse(now cost.Seconds) {
	if c.diffusing.Load() != nil {
		return
	}
	c.learning.Lock()
	d := c.learner.Diffusing()
	first := c.diffusing.CompareAndSwap(nil, &d)
	c.learning.Unlock()
	if !first {
		return
	}
	for _, cell := range c.table.all() {
		if cell != nil {
			c.deriveAnew(cell.server, now)
		}
	}
}

// publishDiffusing publishes what is believed of diffusion models, if there are any. Caller must hold c.learning.
func (c *Cost) publishDiffusing() {
	old := c.diffusing.Load()
	if old == nil && !c.learner.Diffuses() {
		return
	}
	if d := c.learner.Diffusing(); old == nil || *old != d {
		c.diffusing.Store(&d)
	}
}

// placeWork fills in what a question is at one endpoint about media and about what diffusion models have to do.
func (c *Cost) placeWork(r *costed, s *costSeen, at cost.Seconds, p *cost.Place) {
	if r.media != nil {
		p.Encode = r.media.left(s.cell, c.bytesOf(s.blocks))
	}
	if d := c.diffusing.Load(); d != nil {
		b := s.cell.backlog.Load()
		p.Backlog = b.At(at)
		if r.Kind == types.Denoises {
			p.Denoise = b.Takes(d, r.Denoise)
		}
	}
}

// denoiseItems are Items of a request for a picture or a film.
func (c *Cost) denoiseItems(req *types.Request, s *costSeen, p *cost.Place, t *cost.Terms) []scheduling.CostItem {
	first := cost.Seconds(c.model.FirstToken)
	n, _ := s.cell.server.requests()
	return []scheduling.CostItem{
		item("wait", first*t.Wait, fmt.Sprintf("done in %s, %s before it%s", forPeople(t.First), several(n, "request"), backlog(p))),
		item("denoise", first*t.Denoise, c.describeDenoise(req)),
	}
}

// describeDenoise says what a diffusion model has to do, and what of it was not said.
func (c *Cost) describeDenoise(req *types.Request) string {
	asked := &req.Work.Denoise
	d, _ := c.usual.Denoise(c.of(req).model, *asked)
	text := fmt.Sprintf("%.0f passes of %.0f latents", d.Passes, d.Latents)
	switch {
	case asked.Known():
	case asked.Passes > 0:
		text += ", size not said: the usual one taken"
	case asked.Latents > 0:
		text += ", steps not said: as many as usual taken"
	default:
		text += ", neither steps nor size said: the usual ones taken"
	}
	return text
}

// backlog says how long an endpoint has to denoise what is there, if it has.
func backlog(p *cost.Place) string {
	if p.Backlog <= 0 {
		return ""
	}
	return fmt.Sprintf(", %s to denoise", forPeople(p.Backlog))
}
