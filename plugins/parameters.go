package plugins

import (
	"encoding/json"

	"github.com/inferpick/inferpick/internal/strictjson"
)

// Parameters decodes the parameters of a plugin into v, a pointer to a struct. Unknown fields are
// errors, and a time.Duration is a string such as "300ms". Without parameters v is unchanged, so
// set defaults before. Return the error unwrapped: it names the field, and the registry adds the
// plugin.
func Parameters(p json.RawMessage, v any) error {
	if len(p) == 0 {
		return nil
	}
	return strictjson.Decode(p, v, strictjson.Options{})
}
