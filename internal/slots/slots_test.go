package slots_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/slots"
)

func TestLowestFirst(t *testing.T) {
	var s slots.Set
	for want := range uint32(5) {
		require.Equal(t, want, s.Take())
	}
	for _, n := range []uint32{3, 1, 4} {
		s.Give(n)
	}
	for _, want := range []uint32{1, 3, 4, 5} {
		require.Equal(t, want, s.Take())
	}
}
