package openai

import (
	"strconv"
	"time"

	"github.com/inferpick/inferpick/internal/jsonscan"
)

// ModelList returns the answer to GET /v1/models: the names in the order given,
// all with the same creation time (0 if created is the zero time) and owner.
func ModelList(names []string, created time.Time, ownedBy string) []byte {
	b := append(make([]byte, 0, 64+len(names)*128), `{"object":"list","data":[`...)
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendModel(b, name, created, ownedBy)
	}
	return append(b, "]}"...)
}

// ModelObject returns the answer to GET /v1/models/{name}: one of those in ModelList.
func ModelObject(name string, created time.Time, ownedBy string) []byte {
	return appendModel(make([]byte, 0, 128), name, created, ownedBy)
}

func appendModel(b []byte, name string, created time.Time, ownedBy string) []byte {
	seconds := int64(0)
	if !created.IsZero() {
		seconds = created.Unix()
	}
	b = append(b, `{"id":`...)
	b = jsonscan.AppendQuote(b, name)
	b = append(b, `,"object":"model","created":`...)
	b = strconv.AppendInt(b, seconds, 10)
	b = append(b, `,"owned_by":`...)
	b = jsonscan.AppendQuote(b, ownedBy)
	return append(b, '}')
}
