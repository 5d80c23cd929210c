package openai

import (
	"strings"

	"github.com/inferpick/inferpick/types"
)

// API is the kind of a request: it says where in a body the prompt is.
type API uint8

// The kinds that APIOf knows.
const (
	Other            API = iota // anything else: passed through, nothing is required of it
	ChatCompletions             // /chat/completions
	Completions                 // /completions
	Responses                   // /responses
	Embeddings                  // /embeddings
	Messages                    // /v1/messages, Anthropic's
	ImageGenerations            // /images/generations, /images/edits, /images/variations
	AudioSpeech                 // /audio/speech
	Transcriptions              // /audio/transcriptions, /audio/translations
	CountTokens                 // /v1/messages/count_tokens, Anthropic's: the prompt of Messages, nothing is generated
	Generate                    // /inference/v1/generate, vLLM's: prompts are token ids
	GRPCGenerate                // /vllm.grpc.engine.VllmEngine/Generate, vLLM's over gRPC
	GRPCEmbed                   // /vllm.grpc.engine.VllmEngine/Embed, the same
	Pooling                     // /pooling, /classify, /moderations, /embed and others: texts, each of which is computed for itself
	Rerank                      // /rerank: a query, and documents that are compared with it
	Score                       // /score, /generative_scoring, /similarity: texts that are compared with others
	Decisions                   // /decisions, /systemone: questions about a text, each answered in one step
	Videos                      // /videos and what else takes long to come out of noise: meshes, moves of a robot
	Realtime                    // /realtime and other sessions over a connection that stays
)

// ways says of each API what becomes of its requests.
var ways = [...]struct {
	name string
	kind types.WorkKind
	// named: requests name the model that they want.
	named bool
	// lenient: no body is wrong. That of what many engines offer, each in a form of its own.
	lenient bool
}{
	Other:            {name: "other", lenient: true},
	ChatCompletions:  {name: "chat completions", named: true},
	Completions:      {name: "completions", named: true},
	Responses:        {name: "responses", named: true},
	Embeddings:       {name: "embeddings", named: true, kind: types.Pools},
	Messages:         {name: "messages", named: true},
	ImageGenerations: {name: "image generations", named: true, kind: types.Denoises},
	AudioSpeech:      {name: "audio speech", named: true},
	Transcriptions:   {name: "transcriptions", named: true},
	CountTokens:      {name: "count tokens", named: true},
	Generate:         {name: "generate"},
	GRPCGenerate:     {name: "gRPC generate"},
	GRPCEmbed:        {name: "gRPC embed", kind: types.Pools},
	Pooling:          {name: "pooling", kind: types.Pools, lenient: true},
	Rerank:           {name: "rerank", kind: types.Pools, lenient: true},
	Score:            {name: "score", kind: types.Pools, lenient: true},
	Decisions:        {name: "decisions", lenient: true},
	Videos:           {name: "videos", kind: types.Denoises, lenient: true},
	Realtime:         {name: "realtime", kind: types.Converses, lenient: true},
}

// routes are matched in order: the longer of two with the same end comes first.
var routes = [...]struct {
	suffix string
	api    API
}{
	{"/chat/completions", ChatCompletions},
	{"/completions", Completions},
	{"/responses", Responses},
	{"/embeddings", Embeddings},
	{"/v1/messages", Messages},
	{"/v1/messages/count_tokens", CountTokens},
	{"/inference/v1/generate", Generate},
	{"/vllm.grpc.engine.VllmEngine/Generate", GRPCGenerate},
	{"/vllm.grpc.engine.VllmEngine/Embed", GRPCEmbed},

	{"/rerank", Rerank},
	{"/score", Score},
	{"/generative_scoring", Score},
	{"/similarity", Score},
	{"/pooling", Pooling},
	{"/classify", Pooling},
	{"/moderations", Pooling},
	{"/embed", Pooling}, // Cohere's, text-embeddings-inference's and Ollama's
	{"/embed_all", Pooling},
	{"/embed_sparse", Pooling},
	{"/predict", Pooling},
	{"/embedding", Pooling}, // llama.cpp's
	{"/encode", Pooling},    // SGLang's
	{"/decisions", Decisions},
	{"/systemone", Decisions},

	{"/images/generations", ImageGenerations},
	{"/images/edits", ImageGenerations},
	{"/images/variations", ImageGenerations},
	{"/videos", Videos},
	{"/videos/sync", Videos},
	{"/meshes", Videos},
	{"/actions/generations", Videos},

	{"/audio/speech", AudioSpeech},
	{"/audio/transcriptions", Transcriptions},
	{"/audio/translations", Transcriptions},
	{"/realtime", Realtime},
	{"/audio/speech/stream", Realtime},
	{"/video/chat/stream", Realtime},
	{"/duplex", Realtime},
	{"/realtime_video/generate", Realtime},
}

// NamesModel reports whether requests of the API name the model that they want. Others go
// to the only one that a server has, unless they do.
func (a API) NamesModel() bool { return int(a) < len(ways) && ways[a].named }

// Kind returns the kind of work that requests of the API are, as far as that can be told without their bodies.
func (a API) Kind() types.WorkKind {
	if int(a) < len(ways) {
		return ways[a].kind
	}
	return types.Generates
}

func (a API) isGRPC() bool { return a == GRPCGenerate || a == GRPCEmbed }

func (a API) lenient() bool { return int(a) < len(ways) && ways[a].lenient }

// APIOf returns the API that a request path belongs to, by its end, so that
// /v1 or any other prefix may stand before it. A query and slashes at the end
// are ignored; so is the case of gRPC services. /messages needs its /v1, or to be the start of the path, because the
// paths of other APIs end like that, too.
func APIOf(path string) API {
	path = plainPath(path)
	switch path {
	case "/messages":
		return Messages
	case "/messages/count_tokens":
		return CountTokens
	}
	for i := range routes {
		suffix, api := routes[i].suffix, routes[i].api
		if strings.HasSuffix(path, suffix) || api.isGRPC() && strings.EqualFold(path, suffix) {
			return api
		}
	}
	if strings.HasSuffix(path, "/remix") && strings.Contains(path, "/videos/") {
		return Videos
	}
	return Other
}

// isAnthropic reports whether a path is /v1/messages or below it.
func isAnthropic(path string) bool {
	path = plainPath(path) + "/"
	return strings.HasPrefix(path, "/messages/") || strings.Contains(path, "/v1/messages/")
}

// plainPath returns a path without its query and slashes at the end.
func plainPath(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	return strings.TrimRight(path, "/")
}

// String returns the name of the API in lower case.
func (a API) String() string {
	if int(a) < len(ways) {
		return ways[a].name
	}
	return "invalid"
}
