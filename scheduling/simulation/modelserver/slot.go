package modelserver

import (
	"context"
	"sync/atomic"
	"time"
)

// slot is the diffusion model of a server: it works on one request at a time, and the others wait in the order in
// which they came.
type slot struct {
	scale            float64       // simulated time per real time
	perToken         time.Duration // simulated, of one latent token in one pass
	turn             chan struct{} // has a place for the one at work
	running, waiting atomic.Int64
}

// mostWaiting bounds the jobs for the diffusion model that nobody waits for on a connection.
const mostWaiting = 64

func newSlot(scale float64, perToken time.Duration) *slot {
	return &slot{scale: scale, perToken: perToken, turn: make(chan struct{}, 1)}
}

// denoise is what the diffusion model has to do for a request.
type denoise struct {
	width, height, frames int
	passes                float64 // of the model, for all pictures
}

// latents is the number of tokens in a pass: a patch of 16 x 16 pixels, and of four frames after the first.
func (d denoise) latents() float64 {
	return float64(d.width/16) * float64(d.height/16) * (1 + float64(max(d.frames, 1)-1)/4)
}

// run returns when the work is done, or ctx. While it is under way it calls progress, with 0 to 1.
func (s *slot) run(ctx context.Context, d denoise, progress func(float64)) error {
	s.waiting.Add(1)
	select {
	case s.turn <- struct{}{}:
		s.waiting.Add(-1)
	case <-ctx.Done():
		s.waiting.Add(-1)
		return ctx.Err()
	}
	s.running.Add(1)
	defer func() {
		s.running.Add(-1)
		<-s.turn
	}()
	const parts = 20
	took := time.Duration(d.passes * d.latents() * float64(s.perToken) / s.scale)
	began := time.Now()
	for i := range parts {
		progress(float64(i) / parts)
		timer := time.NewTimer(time.Until(began.Add(took * time.Duration(i+1) / parts)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
	return nil
}
