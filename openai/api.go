package openai

import "strings"

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
)

// NamesModel reports whether requests of the API name the model that they want. Others go
// to the only one that a server has.
func (a API) NamesModel() bool { return a != Other && a != Generate && !a.isGRPC() }

func (a API) isGRPC() bool { return a == GRPCGenerate || a == GRPCEmbed }

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
	{"/images/generations", ImageGenerations},
	{"/images/edits", ImageGenerations},
	{"/images/variations", ImageGenerations},
	{"/audio/speech", AudioSpeech},
	{"/audio/transcriptions", Transcriptions},
	{"/audio/translations", Transcriptions},
	{"/inference/v1/generate", Generate},
	{"/vllm.grpc.engine.VllmEngine/Generate", GRPCGenerate},
	{"/vllm.grpc.engine.VllmEngine/Embed", GRPCEmbed},
}

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
	if int(a) < len(apis) {
		return apis[a]
	}
	return "invalid"
}

var apis = [...]string{
	Other: "other", ChatCompletions: "chat completions", Completions: "completions", Responses: "responses",
	Embeddings: "embeddings", Messages: "messages", ImageGenerations: "image generations",
	AudioSpeech: "audio speech", Transcriptions: "transcriptions", CountTokens: "count tokens",
	Generate: "generate", GRPCGenerate: "gRPC generate", GRPCEmbed: "gRPC embed",
}
