package httptransport_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// TestPanicsOfTheEmbedder: each request is answered, or its panic is the caller's, and in
// any case nothing is left: booking, place and memory.
func TestPanicsOfTheEmbedder(t *testing.T) {
	s := serveRaw(t, says(okEvents))
	boom := func() { panic("boom") }
	for name, tt := range map[string]struct {
		change func(*rawFixture)
		passes bool // the panic comes out of RoundTrip
	}{
		"OnRoute":  {func(f *rawFixture) { f.OnRoute = func(*http.Request, *director.Route) { boom() } }, false},
		"Incoming": {func(f *rawFixture) { f.Transport.Incoming = func(*http.Request, *director.Incoming) { boom() } }, false},
		"Base": {func(f *rawFixture) {
			f.Base = roundTripper(func(*http.Request) (*http.Response, error) { boom(); return nil, errors.New("never") })
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			f := newRaw(t, func(o *director.Options) {
				o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				o.Admission = func(types.NamespacedName) *admission.Options {
					return &admission.Options{Detector: admission.Concurrency{Requests: 1}}
				}
			}, s.Addr().String())
			f.MaxBodies = 10 << 10
			good := f.Base
			for range 3 {
				tt.change(f)
				func() {
					defer func() {
						if v := recover(); (v != nil) != tt.passes {
							t.Errorf("recovered %v", v)
						}
					}()
					if g := f.chat(t); g.StatusCode != 500 || strings.Contains(g.body, "boom") || !strings.Contains(log.String(), "boom") {
						t.Errorf("status %d, %s, logged %s", g.StatusCode, g.body, log.String())
					}
				}()
				f.OnRoute, f.Transport.Incoming, f.Base = nil, nil, good
				for range 3 {
					if g := f.chat(t); g.StatusCode != 200 {
						t.Fatalf("afterwards: %d %s", g.StatusCode, g.body)
					}
				}
			}
			for _, c := range f.Director.Admissions() {
				for _, b := range c.Stats().Bands {
					if b.Running != 0 {
						t.Errorf("%d run in the end", b.Running)
					}
				}
			}
		})
	}
}
