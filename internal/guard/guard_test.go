package guard_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/guard"
)

var errOops = errors.New("oops")

func TestCall(t *testing.T) {
	require.Nil(t, guard.Call("f", func() {}))
	p := guard.Call("f", func() { panic(errOops) })
	require.EqualError(t, p, "f panicked: oops")
	require.ErrorIs(t, p, errOops)
	require.Contains(t, string(p.Stack), "TestCall")
	require.NoError(t, guard.Try("f", func() error { return nil }))
	require.Equal(t, errOops, guard.Try("f", func() error { return errOops }))
	require.EqualError(t, guard.Try("f", func() error { panic("no") }), "f panicked: no")
}

// What panics again and again is told of once a minute, each place for itself.
func TestTeller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		teller := guard.NewTeller(func(p *guard.Panic, more int) {
			told = append(told, fmt.Sprint(p.In, " ", p.Value, " ", more))
			panic("of who tells")
		})
		for range 100 {
			require.False(t, teller.Call("a", func() { panic(1) }))
			require.True(t, teller.Call("b", func() {}))
			time.Sleep(time.Second)
		}
		require.Error(t, teller.Try("b", func() error { panic(2) }))
		func() {
			after := false
			defer func() { require.True(t, after) }()
			defer teller.Recovered("c", func() { after = true })
			panic(3)
		}()
		require.Equal(t, []string{"a 1 0", "a 1 59", "b 2 0", "c 3 0"}, told)
		var none *guard.Teller
		require.False(t, none.Call("a", func() { panic(1) }))
	})
}

// A clock that panics is the real one meanwhile.
func TestClock(t *testing.T) {
	panics := false
	at := time.Unix(1, 0)
	now := guard.Clock("now", func() time.Time {
		if panics {
			panic("no")
		}
		return at
	}, nil)
	require.Equal(t, at, now())
	panics = true
	require.WithinDuration(t, time.Now(), now(), time.Minute)
}

// A loop begins again after ever longer waits, and ends with its context, or by itself.
func TestLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		teller := guard.NewTeller(func(*guard.Panic, int) {})
		began, calls := time.Now(), 0
		teller.Loop(t.Context(), "f", func() {
			if calls++; calls <= 10 {
				panic("no")
			}
		})
		require.Equal(t, 11, calls)
		require.Equal(t, 100*(1+2+4+8+16+32+64)*time.Millisecond+3*10*time.Second, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		teller.Loop(ctx, "f", func() { panic("no") })
		require.Equal(t, time.Second, time.Since(began))
	})
}

func TestCallAllocatesNothing(t *testing.T) {
	n := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		guard.Call("f", func() { n++ })
	}))
	var teller guard.Teller
	require.Zero(t, testing.AllocsPerRun(100, func() {
		teller.Call("f", func() { n++ })
	}))
}
