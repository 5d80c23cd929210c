package seldom_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
)

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := seldom.New(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}})))
		say := func(kind, id string) {
			l.Log(t.Context(), slog.LevelWarn, kind, "something is wrong with "+kind, slog.String("id", id))
		}
		say("a", "1")
		say("a", "2")
		say("b", "3")
		time.Sleep(seldom.Interval - time.Nanosecond)
		say("a", "4")
		time.Sleep(time.Nanosecond)
		say("a", "5")
		say("a", "6")
		say("b", "7")
		time.Sleep(10 * seldom.Interval)
		var all sync.WaitGroup
		for range 100 { // one of them is written
			all.Go(func() { say("a", "8") })
		}
		all.Wait()
		want := []string{
			`level=WARN msg="something is wrong with a" id=1`,
			`level=WARN msg="something is wrong with b" id=3`,
			`level=WARN msg="something is wrong with a" id=5 leftOut=2`,
			`level=WARN msg="something is wrong with b" id=7`,
			`level=WARN msg="something is wrong with a" id=8 leftOut=1`,
		}
		require.Empty(t, cmp.Diff(want, strings.Split(strings.TrimSpace(log.String()), "\n")))
	})
}
