package admission

import (
	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/types"
)

// usualDenoise is what a request for a picture is taken to be that does not say how much it asks for, in tokens of
// latents times passes: 1,024 x 1,024 pixels in 50 steps.
const usualDenoise = 50 * 4096

// mostDenoise bounds what one request is charged.
const mostDenoise = 1e12

// amount is how much a request asks for: a batch of texts all of its tokens and no output, a picture what a diffusion
// model has to do for it.
func (d *desk) amount(req *types.Request) fair.Amount {
	w := &req.Work
	a := fair.Amount{Prompt: req.Prompt.Tokens, MaxOutput: req.MaxTokens, Output: w.Output}
	switch w.Kind {
	case types.Pools:
		a.Silent = true
	case types.Denoises:
		a.Silent, a.Beside = true, d.o.DenoiseWeight*denoise(w)
	}
	return a
}

// denoise is how many tokens of latents go through a diffusion model.
func denoise(w *types.Work) float64 {
	if w.Kind != types.Denoises {
		return 0
	}
	if !w.Denoise.Known() {
		return usualDenoise
	}
	return min(w.Denoise.Tokens(), mostDenoise)
}

// teaches reports whether how long an answer is says anything of how long the next ones are.
func teaches(w *types.Work) bool {
	return w.Output <= 0 && (w.Kind == types.Generates || w.Kind == types.Converses)
}
