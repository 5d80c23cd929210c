package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

// shown is what a test looks at of a rollout.
type shown struct {
	Phase   rollout.Phase         `json:"phase"`
	Weight  float64               `json:"weight"`
	Reason  string                `json:"reason"`
	Adapter string                `json:"adapter"`
	Events  []rollout.EventStatus `json:"events"`
}

// rolled returns the rollout of a run when it is over.
func rolled(t *testing.T, url string) shown {
	t.Helper()
	var v struct{ Rollout *shown }
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		_, body := get(t, url+"/api/state")
		v.Rollout = nil
		require.NoError(t, json.Unmarshal([]byte(body), &v))
		if v.Rollout != nil && (v.Rollout.Phase == rollout.Done || v.Rollout.Phase == rollout.Failed) {
			return *v.Rollout
		}
	}
	_, body := get(t, url+"/api/state")
	_, body, _ = strings.Cut(body, `"rollout":`)
	t.Fatalf("the rollout is not over: %s", body)
	return shown{}
}

// chatter sends short requests for the model chat, some at a time, until the test ends.
func chatter(t *testing.T, url string) {
	body := streamBody("chat", []message{{"user", "What is a canary?"}}, 12)
	c := newClient(func() string { return url })
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(func() {
		stop()
		wg.Wait()
		c.close()
	})
	for range 6 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = c.do(ctx, call{path: "/v1/chat/completions", body: body}) // some are to fail
			}
		})
	}
}

// A good adapter gets all traffic, and a bad one is stopped by what is bad about it.
func TestRollout(t *testing.T) {
	for kind, why := range map[string]string{"good": "", "errors": "requests failed", "slow": "time per token", "empty": "answers were empty"} {
		t.Run(kind, func(t *testing.T) {
			if testing.Short() && kind != "errors" {
				t.Skip("takes seconds")
			}
			url, _ := startRun(t, testConfig(t, "-no-compare", "-rollout", kind, "-rate", "1"))
			chatter(t, url)
			began := time.Now()
			r := rolled(t, url)
			t.Logf("%s after %v: %s", r.Phase, time.Since(began).Round(100*time.Millisecond), r.Reason)
			require.Equal(t, kind, r.Adapter)
			if why == "" {
				require.Equal(t, rollout.Done, r.Phase, "%s", r.Reason)
				require.InDelta(t, 100, r.Weight, 0)
				return
			}
			require.Equal(t, rollout.Failed, r.Phase, "%s", r.Reason)
			require.Zero(t, r.Weight)
			require.Contains(t, r.Reason, why)
		})
	}
}

// What the page does.
func TestRolloutByHand(t *testing.T) {
	url, _ := startRun(t, testConfig(t, "-no-compare", "-rate", "1"))
	chatter(t, url)
	post := func(path string) int {
		resp, err := http.Post(url+"/api/rollout/"+path, "", nil)
		require.NoError(t, err)
		resp.Body.Close()
		return resp.StatusCode
	}
	require.Equal(t, 404, post("dance"))
	require.Equal(t, 409, post("pause"), "there is none")
	require.Equal(t, 409, post("start?adapter=strange"))
	require.Equal(t, 202, post("start?adapter=good"))
	require.Equal(t, 409, post("start?adapter=good"), "one is under way")
	require.Eventually(t, func() bool { return post("pause") == 202 }, patience, 10*time.Millisecond)
	require.Equal(t, 202, post("resume"))
	require.Equal(t, 202, post("abort"))
	require.Equal(t, rollout.Failed, rolled(t, url).Phase)
	require.Equal(t, 202, post("start?adapter=good"))
	require.Eventually(t, func() bool { return post("promote") == 202 || rolled(t, url).Phase == rollout.Done }, patience, 50*time.Millisecond)
	require.Equal(t, rollout.Done, rolled(t, url).Phase)
}
