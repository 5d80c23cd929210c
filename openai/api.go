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
	{"/images/generations", ImageGenerations},
	{"/images/edits", ImageGenerations},
	{"/images/variations", ImageGenerations},
	{"/audio/speech", AudioSpeech},
	{"/audio/transcriptions", Transcriptions},
	{"/audio/translations", Transcriptions},
}

// APIOf returns the API that a request path belongs to, by its end, so that
// /v1 or any other prefix may stand before it. A query and slashes at the end
// are ignored. /messages needs its /v1, or to be the whole path, because the
// paths of other APIs end like that, too.
func APIOf(path string) API {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	path = strings.TrimRight(path, "/")
	if path == "/messages" {
		return Messages
	}
	for i := range routes {
		if strings.HasSuffix(path, routes[i].suffix) {
			return routes[i].api
		}
	}
	return Other
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
	}
	return "invalid"
}
