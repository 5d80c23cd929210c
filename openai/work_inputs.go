package openai

import (
	"github.com/inferpick/inferpick/internal/jsonscan"
	"github.com/inferpick/inferpick/types"
)

// extra is what only some APIs have in their bodies, beside what all have: inputs under many names, and how much is asked
// for.
type extra struct {
	api   API
	asked asked
	one   content // a query, or what others are compared with
	many  content // inputs, documents, questions
	media content // pictures, and what else is not text
	apart bool    // one and many are computed each for itself, and then compared
	as    class   // what all inputs are that are texts; classUnknown: texts
}

func (a API) hasExtra() bool {
	switch a {
	case Embeddings, ImageGenerations, AudioSpeech, Pooling, Rerank, Score, Decisions, Videos:
		return true
	}
	return false
}

// parseExtra is parseJSON for those APIs. It is apart from it because of the room that it needs.
func parseExtra(api API, body []byte, req *types.Request, limits Limits) (Parsed, error) {
	x := extra{api: api}
	var d document
	if err := d.scan(body, limits.MaxDepth, &x); err != nil {
		return Parsed{}, err
	}
	if as := x.asked.modality; as >= classImage && api.Kind() == types.Pools {
		d, x = document{}, extra{api: api, as: as}
		if err := d.scan(body, limits.MaxDepth, &x); err != nil {
			return Parsed{}, err
		}
	}
	return d.fill(api, &x, req, limits)
}

// read reads the value of a key at the top if it is one of the API's.
func (x *extra) read(s *jsonscan.Scanner, body, key []byte) bool {
	switch x.api {
	case Embeddings, Pooling:
		return x.readPooled(s, body, string(key))
	case Rerank, Score:
		return x.readPairs(s, body, string(key))
	case Decisions:
		switch string(key) {
		case "input", "state":
			x.one.readWhole(s, body)
		case "questions":
			x.many.readWhole(s, body)
		default:
			return false
		}
		return true
	case ImageGenerations, Videos:
		switch string(key) {
		case "image", "images", "mask", "input_image", "input_reference", "image_reference", "reference_url":
			x.media.readMedia(s, body, classImage)
			return true
		case "video", "videos", "input_video":
			x.media.readMedia(s, body, classVideo)
			return true
		}
	case AudioSpeech:
		if string(key) == "ref_audio" {
			x.media.readMedia(s, body, classAudio)
			return true
		}
	}
	return x.asked.readJSON(s, body, key)
}

// readPooled reads the inputs of pooling models.
func (x *extra) readPooled(s *jsonscan.Scanner, body []byte, key string) bool {
	switch kind, _ := s.Peek(); {
	case x.as != classUnknown && (key == "input" || key == "inputs"):
		x.media.readMedia(s, body, x.as)
		return true
	case key == "modality":
		return x.asked.readJSON(s, body, []byte(key))
	case key == "input" && kind == jsonscan.Object: // Jina's, of one
		x.many.readInputs(s, body)
		return true
	case x.api == Embeddings:
		return false
	}
	switch key {
	case "inputs", "texts", "text", "content", "queries":
		x.many.readInputs(s, body)
	case "images", "image":
		x.media.readMedia(s, body, classImage)
	default:
		return false
	}
	return true
}

// readPairs reads what is compared.
func (x *extra) readPairs(s *jsonscan.Scanner, body []byte, key string) bool {
	switch key {
	case "query", "queries", "text_1", "data_1", "source_sentence":
		x.one.readInputs(s, body)
	case "documents", "texts", "items", "text_2", "data_2", "sentences":
		if kind, start := s.Peek(); kind == jsonscan.Object { // vLLM's: each part of its content is one
			x.many.readInputs(s, body)
			x.many.items = contentParts(body[start:s.Pos()])
			break
		}
		x.many.readInputs(s, body)
	case "inputs": // text-embeddings-inference's
		x.apart = true
		for ok := s.EnterObject(); ok && s.Key(); {
			if inner := keyOf(s, body); string(inner) == "inputs" || !x.readPairs(s, body, string(inner)) {
				s.Skip()
			}
		}
	default:
		return false
	}
	return true
}

// readInputs reads one input or a list of them: texts, token numbers, or objects.
func (c *content) readInputs(s *jsonscan.Scanner, body []byte) {
	if kind, _ := s.Peek(); kind != jsonscan.Object {
		c.read(s, body)
		return
	}
	*c = content{body: body}
	c.leaf(s, body)
	c.items = 1
}

// contentParts returns how many parts the content of an object has, at least 1.
func contentParts(object []byte) int {
	s := jsonscan.New(object, 0)
	n := 0
	for ok := s.EnterObject(); ok && s.Key(); {
		if kind, _ := s.Peek(); kind != jsonscan.Array || string(keyOf(&s, object)) != "content" {
			s.Skip()
			continue
		}
		n = 0
		for s.Enter(); s.Elem(); n++ {
			s.Skip()
		}
	}
	return max(n, 1)
}

// readWhole reads a value of any kind as text.
func (c *content) readWhole(s *jsonscan.Scanner, body []byte) {
	*c = content{}
	kind, start := s.Peek()
	switch kind {
	case jsonscan.Object:
		for s.Enter(); s.Key(); c.items++ {
			s.Skip()
		}
	case jsonscan.Array:
		for s.Enter(); s.Elem(); c.items++ {
			s.Skip()
		}
	default:
		s.Skip()
	}
	if end := s.Pos(); kind != jsonscan.Null && end-start > 2 {
		c.span, c.started, c.text = types.Span{Start: start, End: end}, true, true
	}
}

// readMedia reads a place in which each text is a picture, or something else of a class, whether its data or its address. Of
// an object those are that have a name for it, or are data.
func (c *content) readMedia(s *jsonscan.Scanner, body []byte, class class) {
	c.body, c.apart = body, true
	c.readMediaAs(s, class, true)
}

func (c *content) readMediaAs(s *jsonscan.Scanner, class class, named bool) {
	switch kind, at := s.Peek(); kind {
	case jsonscan.Array:
		for s.Enter(); s.Elem(); {
			c.readMediaAs(s, class, named)
		}
	case jsonscan.Object:
		for s.Enter(); s.Key(); {
			key := keyOf(s, c.body)
			c.readMediaAs(s, class, classOfKey(key) != classUnknown || addresses(key))
		}
	case jsonscan.String:
		if !s.Str() || s.Token.End == s.Token.Start {
			return
		}
		text := types.Span{Start: s.Token.Start, End: s.Token.End}
		data := isData(c.body[text.Start:text.End])
		if !named && !data {
			return
		}
		c.count(class, text.End-at)
		c.push(piece{class: class, span: text, data: data})
		if !c.started {
			c.started, c.span.Start = true, text.Start
		}
		c.span.End = text.End
		c.items++
	default:
		s.Skip()
	}
}

// addresses reports whether a key is one under which an address of media stands.
func addresses(key []byte) bool {
	switch string(key) {
	case "url", "uri", "id", "file_id", "path", "base64", "bytes":
		return true
	}
	return false
}

// parts puts the pieces of the prompt in order that are not those of all APIs, after n that are.
func (x *extra) parts(parts *[4]part, n int) int {
	for _, c := range [...]*content{&x.one, &x.many, &x.media} {
		if c.started && n < len(parts) {
			parts[n] = c.part()
			if c == &x.one {
				parts[n].more = x.again(c, &x.many)
			} else if c == &x.many {
				parts[n].more = x.again(c, &x.one)
			}
			n++
		}
	}
	return n
}

// again returns how often each of the texts of a is computed again: with every one of b, if it is the only one.
func (x *extra) again(a, b *content) int64 {
	if x.apart || a.items > 1 || x.api != Rerank && x.api != Score {
		return 0
	}
	return int64(max(b.items-1, 0))
}

// work returns what is asked for.
func (x *extra) work(d *document) types.Work {
	w := types.Work{Kind: x.api.Kind()}
	switch x.api {
	case Embeddings, Pooling:
		w.Items = d.input.items + d.prompt.items + x.many.items + x.media.items
		if d.messages.started {
			w.Items++
		}
	case Rerank, Score:
		w.Items = x.many.items
		if x.apart {
			w.Items += x.one.items
		} else if w.Items > 0 {
			w.Items = max(w.Items, x.one.items)
		}
	case Decisions:
		w.Items, w.Output = x.many.items, 1
	case ImageGenerations, Videos:
		w = x.asked.denoise(x.api == Videos)
	case AudioSpeech:
		if v := d.fields[fInput]; v.kind == jsonscan.String {
			w.Output = x.asked.speech(d.body[v.span.Start:v.span.End])
		}
	}
	return w
}
