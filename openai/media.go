package openai

import (
	"bytes"
	"math"
	"strconv"

	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/internal/media"
	"github.com/inferpick/inferpick/types"
)

// What is looked at of the media of a request. The heads of the first maxMedia are read; the others count as media of
// unknown size. Of the data of maxPieces no more than their tokens stand for is in the prompt's spans, in about maxWindows
// windows of windowBytes, and in two each when these are used up. Of addresses, and of data that are shorter than that, the last
// windowBytes are there again and again, up to maxRepeats times in all. What comes after them is in the spans as it is.
const (
	maxMedia    = 256
	maxPieces   = 4096
	maxWindows  = 4096
	maxRepeats  = 2048
	windowBytes = 128
	leastData   = 2 * windowBytes // of data less is never left
)

// piece is where a piece of media lies in a body: its data, its address, or nothing.
type piece struct {
	span  types.Span // between the quotes
	class class
	more  bool // it goes on what the piece before it is, as the next frame of a film
	low   bool
	// data says that it may be cut into windows, of which there are so many of so many bytes.
	data    bool
	windows int32
	bytes   int32
	repeats int32   // how often its end is in the spans once more, and how many bytes of it
	frames  int32   // as many as the client wants looked at, 0 if it does not say
	fps     float32 // the same for a second
}

// hint is what a part of a message says of media.
type hint struct {
	span   types.Span // the string that is most likely their address or their data
	media  bool       // it stands where media are expected
	low    bool
	frames int32 // said, or else how many strings stand there
	said   bool
	fps    float32
}

// note keeps the string if it is the best so far: one where media are expected, and the longest.
func (h *hint) note(text types.Span, media bool) {
	if media && !h.said {
		h.frames++
	}
	if media == h.media && text.End-text.Start > h.span.End-h.span.Start || media && !h.media {
		h.span, h.media = text, media
	}
}

// read reads the value of a key that says how media are to be looked at. It is false, and nothing is read, for another key.
func (h *hint) read(s *jsonscan.Scanner, body []byte, key []byte) bool {
	want := jsonscan.Number
	switch string(key) {
	case "detail":
		want = jsonscan.String
	case "fps", "nframes", "num_frames":
	default:
		return false
	}
	if kind, _ := s.Peek(); kind != want {
		return false
	}
	start, end := s.Skip()
	switch value := body[start:end]; {
	case want == jsonscan.String:
		h.low = string(value) == `"low"`
	case string(key) == "fps":
		if fps, err := strconv.ParseFloat(string(value), 32); err == nil && fps > 0 {
			h.fps = float32(fps)
		}
	case start < end:
		if n, ok := parseInt(value); ok && n > 0 {
			h.frames, h.said = int32(min(n, maxFamilyFrames)), true
		}
	}
	return true
}

// push keeps a piece, if there is room.
func (c *content) push(p piece) {
	if len(c.pieces) < maxPieces {
		c.pieces = append(c.pieces, p)
	}
}

// gather keeps a part as one piece: what was found inside of it, or else the string that is most likely it.
func (c *content) gather(class class, inside []piece, h hint) {
	n := len(c.pieces)
	if len(inside) > n {
		c.pieces = inside
		for i := n; i < len(inside); i++ {
			inside[i].class, inside[i].more = class, i > n
		}
	} else {
		c.push(piece{class: class, span: h.span, data: isData(c.body[h.span.Start:h.span.End])})
	}
	if n == len(c.pieces) {
		return
	}
	first := &c.pieces[n]
	first.low, first.fps = h.low, h.fps
	if many := len(c.pieces) - n; class == classVideo && !h.said && many > 1 {
		first.frames = int32(many)
	} else if class == classVideo && (h.said || h.frames > 1) {
		first.frames = h.frames
	}
}

// usual is how many tokens media of a class are of which nothing is known.
func (c class) usual() int {
	switch c {
	case classImage:
		return ImageTokens
	case classAudio:
		return AudioTokens
	case classVideo:
		return VideoTokens
	}
	return OtherTokens
}

// mediaOf reads what the first of some pieces is, which the others go on.
func mediaOf(body []byte, pieces []piece) types.Media {
	p := &pieces[0]
	m := types.Media{Kind: types.OtherMedia, Span: p.span, LowDetail: p.low, Frames: int(p.frames)}
	var head media.Info
	for i, p := range pieces {
		text := body[p.span.Start:p.span.End]
		if len(text) == 0 {
			continue
		}
		data, ok := media.Payload(text)
		if !ok {
			data = text
		}
		if key := media.Key(data); i == 0 {
			m.Key, head = key, media.ReadText(text)
		} else {
			m.Key = media.Join(m.Key, key)
		}
	}
	switch p.class {
	case classImage:
		m.Kind = types.Image
	case classAudio:
		m.Kind = types.Audio
	case classVideo:
		m.Kind = types.Video
	default: // a file is what it is, if that is all known
		switch {
		case head.Kind == media.Image && head.Width > 0:
			m.Kind = types.Image
		case head.Kind == media.Audio && head.Seconds > 0:
			m.Kind = types.Audio
		case head.Kind == media.Video && head.Seconds > 0:
			m.Kind = types.Video
		}
	}
	switch {
	case m.Kind == types.Image && head.Kind == media.Image, m.Kind == types.Video && head.Kind == media.Image:
		m.Width, m.Height = head.Width, head.Height
		if n := bytes.Count(body[p.span.Start:p.span.End], []byte(",")); m.Kind == types.Video && m.Frames == 0 && n > 1 {
			m.Frames = min(n, maxFamilyFrames) // data:video/jpeg;base64,FRAME,FRAME
		}
	case m.Kind == types.Video && head.Kind == media.Video:
		m.Width, m.Height, m.Seconds = head.Width, head.Height, head.Seconds
		if p.fps > 0 && m.Frames == 0 && m.Seconds > 0 {
			m.Frames = int(min(max(m.Seconds*float64(p.fps), 1), maxFamilyFrames))
		}
	case m.Kind == types.Audio:
		m.Seconds = head.Seconds
	}
	defaultFamily.weigh(&m)
	return m
}

// setPrompt sets p to the parts, and uses the memory of its spans and media again.
func setPrompt(p *types.Prompt, parts []part) {
	spans, found := p.Spans[:0], p.Media[:0]
	*p = types.Prompt{}
	tokens, cuts := int64(0), cuts{}
	for i := range parts {
		part := &parts[i]
		tokens += part.tokens * (1 + part.more)
		p.Images += part.images
		p.Audio += part.audio
		p.Other += part.other
		p.Media = append(found, part.media...)
		part.weigh(p, &tokens, &cuts)
		found = p.Media
	}
	if most := len(parts) + cuts.pieces + cuts.windows + cuts.repeats; cap(spans) < most {
		spans = make([]types.Span, 0, most)
	}
	p.Spans = spans
	for i := range parts {
		parts[i].cut(p)
	}
	p.Tokens = int(min(tokens, math.MaxInt))
}

// cuts is how many spans there are beside one for each part.
type cuts struct{ pieces, windows, repeats int }

// weigh appends the media of the part to p, corrects the counts by what they are, and decides into how many windows their data
// are cut, or how often they are repeated. It adds that to cuts.
func (part *part) weigh(p *types.Prompt, tokens *int64, cuts *cuts) {
	before := part.span.Start
	if part.apart {
		cuts.pieces += len(part.pieces)
	}
	for rest := part.pieces; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].more {
			n++
		}
		same, usual, seen := rest[:n], rest[0].class.usual(), len(p.Media) < maxMedia
		rest = rest[n:]
		weight := usual
		if seen {
			m := mediaOf(part.body, same)
			p.Media = append(p.Media, m)
			weight = m.Tokens
			if same[0].class == classOther && m.Kind != types.OtherMedia && m.Kind != types.Video {
				p.Other--
				if m.Kind == types.Image {
					p.Images++
				} else {
					p.Audio++
				}
			}
		}
		*tokens += int64(weight-usual) * (1 + part.more)
		each := max(weight*BytesPerToken/n, leastData)
		for i := range same {
			c := &same[i]
			size := c.span.End - c.span.Start
			if c.data && size > each {
				c.windows = int32(max(min(each/windowBytes, maxWindows-cuts.windows), 2))
				c.bytes = int32(each) / c.windows
				cuts.windows += int(c.windows)
			} else if seen && size > 0 && !part.apart {
				window := min(windowBytes, c.span.End-min(before, c.span.Start)) // with what stands before it, if it is short
				if again := min((weight*BytesPerToken/n-size)/window, maxRepeats-cuts.repeats); again > 0 {
					c.repeats, c.bytes = int32(again), int32(window)
					cuts.repeats += again
				}
			}
			before = max(before, c.span.End)
		}
	}
}

// cut appends the spans of the part to p: all of it, but of data their windows, evenly spread, of which the first begins
// with the data and the last ends with it. What is repeated has its last bytes again and again after it.
func (part *part) cut(p *types.Prompt) {
	at := part.span.Start
	add := func(end int) {
		if end > at {
			p.Spans = append(p.Spans, types.Span{Start: at, End: end})
			p.Bytes += end - at
		}
	}
	for _, c := range part.pieces {
		if part.apart {
			at = c.span.Start
		}
		room := int64(c.span.End - c.span.Start - int(c.bytes))
		for i := int32(0); i < c.windows; i++ {
			start := c.span.Start + int(int64(i)*room/int64(c.windows-1))
			if i > 0 {
				at = start
			}
			if i < c.windows-1 {
				add(start + int(c.bytes))
			}
		}
		for range c.repeats {
			add(c.span.End)
			at = c.span.End - int(c.bytes)
		}
		if part.apart {
			add(c.span.End)
		}
	}
	if !part.apart {
		add(part.span.End)
	}
}
