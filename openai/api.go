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
)

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
}

// APIOf returns the API that a request path belongs to, by its end, so that
// /v1 or any other prefix may stand before it. A query and slashes at the end
// are ignored. /messages needs its /v1, or to be the start of the path, because the
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
		if strings.HasSuffix(path, routes[i].suffix) {
			return routes[i].api
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
	switch a {
	case Other:
		return "other"
	case ChatCompletions:
		return "chat completions"
	case Completions:
		return "completions"
	case Responses:
		return "responses"
	case Embeddings:
		return "embeddings"
	case Messages:
		return "messages"
	case ImageGenerations:
		return "image generations"
	case AudioSpeech:
		return "audio speech"
	case Transcriptions:
		return "transcriptions"
	case CountTokens:
		return "count tokens"
	}
	return "invalid"
}
