package plugins

import (
	"encoding/json"

	"github.com/inferpick/inferpick/internal/strictjson"
)

// Parameters decodes the parameters of a plugin into v, a pointer to a struct, strictly:
// unknown fields are errors, a time.Duration is a string such as "300ms". With no
// parameters v stays as it is, so set the defaults before. Return the error as it is: it
// says which field is wrong, and the registry adds in which plugin.
func Parameters(p json.RawMessage, v any) error {
	if len(p) == 0 {
		return nil
	}
	return strictjson.Decode(p, v, strictjson.Options{})
}
