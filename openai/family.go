package openai

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// Family says what media weigh for models of one kind: how many tokens of the prompt they are. What is not known of a picture or
// a film is taken from the rules, and the result is marked as a guess. The zero value, as every field that is 0, has defaults;
// Parse applies those to every request.
type Family struct {
	// Models are the names of models, as servers know them or as clients ask for them, in any case. One that ends with * stands
	// for all that begin so. One without a slash stands also for names that have it after their last slash.
	Models []string `json:"models"`

	Image     ImageRule     `json:"image"`
	Video     VideoRule     `json:"video"`
	Audio     AudioRule     `json:"audio"`
	Diffusion DiffusionRule `json:"diffusion"`
}

// VideoRule says how many tokens a film is: frames are taken at a rate, and counted as pictures.
type VideoRule struct {
	FPS         float64 `json:"fps"`         // frames taken of a second. Default 2
	MinFrames   int     `json:"minFrames"`   // default 4
	MaxFrames   int     `json:"maxFrames"`   // default 768
	Temporal    int     `json:"temporal"`    // frames that are one picture together. Default 2
	FrameTokens int     `json:"frameTokens"` // of one such picture. Default: by Image, within these bounds:
	FramePixels int     `json:"framePixels"` // pixels of a frame at most, where Image has bounds of pixels. Default: as Image has it
	MinPixels   int     `json:"minPixels"`   // pixels of all frames together at least. Default: as Image has it for each
	MaxPixels   int     `json:"maxPixels"`   // pixels of all frames together at most. Default: as Image has it for each
	MaxTokens   int     `json:"maxTokens"`   // of the film. Default 32768
	Seconds     float64 `json:"seconds"`     // of a film whose length is not known. Default 10
	Size        Size    `json:"size"`        // of a film whose size is not known. Default 640x360
}

// AudioRule says how many tokens sound is.
type AudioRule struct {
	TokensPerSecond float64 `json:"tokensPerSecond"` // default 25
	WindowSeconds   float64 `json:"windowSeconds"`   // sound is filled up to a multiple of it. Default: it is not
	MaxTokens       int     `json:"maxTokens"`       // default 32768
	Seconds         float64 `json:"seconds"`         // of sound whose length is not known. Default 20
}

// DiffusionRule says what a diffusion model does if a request does not say it.
type DiffusionRule struct {
	Steps     int  `json:"steps"`     // default 50
	Passes    int  `json:"passes"`    // runs of the model in a step: 2 with guidance that needs one without the prompt. Default 1
	Latent    int  `json:"latent"`    // side in pixels of what is one token. Default 16
	Size      Size `json:"size"`      // of a picture. Default 1024x1024
	VideoSize Size `json:"videoSize"` // of a film. Default 832x480
	Frames    int  `json:"frames"`    // of a film. Default 81
}

// The default rules count unknown media so.
const (
	ImageTokens = 1024 // an image of 1024 x 1024
	AudioTokens = 500  // 20 seconds
	VideoTokens = 2250 // 10 seconds of 640 x 360
	OtherTokens = 1024 // a file, a part of unknown type; all families count these so
)

var defaultFamily = func() *Family {
	var f Family
	if err := f.setDefaults(); err != nil {
		panic(err) // no value of a caller's is in it
	}
	return &f
}()

// Limits of what a family may say, so that no sum overflows.
const (
	maxFamilyTokens  = 1 << 20
	maxFamilySeconds = 24 * 60 * 60
	maxFamilyFrames  = 100_000
	maxFamilyPixels  = 1 << 30
)

// setDefaults fills in what is 0 and checks the rest.
func (f *Family) setDefaults() error {
	var c check.Checks
	c.Add("image", f.Image.setDefaults())

	v := &f.Video
	check.Default(&c, "video.fps", &v.FPS, 2, 0.001, 1000)
	check.Default(&c, "video.minFrames", &v.MinFrames, min(4, cmp.Or(max(v.MaxFrames, 0), 4)), 1, maxFamilyFrames)
	check.Default(&c, "video.maxFrames", &v.MaxFrames, max(768, v.MinFrames), max(v.MinFrames, 1), maxFamilyFrames)
	check.Default(&c, "video.temporal", &v.Temporal, 2, 1, 1000)
	check.Range(&c, "video.frameTokens", v.FrameTokens, 0, maxFamilyTokens)
	check.Range(&c, "video.framePixels", v.FramePixels, 0, maxFamilyPixels)
	check.Range(&c, "video.minPixels", v.MinPixels, 0, maxFamilyPixels)
	check.Range(&c, "video.maxPixels", v.MaxPixels, 0, maxFamilyPixels)
	check.Default(&c, "video.maxTokens", &v.MaxTokens, 32768, 1, maxFamilyTokens)
	check.Default(&c, "video.seconds", &v.Seconds, 10, 0.001, maxFamilySeconds)
	v.Size.setDefault(Size{640, 360})

	a := &f.Audio
	check.Default(&c, "audio.tokensPerSecond", &a.TokensPerSecond, 25, 0.001, 10_000)
	check.Range(&c, "audio.windowSeconds", a.WindowSeconds, 0, maxFamilySeconds)
	check.Default(&c, "audio.maxTokens", &a.MaxTokens, 32768, 1, maxFamilyTokens)
	check.Default(&c, "audio.seconds", &a.Seconds, 20, 0.001, maxFamilySeconds)

	d := &f.Diffusion
	check.Default(&c, "diffusion.steps", &d.Steps, 50, 1, 10_000)
	check.Default(&c, "diffusion.passes", &d.Passes, 1, 1, 10)
	check.Default(&c, "diffusion.latent", &d.Latent, 16, 1, 1024)
	d.Size.setDefault(Size{1024, 1024})
	d.VideoSize.setDefault(Size{832, 480})
	check.Default(&c, "diffusion.frames", &d.Frames, 81, 1, maxFamilyFrames)
	return c.Err()
}

// Apply counts the media of a prompt again by the rules of the family, in place of those by which they were counted before:
// Tokens and Guessed of each, and Prompt.Tokens. The spans stay as they are, and so does what is no media.
func (f *Family) Apply(p *types.Prompt) {
	for i := range p.Media {
		m := &p.Media[i]
		was := m.Tokens
		f.weigh(m)
		p.Tokens = max(p.Tokens+m.Tokens-was, 0)
	}
}

// weigh sets Tokens and Guessed of m.
func (f *Family) weigh(m *types.Media) {
	switch m.Kind {
	case types.Image:
		m.Tokens, m.Guessed = f.Image.tokens(m)
	case types.Audio:
		m.Tokens, m.Guessed = f.Audio.tokens(m)
	case types.Video:
		m.Tokens, m.Guessed = f.Video.tokens(m, &f.Image)
	default:
		m.Tokens, m.Guessed = OtherTokens, true
	}
}

func (a *AudioRule) tokens(m *types.Media) (tokens int, guessed bool) {
	seconds := m.Seconds
	if guessed = !(seconds > 0); guessed {
		seconds = a.Seconds
	}
	if a.WindowSeconds > 0 {
		seconds = math.Ceil(seconds/a.WindowSeconds) * a.WindowSeconds
	}
	return between(math.Ceil(seconds*a.TokensPerSecond), 1, a.MaxTokens), guessed
}

func (v *VideoRule) tokens(m *types.Media, image *ImageRule) (tokens int, guessed bool) {
	frames := m.Frames
	if frames <= 0 {
		seconds := m.Seconds
		if guessed = !(seconds > 0); guessed {
			seconds = v.Seconds
		}
		frames = max(between(seconds*v.FPS, 1, v.MaxFrames), v.MinFrames)
	}
	frames = min(frames, v.MaxFrames)
	pictures := (frames + v.Temporal - 1) / v.Temporal
	each := v.FrameTokens
	if each == 0 {
		w, h := m.Width, m.Height
		if w <= 0 || h <= 0 {
			w, h, guessed = v.Size.Width, v.Size.Height, true
		}
		low, high := 0.0, 0.0
		if n := float64(pictures * v.Temporal); v.MinPixels > 0 || v.MaxPixels > 0 {
			low, high = float64(v.MinPixels)/n, float64(v.MaxPixels)/n
		}
		if most := float64(v.FramePixels); most > 0 && (high == 0 || most < high) {
			high = most
		}
		each = image.picture(w, h, low, high)
	}
	return between(float64(pictures)*float64(each), 1, v.MaxTokens), guessed
}

// Complete fills in what is unknown of the work of a diffusion model, or of a film's if it is one, by what the model does if it
// is not told otherwise. It changes no other request.
func (f *Family) Complete(w *types.Work, film bool) {
	if w.Kind != types.Denoises {
		return
	}
	d, r := &w.Denoise, &f.Diffusion
	items := float64(max(w.Items, 1))
	if steps, runs := d.Steps, d.Runs; !(d.Passes > 0) || steps > 0 && runs == 0 {
		if steps == 0 {
			steps = float64(r.Steps)
		}
		if runs == 0 {
			runs = float64(r.Passes)
		}
		d.Passes = items * steps * runs
	}
	size, latent, frames := r.Size, 1.0, 1.0
	if film {
		size, latent, frames = r.VideoSize, 1+float64(r.Frames-1)/4, float64(r.Frames)
	}
	pixels := float64(size.Width) * float64(size.Height)
	if !(d.Latents > 0) {
		d.Latents = pixels / float64(r.Latent*r.Latent) * latent
	}
	if !(d.Pixels > 0) {
		d.Pixels = items * pixels * frames
	}
}

// between returns x as an integer from low to high.
func between(x float64, low, high int) int {
	if !(x > float64(low)) {
		return low
	}
	return int(min(x, float64(high)))
}

// Size is the size of a picture in pixels, written as "1024x768".
type Size struct{ Width, Height int }

// maxSide is more than any model makes or takes.
const maxSide = 1 << 15

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	width, height, _ := strings.Cut(string(text), "x")
	w, _ := strconv.ParseUint(width, 10, 16) // 0 if it is none
	h, _ := strconv.ParseUint(height, 10, 16)
	if w < 1 || h < 1 || w > maxSide || h > maxSide {
		var c check.Checks
		c.Want(false, "", string(text), "width and height in pixels such as \"1024x768\", each 1 to %d", maxSide)
		return c.Err()
	}
	*s = Size{int(w), int(h)}
	return nil
}

// MarshalText writes a size as UnmarshalText reads it.
func (s Size) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%dx%d", s.Width, s.Height), nil }

func (s *Size) setDefault(def Size) {
	if *s == (Size{}) {
		*s = def
	}
}
