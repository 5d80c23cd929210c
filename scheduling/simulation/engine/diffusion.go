package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Denoiser holds how long a diffusion model takes on one kind of machine: for a pass of N latents
//
//	o + a·N + b·N²
//
// and at the end c for each pixel that is decoded. The constants come from published times; they are
// good for comparing policies, never to be quoted as measured.
type Denoiser struct {
	// Name identifies it, as in "qwen-image-h100".
	Name string

	Fixed      float64 // o: seconds per pass
	PerLatent  float64 // a: seconds per latent
	PerLatent2 float64 // b: seconds per square of latents, which all attend to each other
	PerPixel   float64 // c: seconds per decoded pixel

	// Speed is the relative speed of this machine: 2 halves every duration. Zero means 1.
	Speed float64
}

// QwenImageH100 is Qwen-Image on one H100, as vLLM-Omni serves it: 5 s for a picture of 512 x 512 in 50
// steps with guidance, which has been measured; how much more larger ones take follows from the model's
// sizes: 22 s for 1024 x 1024.
func QwenImageH100() Denoiser {
	return Denoiser{Name: "qwen-image-h100", Fixed: 2e-3, PerLatent: 45e-6, PerLatent2: 1.84e-9, PerPixel: 1e-7}
}

// Wan22A800 is Wan2.2-TI2V-5B on one A800, fitted to what was measured of films at 832 x 480 in 50 steps
// with guidance: 7.8, 20.2 and 34.5 s for 17, 49 and 81 frames. It grows little faster than they do.
func Wan22A800() Denoiser {
	return Denoiser{Name: "wan2.2-ti2v-5b-a800", PerLatent: 9.7e-6, PerLatent2: 2.2e-11, PerPixel: 1e-8}
}

// Denoisers returns the named denoisers, for a program that lets its user choose one by name.
func Denoisers() []Denoiser { return []Denoiser{QwenImageH100(), Wan22A800()} }

// Seconds is how long a job takes that has the server to itself.
func (d *Denoiser) Seconds(passes, latents, pixels float64) float64 {
	return (float64(passes*d.pass(latents)) + float64(d.PerPixel*pixels)) / cmp.Or(d.Speed, 1)
}

// pass is how long a pass takes, before Speed. Each product is rounded before it is added: see
// Calibration.stepTime.
func (d *Denoiser) pass(latents float64) float64 {
	return d.Fixed + float64(d.PerLatent*latents) + float64(float64(d.PerLatent2*latents)*latents)
}

// DiffusionConfig is a [Diffusion] engine. The zero value is Qwen-Image on one H100, one job at a time.
type DiffusionConfig struct {
	// Denoiser is the model and the machine. Default: QwenImageH100.
	Denoiser Denoiser
	// Batch is how many jobs of the same shape, with equally many passes, are computed together at most, 1 to 64.
	// Those that join come out of the queue when the first of them begins. Default 1.
	Batch int
	// More is what each job of a batch but the first adds to a pass, as a part of what one alone takes, 0 to 1.
	// Default 0.9: passes are bound by arithmetic.
	More float64
	// Noise makes the durations of steps random. Default: none.
	Noise Noise
	// Silent says that it publishes no metrics, as some servers do.
	Silent bool
}

func (c *DiffusionConfig) complete() error {
	if c.Denoiser == (Denoiser{}) {
		c.Denoiser = QwenImageH100()
	}
	d := &c.Denoiser
	d.Speed = cmp.Or(d.Speed, 1)
	for _, v := range []float64{d.Fixed, d.PerLatent, d.PerLatent2, d.PerPixel} {
		if !(v >= 0 && v <= 1e3) {
			return fmt.Errorf("engine: Denoiser is %+v: want seconds, 0 to 1000", *d)
		}
	}
	if !(d.Speed > 0 && d.Speed <= 1e6) {
		return fmt.Errorf("engine: Denoiser.Speed is %v: want above 0", d.Speed)
	}
	c.Batch, c.More = cmp.Or(c.Batch, 1), cmp.Or(c.More, .9)
	if c.Batch < 1 || c.Batch > 64 || !(c.More >= 0 && c.More <= 1) {
		return fmt.Errorf("engine: Batch is %d and More %v: want 1 to 64 and 0 to 1", c.Batch, c.More)
	}
	return c.Noise.check()
}

// Diffusion is one simulated server of a diffusion model. It is driven as an [Engine] is, and computes jobs
// one after the other, in the order in which they came: pass by pass, so that one that is
// cancelled ends soon, and then the decoder. All of a job comes out at its end, in one event, the first and the
// last. Not for use from several goroutines.
type Diffusion struct {
	cfg       DiffusionConfig
	noise     noise
	waiting   []*denoising
	running   []*denoising
	done      float64 // passes of those
	end       time.Duration
	events    []Event
	counters  Metrics
	published [2]Metrics
	newer     int
}

// denoising is a job inside a Diffusion.
type denoising struct {
	id                      uint64
	passes, latents, pixels float64
}

// Denoise is what a diffusion model is asked to compute. See types.Denoise.
type Denoise struct {
	Passes  float64 // at least 1
	Latents float64 // in each, at least 1
	Pixels  float64 // decoded at the end, at least 0
}

// NewDiffusion returns an idle engine.
func NewDiffusion(cfg DiffusionConfig) (*Diffusion, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Diffusion{cfg: cfg, noise: newNoise(cfg.Noise)}, nil
}

// Config returns the configuration with its defaults filled in.
func (e *Diffusion) Config() DiffusionConfig { return e.cfg }

// maxDenoise bounds what one job asks for: some hours of work.
const maxDenoise = 1e9

// Submit hands a job to the engine. The next Step sees it.
func (e *Diffusion) Submit(id uint64, d Denoise) error {
	if !(d.Passes >= 1 && d.Passes <= maxDenoise && d.Latents >= 1 && d.Latents <= maxDenoise && d.Pixels >= 0 && d.Pixels <= 1e12) {
		return fmt.Errorf("%w: %+v", ErrInvalid, d)
	}
	if e.find(id) {
		return fmt.Errorf("%w: ID %d is in use", ErrInvalid, id)
	}
	e.waiting = append(e.waiting, &denoising{id, d.Passes, d.Latents, d.Pixels})
	return nil
}

func (e *Diffusion) find(id uint64) bool {
	is := func(x *denoising) bool { return x.id == id }
	return slices.ContainsFunc(e.waiting, is) || slices.ContainsFunc(e.running, is)
}

// Cancel ends a job before its time, and reports whether there was one. The step under way is carried out.
func (e *Diffusion) Cancel(id uint64) bool {
	if !e.find(id) {
		return false
	}
	is := func(x *denoising) bool { return x.id == id }
	e.waiting = slices.DeleteFunc(e.waiting, is)
	if e.running = slices.DeleteFunc(e.running, is); len(e.running) == 0 {
		e.done = 0
	}
	e.counters.Cancelled++
	return true
}

// Step carries out the next pass, and the decoder after the last one, from time now on. It reports false, and
// takes no time, if there is nothing to compute. Step.Tokens is the latents in the pass.
func (e *Diffusion) Step(now time.Duration) (Step, bool) {
	now = max(now, e.end)
	e.events = e.events[:0]
	if len(e.running) == 0 {
		e.begin()
	}
	if len(e.running) == 0 {
		e.publish(now)
		return Step{}, false
	}
	n, first := float64(len(e.running)), e.running[0]
	passes := min(e.stride(first), first.passes-e.done)
	seconds := passes * float64(e.cfg.Denoiser.pass(first.latents)*(1+float64(e.cfg.More*(n-1))))
	e.done += passes
	last := e.done >= first.passes
	if last {
		for _, x := range e.running {
			seconds += float64(e.cfg.Denoiser.PerPixel * x.pixels)
		}
	}
	d := e.noise.apply(time.Duration(math.Round(seconds / e.cfg.Denoiser.Speed * 1e9)))
	e.end = now + d
	e.counters.Steps++
	step := Step{Duration: d, Sequences: len(e.running), Tokens: int(n * first.latents)}
	if last {
		for _, x := range e.running {
			e.events = append(e.events, Event{ID: x.id, First: true, Last: true})
			e.counters.Finished++
		}
		e.running, e.done = e.running[:0], 0
	}
	step.Events = e.events
	e.publish(e.end)
	return step, true
}

// stride is how many passes are carried out in one Step: so many that it takes a quarter of a second at
// least, since nobody can tell what is finer.
func (e *Diffusion) stride(x *denoising) float64 {
	each := e.cfg.Denoiser.pass(x.latents) / e.cfg.Denoiser.Speed
	return max(1, math.Ceil(min(.25/max(each, 1e-9), x.passes)))
}

// begin takes the first job out of the queue, and those behind it that can be computed with it.
func (e *Diffusion) begin() {
	left := e.waiting[:0]
	for _, x := range e.waiting {
		if n := len(e.running); n == 0 || n < e.cfg.Batch && x.latents == e.running[0].latents && x.passes == e.running[0].passes {
			e.running = append(e.running, x)
		} else {
			left = append(left, x)
		}
	}
	clear(e.waiting[len(left):])
	e.waiting = left
}

// Metrics returns what the engine had published by time now, as Engine.Metrics does.
func (e *Diffusion) Metrics(now time.Duration) Metrics {
	if m := e.published[e.newer]; m.At <= now {
		return m
	}
	return e.published[1-e.newer]
}

func (e *Diffusion) publish(at time.Duration) {
	e.newer = 1 - e.newer
	m := &e.published[e.newer]
	*m = e.counters
	m.At, m.Running, m.Waiting = at, len(e.running), len(e.waiting)
}

// Check returns an error if the books do not balance. It is meant for tests.
func (e *Diffusion) Check() error {
	if len(e.running) > e.cfg.Batch {
		return fmt.Errorf("engine: a batch of %d, at most %d", len(e.running), e.cfg.Batch)
	}
	for _, x := range e.running {
		if x.latents != e.running[0].latents || x.passes != e.running[0].passes || e.done >= x.passes {
			return errors.New("engine: a batch of jobs that differ, or are done")
		}
	}
	return nil
}
