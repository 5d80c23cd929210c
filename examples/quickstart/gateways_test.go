package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// post asks a page for something.
func post(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Post(url, "", nil)
	require.NoError(t, err)
	resp.Body.Close()
	return resp.StatusCode
}

// Three gateways hear of each other, and of who is stopped, started and cut off; no request fails.
func TestGateways(t *testing.T) {
	url, stop := startRun(t, testConfig(t, "-gateways", "3", "-rate", "12", "-no-compare"))
	knows := func(v view, of int, peers ...string) bool {
		var alive []string
		for _, p := range v.Fleets[0].Gateways[of].Peers {
			if p.Alive {
				alive = append(alive, p.Name)
			}
		}
		return slices.Equal(alive, peers)
	}
	states := func(v view) string {
		var all []string
		for _, g := range v.Fleets[0].Gateways {
			all = append(all, g.State)
		}
		return strings.Join(all, ", ")
	}
	heard, by := false, map[string]bool{} // of a request at another gateway; who has sent requests
	v := watchUntil(t, url, func(v view) bool {
		for _, g := range v.Fleets[0].Gateways {
			for _, p := range g.Peers {
				heard = heard || p.InFlight > 0
			}
		}
		for _, r := range v.Requests {
			by[r.Gateway] = true
		}
		return heard && by["gateway-1"] && by["gateway-2"] && by["gateway-3"] && v.Fleets[0].Total.Requests > 20 && knows(v, 0, "gateway-2", "gateway-3") && knows(v, 2, "gateway-1", "gateway-2")
	})
	require.True(t, v.Shared)

	require.Equal(t, 202, post(t, url+"/api/gateways/gateway-2/stop"))
	watchUntil(t, url, func(v view) bool {
		return states(v) == "running, stopped, running" && knows(v, 0, "gateway-3") && knows(v, 2, "gateway-1")
	})
	require.Equal(t, 202, post(t, url+"/api/gateways/gateway-2/start"))
	require.Equal(t, 202, post(t, url+"/api/gateways/gateway-3/cut"))
	watchUntil(t, url, func(v view) bool {
		return states(v) == "running, running, cut off" && knows(v, 0, "gateway-2") && knows(v, 1, "gateway-1") && knows(v, 2)
	})
	require.Equal(t, 202, post(t, url+"/api/gateways/gateway-3/join"))
	watchUntil(t, url, func(v view) bool { return knows(v, 2, "gateway-1", "gateway-2") })

	for path, want := range map[string]int{
		"gateway-1/stop": 400, "gateway-9/stop": 404, "gateway-2/explode": 404, "gateway-2/start": 202, // it runs
	} {
		require.Equal(t, want, post(t, url+"/api/gateways/"+path), path)
	}
	foreign, err := http.NewRequest(http.MethodPost, url+"/api/gateways/gateway-2/stop", nil)
	require.NoError(t, err)
	foreign.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(foreign)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, 403, resp.StatusCode, "other sites may not")

	s := stop()
	for _, p := range s.Policies {
		require.Zero(t, p.Failed, p.Policy)
		require.Zero(t, p.InFlight, p.Policy)
		require.Positive(t, p.Requests)
	}
}

// Gateways that are to share nothing know nothing.
func TestGatewaysThatShareNothing(t *testing.T) {
	url, _ := startRun(t, testConfig(t, "-gateways", "2", "-share=false", "-no-compare"))
	v := watchUntil(t, url, func(v view) bool { return v.Fleets[0].Total.Requests > 10 })
	require.False(t, v.Shared)
	for _, g := range v.Fleets[0].Gateways {
		require.Empty(t, g.Peers)
	}
	id := v.Requests[0].ID
	var answer struct{ Peers map[string][]string }
	_, body := get(t, url+"/api/requests/"+jsonNumber(id))
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	require.Empty(t, answer.Peers)
}
