package simulation

import (
	"math"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// Media is a picture, a sound or a film in a prompt.
type Media struct {
	// ID is that of the Segment that it is, and stands for what is to be seen or heard.
	ID   uint64
	Kind types.MediaKind

	Width, Height int     // in pixels
	Frames        int     // of a film
	Seconds       float64 // of sound and films

	// Address says that the body has its address in place of its data: a gateway knows its content by the
	// address, but not its size.
	Address bool
}

// What a gateway takes media for of which it has no more than the address, in tokens, and how much of a
// prompt an address is.
const (
	guessedImage  = 768
	guessedAudio  = 512
	guessedOther  = 1024
	addressTokens = 24
)

// audioWindow is how many seconds of sound an encoder takes at once.
const audioWindow = 30

// parts is how many pieces of a medium are encoded by themselves: windows of sound, pairs of frames.
func (m *Media) parts(tokens int) int {
	n := 1
	switch m.Kind {
	case types.Audio:
		n = int(math.Ceil(min(m.Seconds, 1e6) / audioWindow))
	case types.Video:
		n = m.Frames / 2
	}
	return min(max(n, 1), tokens)
}

// guessed is how many tokens it is taken for if only its address is known.
func (m *Media) guessed() int {
	switch m.Kind {
	case types.Image:
		return guessedImage
	case types.Audio:
		return guessedAudio
	}
	return guessedOther
}

// eachMedia calls do for each Segment of a prompt, with the Media that it is, nil for text.
func (j *Job) eachMedia(do func(s Segment, m *Media)) {
	next := 0
	for _, s := range j.Content {
		if next < len(j.Media) && j.Media[next].ID == s.ID {
			do(s, &j.Media[next])
			next++
		} else {
			do(s, nil)
		}
	}
}

// mediaTokens is how many tokens of a prompt are of media.
func (j *Job) mediaTokens() (n int) {
	if len(j.Media) > 0 {
		j.eachMedia(func(s Segment, m *Media) {
			if m != nil {
				n += s.Tokens
			}
		})
	}
	return n
}

// engineMedia are the media of a prompt as an engine takes them.
func (j *Job) engineMedia() (all []engine.Medium) {
	if len(j.Media) == 0 {
		return nil
	}
	at := 0
	j.eachMedia(func(s Segment, m *Media) {
		if m != nil {
			parts := m.parts(s.Tokens)
			for i := range parts {
				from, to := s.Tokens*i/parts, s.Tokens*(i+1)/parts
				all = append(all, engine.Medium{Key: max(1, derive(s.ID, uint64(i))), At: at + from, Tokens: to - from})
			}
		}
		at += s.Tokens
	})
	return all
}

// fillPrompt makes the prompt that the gateway sees in the body, as openai.Parse would: with spans of the
// media, sizes as far as they are known, and all tokens.
func (l *live) fillPrompt(r *types.Request) {
	r.Body, r.Prompt = r.Body[:0], types.Prompt{Spans: r.Prompt.Spans[:0], Media: r.Prompt.Media[:0]}
	if len(l.job.Media) == 0 {
		r.Body = appendText(r.Body, l.job.Content)
		r.Prompt.Tokens = l.prompt
	} else {
		l.job.eachMedia(func(s Segment, m *Media) {
			start, seen := len(r.Body), s
			if m != nil && m.Address {
				seen.Tokens = addressTokens
			}
			r.Body = appendText(r.Body, []Segment{seen})
			if m == nil {
				r.Prompt.Tokens += s.Tokens
				return
			}
			one := types.Media{
				Kind: m.Kind, Span: types.Span{Start: start, End: len(r.Body)}, Key: m.ID,
				Width: m.Width, Height: m.Height, Frames: m.Frames, Seconds: m.Seconds, Tokens: s.Tokens,
			}
			if m.Address {
				one.Width, one.Height, one.Frames, one.Seconds = 0, 0, 0, 0
				one.Tokens, one.Guessed = m.guessed(), true
			}
			r.Prompt.Tokens += one.Tokens
			r.Prompt.Media = append(r.Prompt.Media, one)
			switch m.Kind {
			case types.Image:
				r.Prompt.Images++
			case types.Audio:
				r.Prompt.Audio++
			default:
				r.Prompt.Other++
			}
		})
	}
	r.Prompt.Spans = append(r.Prompt.Spans, types.Span{Start: 0, End: len(r.Body)})
	r.Prompt.Bytes = len(r.Body)
}

// work is what the gateway sees of the work that is asked for.
func (j *Job) work() types.Work {
	w := j.Work
	if j.Unsized {
		w.Denoise, w.AudioSeconds, w.Output = types.Denoise{}, types.Gauge{}, 0
	}
	return w
}

// whole tells whether what is asked for comes out all at the end: there is no first token.
func (j *Job) whole() bool { return j.Work.Kind == types.Pools || j.Work.Kind == types.Denoises }
