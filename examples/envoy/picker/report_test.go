package picker_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// TestReport: what is to be told of the usage Envoy is told once, when the response has
// ended, in every mode and also where trailers end it.
func TestReport(t *testing.T) {
	for _, mode := range []picker.BodyMode{duplex, streamed, buffered} {
		for _, trailers := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, trailers), func(t *testing.T) {
				f := newFixture(t, func(o *picker.Options, _ *director.Options, _ *scheduling.Profile) {
					o.Report = func(pool types.NamespacedName, u types.Usage) map[string]map[string]any {
						return map[string]map[string]any{"ns": {"cost": u.PromptTokens.Or(0) + u.CompletionTokens.Or(0), "pool": pool.Name}}
					}
				})
				s := begin(t, f, duplex, mode)
				s.send(responseHeaders(200, "application/json", false))
				require.Nil(t, s.recv().GetDynamicMetadata())
				s.send(responseBody(whole, !trailers))
				told := 0
				see := func() {
					if m := s.recv().GetDynamicMetadata(); m != nil {
						told++
						require.Equal(t, map[string]any{"ns": map[string]any{"cost": 13., "pool": "llama"}}, m.AsMap())
					}
				}
				see()
				if trailers {
					s.send(responseTrailers())
					see()
				}
				require.Equal(t, 1, told)
				f.Free(t)
			})
		}
	}
}
