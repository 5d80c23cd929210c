package openai

import (
	"bytes"
	"math"
	"strconv"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// What an answer is likely to be that follows from the input, in tokens: of those who speak for a second of speech, which
// has about 15 letters, and of those who listen for one.
const (
	spokenTokens    = 25
	spokenLetters   = 15
	writtenTokens   = 4
	maxOutputTokens = 1 << 20
)

// quantity is a number by which a body says how much it asks for.
type quantity uint8

const (
	qPictures quantity = iota
	qSteps
	qGuidance
	qTrueGuidance
	qWidth
	qHeight
	qFrames
	qRate
	qSeconds
	qSpeed
	numQuantities
)

// bounds are what the servers take, and more. What is beyond is not believed: it is theirs to refuse.
var bounds = [numQuantities]struct{ least, most float64 }{
	qPictures: {1, 128}, qSteps: {1, 1000}, qGuidance: {0, 1000}, qTrueGuidance: {0, 1000},
	qWidth: {1, 1 << 14}, qHeight: {1, 1 << 14},
	qFrames: {1, 10000}, qRate: {1, 240}, qSeconds: {0, 3600}, qSpeed: {0.1, 10},
}

// usualRate is how many frames a second of a film has, if nobody says.
const usualRate = 24

func quantityOf(key []byte) (quantity, bool) {
	switch string(key) {
	case "n", "num_outputs_per_prompt", "num_images_per_prompt":
		return qPictures, true
	case "num_inference_steps", "steps":
		return qSteps, true
	case "guidance_scale":
		return qGuidance, true
	case "true_cfg_scale":
		return qTrueGuidance, true
	case "width":
		return qWidth, true
	case "height":
		return qHeight, true
	case "num_frames":
		return qFrames, true
	case "fps":
		return qRate, true
	case "seconds":
		return qSeconds, true
	case "speed":
		return qSpeed, true
	}
	return 0, false
}

// asked is how much a body asks for beside its prompt.
type asked struct {
	values   [numQuantities]float64
	said     [numQuantities]bool // with a value of 0 it is nothing that can be
	sized    bool                // there is a size in one piece, which is more than width and height
	negative bool                // there is something that is not to be seen
	events   bool                // the answer is to come in events
	modality class               // what all inputs are; classUnknown: text, or each what it is
}

// set takes what is written for a key, in JSON without its quotes, and reports whether it is of those that say how
// much.
func (a *asked) set(key, text []byte) bool {
	if q, ok := quantityOf(key); ok {
		if !a.sized || q != qWidth && q != qHeight {
			a.put(q, text)
		}
		return true
	}
	switch string(key) {
	case "size":
		a.resize(text)
	case "negative_prompt":
		a.negative = len(bytes.TrimSpace(text)) > 0
	case "stream_format":
		a.events = string(text) == "sse"
	case "modality":
		a.modality = classOfType(text, false)
	default:
		return false
	}
	return true
}

func (a *asked) put(q quantity, text []byte) {
	text = bytes.TrimSpace(text)
	v, err := math.NaN(), error(nil)
	if len(text) <= 32 { // none is longer
		v, err = strconv.ParseFloat(string(text), 64)
	}
	if !(err == nil && v >= bounds[q].least && v <= bounds[q].most) {
		v = 0
	}
	a.values[q], a.said[q] = v, true
}

// resize takes a size as WIDTHxHEIGHT. "auto" and anything else leave it to the server.
func (a *asked) resize(text []byte) {
	i := bytes.IndexAny(text, "xX*")
	if i < 0 {
		return
	}
	a.put(qWidth, text[:i])
	a.put(qHeight, text[i+1:])
	a.sized = true
}

// readJSON reads the value of a key if it is one that says how much.
func (a *asked) readJSON(s *jsonscan.Scanner, body, key []byte) bool {
	switch string(key) {
	case "video_params", "extra_body":
		for ok := s.EnterObject(); ok && s.Key(); {
			inner := keyOf(s, body)
			if kind, _ := s.Peek(); kind == jsonscan.Object || !a.readJSON(s, body, inner) {
				s.Skip()
			}
		}
		return true
	case "size", "negative_prompt", "stream_format", "modality":
	default:
		if _, ok := quantityOf(key); !ok {
			return false
		}
	}
	switch v := readValue(s); v.kind {
	case jsonscan.Null, jsonscan.Invalid:
	case jsonscan.String, jsonscan.Number:
		a.set(key, body[v.span.Start:v.span.End])
	default:
		a.set(key, []byte("?")) // there is one, and it is wrong
	}
	return true
}

// or returns a quantity, another if it is not said, and 0 if it is wrong.
func (a *asked) or(q quantity, other float64) float64 {
	if !a.said[q] {
		return other
	}
	return a.values[q]
}

// diffuses reports whether there is something that only those ask for who want a picture.
func (a *asked) diffuses() bool {
	return a.values[qSteps] > 0 || a.values[qWidth] > 0 && a.values[qHeight] > 0
}

// denoise returns the work of a diffusion model, as far as it is said. Guidance doubles it as the pipelines of the engines
// have it: true_cfg_scale above 1 does, and guidance_scale above 1 where there is a negative prompt, because
// models without one take it as an input.
func (a *asked) denoise(film bool) types.Work {
	w := types.Work{Kind: types.Denoises}
	pictures, frames := a.or(qPictures, 1), 1.0
	w.Items = int(pictures)
	d := &w.Denoise
	switch twice := a.values[qGuidance] > 1 && a.negative; {
	case a.said[qTrueGuidance] && a.values[qTrueGuidance] > 1, !a.said[qTrueGuidance] && twice:
		d.Runs = 2
	case a.said[qTrueGuidance] || a.said[qGuidance]:
		d.Runs = 1
	}
	d.Steps = math.Floor(a.values[qSteps])
	d.Passes = math.Floor(pictures) * d.Steps * max(d.Runs, 1)
	if film {
		frames = math.Floor(a.or(qFrames, a.values[qSeconds]*a.or(qRate, usualRate)))
	}
	if frames >= 1 && frames <= bounds[qFrames].most {
		area := a.values[qWidth] * a.values[qHeight]
		d.Latents = area / (16 * 16) * (1 + math.Floor((frames-1)/4))
		d.Pixels = math.Floor(pictures) * area * frames
	}
	return w
}

// speech returns how many tokens there are in a text that is read aloud. A letter beyond ASCII counts by its bytes, since
// it is longer to say the more of them it has.
func (a *asked) speech(text []byte) int {
	letters := len(text) - 3*bytes.Count(text, []byte(`\u`)) // in six bytes for about three
	speed := a.or(qSpeed, 1)
	if speed == 0 {
		return 0
	}
	return outputTokens(float64(letters) / spokenLetters / speed * spokenTokens)
}

// outputTokens returns a number of tokens, at most maxOutputTokens. What is none is unknown.
func outputTokens(n float64) int {
	if !(n > 0) {
		return 0
	}
	return int(math.Ceil(min(n, maxOutputTokens)))
}
