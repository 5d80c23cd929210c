package modelserver

import (
	"fmt"
	"net/http"
	"slices"
)

// Family is a group of APIs that a server has or has not.
type Family string

// The families.
const (
	Text        Family = "text"     // chats, completions, responses with conversations, and Anthropic's messages
	Pooling     Family = "pooling"  // embeddings, rerank, score, classify, pooling, moderations
	Audio       Family = "audio"    // transcriptions, translations, speech
	Images      Family = "images"   // generations, edits, variations
	Videos      Family = "videos"   // jobs
	Batches     Family = "batches"  // files and batches
	RealtimeAPI Family = "realtime" // sessions over a websocket
)

// Families returns all of them.
func Families() []Family {
	return []Family{Text, Pooling, Audio, Images, Videos, Batches, RealtimeAPI}
}

// handler answers a request, with a raw, with what becomes JSON, or with nil if it has written its answer itself.
type handler func(http.ResponseWriter, *http.Request) (any, *apiError)

// stores are what clients may come back for. A server that was restarted has lost it.
type stores struct {
	responses     *shelf[*kept]
	conversations *shelf[*conversation]
	images        *shelf[*stored]
	videos        *shelf[*video]
	files         *shelf[*stored]
	batches       *shelf[*batch]
}

func newStores() stores {
	const bytes = 64 << 20
	return stores{
		responses:     newShelf[*kept]("response", 1000, bytes),
		conversations: newShelf[*conversation]("conversation", 1000, bytes),
		images:        newShelf[*stored]("image", 100, bytes),
		videos:        newShelf[*video]("video", 256, bytes),
		files:         newShelf[*stored]("file", 1000, bytes),
		batches:       newShelf[*batch]("batch", 100, bytes),
	}
}

// handle adds the APIs of a server's families.
func (p *process) handle(mux *http.ServeMux) {
	generates := map[Family]map[string]func() api{
		Text: {
			"/v1/chat/completions": func() api { return &completion{chat: true} },
			"/v1/completions":      func() api { return &completion{} },
			"/v1/responses":        func() api { return &responses{p: p} },
			"/v1/messages":         func() api { return &messages{} },
		},
		Pooling: {
			"/v1/embeddings":  func() api { return &embeddings{} },
			"/pooling":        func() api { return &classes{vectors: true} },
			"/classify":       func() api { return &classes{} },
			"/score":          func() api { return &score{} },
			"/v1/score":       func() api { return &score{} },
			"/rerank":         func() api { return &rerank{} },
			"/v1/rerank":      func() api { return &rerank{} },
			"/v2/rerank":      func() api { return &rerank{} },
			"/v1/moderations": func() api { return &moderations{model: p.opts.Models[0]} },
		},
		Audio: {
			"/v1/audio/transcriptions": func() api { return &transcription{task: "transcribe"} },
			"/v1/audio/translations":   func() api { return &transcription{task: "translate"} },
			"/v1/audio/speech":         func() api { return &speech{} },
		},
	}
	others := map[Family]map[string]handler{
		Text: {
			"GET /v1/responses/{id}":             p.responses.serveOne,
			"GET /v1/responses/{id}/input_items": p.serveInputItems,
			"DELETE /v1/responses/{id}":          p.responses.serveRemoval("response"),
			"POST /v1/conversations":             p.serveConversation,
			"GET /v1/conversations/{id}":         p.conversations.serveOne,
			"GET /v1/conversations/{id}/items":   p.serveItems,
			"DELETE /v1/conversations/{id}":      p.conversations.serveRemoval("conversation.deleted"),
		},
		Images: {
			"POST /v1/images/generations": p.infers(pictures{p: p, prompts: true}.serve),
			"POST /v1/images/edits":       p.infers(pictures{p: p, edits: true, prompts: true}.serve),
			"POST /v1/images/variations":  p.infers(pictures{p: p, edits: true}.serve),
			"GET /v1/images/{id}/content": serveContent(p.images),
		},
		Videos: {
			"POST /v1/videos":             p.infers(p.serveVideo),
			"POST /v1/videos/sync":        p.infers(p.serveVideoSync),
			"POST /v1/videos/{id}/remix":  p.infers(p.serveVideo),
			"GET /v1/videos":              p.videos.serveList,
			"GET /v1/videos/{id}":         p.videos.serveOne,
			"GET /v1/videos/{id}/content": p.serveVideoContent,
			"DELETE /v1/videos/{id}":      p.videos.serveRemoval("video.deleted"),
		},
		Batches: {
			"POST /v1/files":               p.serveUpload,
			"GET /v1/files":                p.files.serveList,
			"GET /v1/files/{id}":           p.files.serveOne,
			"GET /v1/files/{id}/content":   serveContent(p.files),
			"DELETE /v1/files/{id}":        p.files.serveRemoval("file"),
			"POST /v1/batches":             p.serveBatch,
			"GET /v1/batches":              p.batches.serveList,
			"GET /v1/batches/{id}":         p.batches.serveOne,
			"POST /v1/batches/{id}/cancel": p.serveCancel,
		},
		RealtimeAPI: {"GET /v1/realtime": p.serveRealtime},
	}
	for _, family := range p.opts.Families {
		for path, newAPI := range generates[family] {
			mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { p.generate(w, r, newAPI()) })
		}
		for pattern, serve := range others[family] {
			mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
				if v, failure := serve(w, r); failure != nil {
					failure.write(w)
				} else if v != nil {
					writeAnswer(w, v)
				}
			})
		}
	}
}

// infers makes the handler of an API that a model answers fail when it was told to.
func (p *process) infers(serve handler) handler {
	return func(w http.ResponseWriter, r *http.Request) (any, *apiError) {
		if p.fails() {
			return nil, toldToFail()
		}
		return serve(w, r)
	}
}

// modelOf returns the model that a form names, or the first, and what is wrong with that or with another field.
func (p *process) modelOf(f *form) (name string, failure *apiError) {
	if name = f.fields["model"]; name == "" {
		name = p.opts.Models[0]
	}
	if f.err != nil {
		return name, f.err
	}
	if _, ok := p.models.find(name); !ok {
		return name, unknownModel(name)
	}
	failure, _, _ = p.server.faults.request(name)
	return name, failure
}

// checkFamilies completes Options.Families.
func checkFamilies(given []Family) ([]Family, error) {
	if len(given) == 0 {
		return Families(), nil
	}
	known := Families()
	for i, family := range given {
		if !slices.Contains(known, family) || slices.Contains(given[:i], family) {
			return nil, fmt.Errorf("modelserver: family %q is unknown or given twice: want some of %q", family, known)
		}
	}
	return given, nil
}
