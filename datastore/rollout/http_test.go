package rollout_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
)

func TestHandler(t *testing.T) {
	w := newWorld(t, 2, func(o *rollout.Options) { o.Interval = 10 * time.Millisecond })
	require.NoError(t, w.store.Apply(manifest("")))
	w.run()
	server := httptest.NewServer(w.c.Handler())
	t.Cleanup(server.Close)
	ask := func(method, path, body string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		if method == "POST" || method == "PUT" {
			req.Header.Set("Content-Type", "application/json; charset=utf-8")
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(text)
	}
	const one = "/rollouts/default/InferenceModel/chat"

	status, body := ask("GET", "/rollouts", "")
	require.Equal(t, 200, status)
	require.JSONEq(t, "[]", body)
	for _, tt := range []struct {
		method, path, body string
		want               int
		says               string
		header             []string
	}{
		{"GET", one, "", 404, "no such rollout", nil},
		{"POST", one + "/pause", "", 404, "no such rollout", nil},
		{"DELETE", one, "", 404, "no such rollout", nil},
		{"PUT", "/rollouts/default/InferenceModel/nobody", quick, 404, "no such manifest", nil},
		{"PUT", one, `{"stable": "v1", "canary": "v2", "steeps": []}`, 400, "steps", nil},
		{"PUT", one, `{"stable": "v1", "canary": "v1"}`, 400, "canary", nil},
		{"PUT", one, strings.Repeat(" ", 1<<17), 413, "more than", nil},
		{"PUT", one, quick, 415, "application/json", []string{"Content-Type", "text/plain"}},
		{"PUT", one, quick, 403, "", []string{"Sec-Fetch-Site", "cross-site"}},
		{"PUT", one + "?rule=x", quick, 400, "rule", nil},
		{"PUT", one + "?rule=1", quick, 400, "rule", nil},
		{"PUT", one, quick, 200, `"source":"api"`, nil},
		{"PUT", one, quick, 200, `"source":"api"`, nil},
	} {
		status, body := ask(tt.method, tt.path, tt.body, tt.header...)
		require.Equal(t, tt.want, status, "%s %s: %s", tt.method, tt.path, body)
		require.Contains(t, body, tt.says)
	}
	require.Eventually(t, func() bool { s, _ := w.c.Get(chatModel); return s.Phase == rollout.Stepping }, 10*time.Second, time.Millisecond)
	for _, tt := range []struct {
		path, body string
		want       int
		says       string
	}{
		{"/dance", "", 404, "dance"},
		{"/pause", `{"wy": "x"}`, 400, "why"},
		{"/pause", `{"full": true}`, 400, "full is for promote"},
		{"/pause", `{"why": "` + strings.Repeat("x", 300) + `"}`, 400, "at most 200"},
		{"/resume", "", 409, "not paused"},
		{"/retry", "", 409, ""},
		{"/pause", `{"why": "lunch <b>"}`, 200, `"paused":"lunch`},
		{"/pause", "", 409, "paused already"},
		{"/resume", "{}", 200, ""},
		{"/promote", "", 200, `"step":1`},
		{"/promote", `{"full": true}`, 200, `"step":2`},
		{"/abort", "", 200, ""},
	} {
		status, body := ask("POST", one+tt.path, tt.body)
		for end := time.Now().Add(10 * time.Second); strings.Contains(body, "not written yet") && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
			status, body = ask("POST", one+tt.path, tt.body)
		}
		require.Equal(t, tt.want, status, "%s %s: %s", tt.path, tt.body, body)
		require.Contains(t, body, tt.says)
	}
	require.Eventually(t, func() bool { s, _ := w.c.Get(chatModel); return s.Phase == rollout.Failed }, 10*time.Second, time.Millisecond)

	status, body = ask("GET", one, "")
	require.Equal(t, 200, status)
	var got struct {
		Phase rollout.Phase
		Each  []rollout.ServerStatus
	}
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, rollout.Failed, got.Phase)
	require.Len(t, got.Each, 2)
	status, body = ask("GET", "/rollouts", "", "Accept", "text/html,*/*")
	require.Equal(t, 200, status)
	require.Contains(t, body, "<h2>InferenceModel default/chat</h2>")
	require.Contains(t, body, "lunch &lt;b&gt;")
	require.NotContains(t, body, "<b>")
	status, _ = ask("POST", one+"/retry", "")
	require.Equal(t, 200, status)
	status, _ = ask("DELETE", one, "")
	require.Equal(t, 204, status)
}
