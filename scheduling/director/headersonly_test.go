package director_test

import (
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
)

// headersOnly is a request whose body the gateway does not see, if it has one.
func headersOnly(method, path string) director.Incoming {
	return director.Incoming{Method: method, Path: path, HeadersOnly: true}
}

// TestHeadersOnly: without a body to read a request goes to the pool, as it is; but only
// where clients may go.
func TestHeadersOnly(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	d := newDirector(t, store, nil)
	for _, path := range []string{"/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/files"} {
		for _, method := range []string{"POST", "PUT", "OPTIONS", "DELETE"} {
			r := mustRoute(t, d, headersOnly(method, path))
			if r.Request.Model != "" || len(r.Body) != 0 || r.RestoresModel() {
				t.Errorf("%s %s: model %q, body %q", method, path, r.Request.Model, r.Body)
			}
			r.Done(nil)
		}
	}
	in := incoming("food")
	in.Body = nil
	if _, err := d.Route(ctx, in); director.AsError(err).Status != 400 {
		t.Errorf("a body that should be there: %v", err)
	}
	_, err := d.Route(ctx, headersOnly("POST", "/v1/load_lora_adapter"))
	isError(t, err, 403, director.CodePath)
	zeroLedgers(t, endpoints(store))
}

// TestHeadersOnlyTakesAPlace: what may be generated waits for its turn, what is not does not.
func TestHeadersOnlyTakesAPlace(t *testing.T) {
	d := gated(t, newStore(t, 1, datastore.Options{}), oneEach, nil)
	first := mustRoute(t, d, headersOnly("POST", "/v1/chat/completions"))
	waiting := start(ctx, d, headersOnly("POST", "/v1/chat/completions"))
	queued(t, control(t, d, pool), 1)
	for _, in := range []director.Incoming{headersOnly("OPTIONS", "/v1/chat/completions"), headersOnly("POST", "/v1/messages/count_tokens"), headersOnly("POST", "/v1/files")} {
		mustRoute(t, d, in).Done(nil)
	}
	stillWaits(t, waiting)
	first.Done(nil)
	letIn(t, waiting).Done(nil)
}
