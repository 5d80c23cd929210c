package datastore

import (
	"testing"

	"github.com/inferpick/inferpick/types"
)

// Validation lets no such targets into a store; a draw must not panic all the
// same, nor give something that has no weight.
func TestDrawOfNothing(t *testing.T) {
	zero := int32(0)
	var none, zeros targets
	none.finish()
	zeros.add("a", &zero)
	zeros.add("b", nil)
	zeros.finish()
	rnd := types.NewRand(1)
	for _, tt := range []*targets{&none, &zeros} {
		if got, ok := tt.draw(&rnd); ok {
			t.Errorf("draw = %q, want none", got)
		}
		if got, ok := tt.drawSession("s", "m"); ok {
			t.Errorf("drawSession = %q, want none", got)
		}
	}
}
