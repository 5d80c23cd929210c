package check_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/check"
)

func TestChecks(t *testing.T) {
	var (
		c        = check.Checks{Package: "p"}
		filled   time.Duration
		kept     = 3
		negative = -time.Second
		large    = 7
		infinite = math.Inf(1)
		nan      = math.NaN()
		cause    = errors.New("cause")
	)
	check.Default(&c, "Filled", &filled, time.Second, time.Millisecond, time.Hour)
	check.Default(&c, "Kept", &kept, 5, 1, 3)
	check.Range(&c, "Zero", 0, 0, 3)
	check.Required(&c, "Name", "x")
	c.OneOf("Order", "fifo", "fifo", "deadline")
	c.Add("Inner", nil)
	require.NoError(t, c.Err())
	require.Equal(t, time.Second, filled)
	require.Equal(t, 3, kept)

	check.Default(&c, "TTL", &negative, time.Second, time.Millisecond, time.Hour)
	check.Default(&c, "Large", &large, 5, 1, 0)
	check.Default(&c, "Large", &large, 5, 1, 6)
	check.Positive(&c, "Rate", &infinite, 2)
	check.Range(&c, "Part", nan, 0, 1)
	check.Range(&c, "Count", -1, 0, 0)
	check.Required(&c, "Name", "")
	c.OneOf("Order", "fifoo", "fifo", "deadline")
	c.OneOf("Order", "random", "fifo", "deadline")
	c.Unknown("Type", "x", []string{"a", "b"})
	c.Unknown("Type", "aaaaab", []string{"b", "aaaaaa"})
	c.Add("Inner[2]", errors.Join(&check.Error{Package: "q", Field: "X", Problem: "is wrong"}, cause))
	c.Failf("", "at all: %w", cause)
	require.EqualError(t, c.Err(), `p: TTL is -1s, want 1ms to 1h0m0s, or 0 for the default 1s
p: Large is 7, want 1 to 6, or 0 for the default 5
p: Rate is +Inf, want above 0, or 0 for the default 2
p: Part is NaN, want 0 to 1
p: Count is -1, want at least 0
p: Name is required
p: Order is "fifoo", want one of fifo, deadline; the nearest is fifo
p: Order is "random", want one of fifo, deadline
p: Type is "x", which is unknown; known are a, b
p: Type is "aaaaab", which is unknown; the nearest is aaaaaa
p: Inner[2].X is wrong
p: Inner[2]: cause
p: at all: cause`)
	require.ErrorIs(t, c.Err(), cause)
	require.Equal(t, 13, c.Len())
}

func TestNearest(t *testing.T) {
	known := []string{"maxQueue", "maxKVUsage", "hardQueue", "a"}
	for name, want := range map[string]string{
		"maxQueu": "maxQueue", "MAXQUEUE": "maxQueue", "maxQue": "maxQueue", "mxaQueue": "maxQueue", "hardqueues": "hardQueue", "ttl": "", "": "", "b": "",
	} {
		require.Equal(t, want, check.Nearest(name, known), name)
	}
	require.Equal(t, 2, check.Distance("abcd", "badc"))
	require.Equal(t, "; known are x, y", check.Suggest("qqq", []string{"x", "y"}))
	require.Empty(t, check.Suggest("qqq", nil))
}
