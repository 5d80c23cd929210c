package main

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// TestRequestLog: what the gateway measures of the requests that pass it.
func TestRequestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newRequestLog()
		hooks := l.hooks("gateway-1")
		request := func(workload bool) *types.Request {
			req := &types.Request{Model: "m"}
			if workload {
				req.Header = http.Header{workloadHeader: {"1"}}
			}
			return req
		}
		served := func(workload bool, endpoint string, out types.Outcome) {
			ev := scheduling.Event{Request: request(workload), Endpoint: &types.Endpoint{ID: endpoint}}
			hooks.Scheduled(ev)
			time.Sleep(100 * time.Millisecond)
			hooks.FirstToken(ev)
			time.Sleep(200 * time.Millisecond)
			ev.Outcome = out
			hooks.Finished(ev)
		}
		done := types.Outcome{Usage: types.Usage{PromptTokens: types.Known(100), CachedTokens: types.Known(50), CompletionTokens: types.Known(5)}}

		served(true, "a", done)
		served(false, "b", done) // the user's own: counted by outcome, not measured
		served(true, "a", types.Outcome{Err: errors.New("broken")})
		served(true, "b", types.Outcome{Cancelled: true})
		l.refused(request(true), types.NamespacedName{}, &director.Error{Status: http.StatusTooManyRequests, Code: string(admission.Saturated)})
		l.refused(request(true), types.NamespacedName{}, &director.Error{Status: http.StatusTooManyRequests, Code: string(admission.TimedOut)})
		l.refused(request(true), types.NamespacedName{}, &director.Error{Status: http.StatusNotFound}) // the client's fault

		now, total := l.figures(time.Now())
		require.Equal(t, [...]int{4, 1, 2}, [...]int{total.Requests, total.Failed, total.Shed})
		require.Equal(t, 1, now.Requests)
		require.Equal(t, [...]float64{100, 50, .5}, [...]float64{*now.TTFT50, *now.TPOT50, *now.HitShare})
		require.InEpsilon(t, 300, *total.E2E90, .01)

		band := l.bandViews([]band{{"standard", 0}}, time.Now())[0]
		require.Equal(t, bandCounts{Served: 2, Failed: 1, Cancelled: 1, Refused: 1, Expired: 1,
			Reasons: map[string]uint64{"saturated": 1, string(admission.TimedOut): 1}}, band.bandCounts)
		require.Equal(t, now, band.Now)

		_, recent := l.counts(time.Now())
		require.Equal(t, map[target]uint64{{"a", "m"}: 2, {"b", "m"}: 2}, recent)
		time.Sleep(windowLength - 400*time.Millisecond)
		all, recent := l.counts(time.Now())
		require.Equal(t, uint64(2), all[target{"a", "m"}])
		require.Equal(t, map[target]uint64{{"b", "m"}: 1}, recent, "only the last was sent within the window")

		var outcomes []string
		for _, e := range l.requests(10) {
			outcomes = append(outcomes, e.Outcome)
		}
		require.Equal(t, []string{"refused", "refused", "cancelled", "failed", "done", "done"}, outcomes)
	})
}
