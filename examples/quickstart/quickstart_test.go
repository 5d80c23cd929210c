package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait of the tests; none takes nearly as long.
const patience = 20 * time.Second

// testConfig is a small and fast run, on a free port.
func testConfig(t *testing.T, args ...string) config {
	t.Helper()
	cfg, err := parseFlags(append([]string{"-endpoints", "3", "-listen", "127.0.0.1:0", "-rate", "60"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	cfg.timeScale = 20
	cfg.refresh = 100 * time.Millisecond
	return cfg
}

// output is where a run writes while a test reads.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// startRun starts run and returns the URL it printed, and what ends it and returns
// its summary.
func startRun(t *testing.T, cfg config) (url string, stop func() summary) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var out output
	var s summary
	done := make(chan error, 1)
	go func() {
		var err error
		s, err = run(ctx, cfg, &out)
		done <- err
	}()
	stop = sync.OnceValue(func() summary {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run = %v", err)
		}
		return s
	})
	t.Cleanup(func() { stop() })
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, after, ok := strings.Cut(out.String(), "Live page   "); ok && strings.Contains(after, "\n") {
			line, _, _ := strings.Cut(after, "\n")
			return strings.TrimSuffix(line, "/"), stop
		}
	}
	t.Fatalf("run printed no URL: %s", out.String())
	return "", nil
}

// get returns the body of a GET.
func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestRun(t *testing.T) {
	http.DefaultClient.CloseIdleConnections()
	before := runtime.NumGoroutine()
	url, stop := startRun(t, testConfig(t))

	// What a user does first. curl without -H says it is a form.
	resp, err := http.Post(url+"/v1/chat/completions", "application/x-www-form-urlencoded",
		strings.NewReader(`{"model":"chat","messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !bytes.Contains(body, []byte(`"model":"chat"`)) {
		t.Errorf("chat = %d %s", resp.StatusCode, body)
	}
	if _, body := get(t, url+"/v1/models"); !strings.Contains(body, `"id":"sql-writer"`) {
		t.Errorf("GET /v1/models = %s", body)
	}
	resp, err = http.Post(url+"/v1/chat/completions", "", strings.NewReader(`{"model":"nobody","messages":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	body, _ = io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 404 || !bytes.Contains(body, []byte(`"error"`)) {
		t.Errorf("unknown model = %d %s", resp.StatusCode, body)
	}

	// The page and what feeds it.
	resp, page := get(t, url+"/")
	if resp.StatusCode != 200 || !strings.Contains(page, "Simulated model servers") || resp.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("GET / = %d", resp.StatusCode)
	}
	for _, path := range []string{"/page.js", "/page.css", "/api/state"} {
		if resp, _ := get(t, url+path); resp.StatusCode != 200 {
			t.Errorf("GET %s = %d", path, resp.StatusCode)
		}
	}
	for path, want := range map[string]int{"/nothing": 404, "/api/requests/x": 400, "/api/requests/999999": 404} {
		if resp, body := get(t, url+path); resp.StatusCode != want || !strings.Contains(body, `"error"`) {
			t.Errorf("GET %s = %d %s, want %d", path, resp.StatusCode, body, want)
		}
	}
	// Sheddable requests may be refused on a machine that is busy with other things; the
	// one to be explained is the newest that went somewhere: it will be kept the longest.
	routed := func(e entry) bool { return e.Endpoint != "" }
	v := watchUntil(t, url, func(v view) bool {
		return v.Fleets[0].Total.Requests > 40 && v.Fleets[1].Total.Requests > 40 && v.Point.TTFT90[0] != nil &&
			slices.ContainsFunc(v.Requests, routed)
	})
	if v.Fleets[0].Policy != "default" || v.Fleets[1].Policy != "round-robin" || len(v.Fleets[0].Endpoints) != 3 {
		t.Errorf("fleets = %+v", v.Fleets)
	}

	// Why that server?
	var explained struct {
		Request     entry
		Explanation struct {
			Candidates []struct {
				ID    string
				Rank  int
				Terms []struct{ Scorer string }
			}
		}
	}
	id := v.Requests[slices.IndexFunc(v.Requests, routed)].ID
	_, answer := get(t, url+"/api/requests/"+jsonNumber(id))
	if err := json.Unmarshal([]byte(answer), &explained); err != nil || len(explained.Explanation.Candidates) != 3 {
		t.Fatalf("request %d = %s (%v)", id, answer, err)
	}
	for _, c := range explained.Explanation.Candidates {
		if len(c.Terms) < 5 { // of the cost: wait, prefill, output, disturb, kv
			t.Errorf("%s has terms %v, want at least 5", c.ID, c.Terms)
		}
		if (c.Rank == 1) != (c.ID == explained.Request.Endpoint) {
			t.Errorf("%s has rank %d, the request went to %s", c.ID, c.Rank, explained.Request.Endpoint)
		}
	}

	s := stop()
	for _, p := range s.Policies {
		if p.Requests < 40 || p.Failed > 0 {
			t.Errorf("%s: %d requests, %d failed", p.Policy, p.Requests, p.Failed)
		}
		if p.InFlight != 0 {
			t.Errorf("%s: %d requests are in the ledger after the end", p.Policy, p.InFlight)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}

func jsonNumber(id uint64) string { b, _ := json.Marshal(id); return string(b) }

// watchUntil reads /events until a view is as wanted, and returns it.
func watchUntil(t *testing.T, url string, good func(view) bool) view {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("Content-Type of /events is %q", ct)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	event := ""
	for lines.Scan() {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || event != "view" {
			continue
		}
		var v view
		if err := json.Unmarshal([]byte(data), &v); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		if good(v) {
			return v
		}
	}
	t.Fatalf("/events ended: %v", lines.Err())
	return view{}
}

func TestCommand(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file.json")
	two := filepath.Join(dir, "two.json")
	write(t, file, `{"plugins": [{"type": "no-such-plugin"}]}`)
	write(t, two, `{"plugins": [{"type": "random-picker"}], "schedulingProfiles": [
		{"name": "a", "plugins": [{"pluginRef": "random-picker"}]}, {"name": "b", "plugins": [{"pluginRef": "random-picker"}]}]}`)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()

	tests := []struct {
		name string
		args []string
		code int
		say  string // in stdout or stderr
	}{
		{"help", []string{"-h"}, 0, "-policy NAME"},
		{"unknown flag", []string{"-speed", "3"}, 2, "-speed"},
		{"argument", []string{"8"}, 2, `unexpected argument "8"`},
		{"not a number", []string{"-endpoints", "many"}, 2, "-endpoints"},
		{"no endpoints", []string{"-endpoints", "0"}, 2, "want 1 to 64"},
		{"too many endpoints", []string{"-endpoints", "65"}, 2, "-endpoints is 65"},
		{"negative duration", []string{"-duration", "-1s"}, 2, "-duration is -1s"},
		{"zero rate", []string{"-rate", "0"}, 2, "-rate is 0"},
		{"negative rate", []string{"-rate", "-3"}, 2, "-rate is -3"},
		{"rate is no number", []string{"-rate", "NaN"}, 2, "-rate is NaN"},
		{"unknown policy", []string{"-policy", "magic"}, 2, "classic, default, inflight, least-requests, random, round-robin, tree"},
		{"unknown comparison", []string{"-compare", "magic"}, 2, "-compare: unknown policy"},
		{"compare or not", []string{"-compare", "random", "-no-compare"}, 2, "exclude each other"},
		{"no such profile file", []string{"-policy", filepath.Join(dir, "none.json")}, 2, "none.json"},
		{"bad profile", []string{"-policy", file}, 2, "no-such-plugin"},
		{"which profile", []string{"-policy", two}, 2, "one of a, b"},
		{"no such profile", []string{"-policy", two + "#c"}, 2, `no profile "c"`},
		{"bad address", []string{"-listen", "8080"}, 2, "HOST:PORT"},
		{"no replay directory", []string{"-replay", filepath.Join(dir, "none")}, 2, "none"},
		{"replay file", []string{"-replay", file}, 2, "want a directory"},
		{"empty replay directory", []string{"-replay", empty}, 2, "no .jsonl files"},
		{"think without replay", []string{"-think", "1s"}, 2, "-replay"},
		{"negative think", []string{"-replay", empty, "-think", "-1s"}, 2, "-think is -1s"},
		{"summary in no directory", []string{"-json", filepath.Join(dir, "none", "x.json")}, 2, "there is no directory"},
		{"port in use", []string{"-listen", ln.Addr().String()}, 1, "in use by another program"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := command(t.Context(), tt.args, &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String()+stderr.String(), tt.say) {
				t.Errorf("command(%q) = %d, stdout %q, stderr %q, want %d and %q", tt.args, code, &stdout, &stderr, tt.code, tt.say)
			}
			if code == 2 && stdout.Len() > 0 {
				t.Errorf("command(%q) wrote to stdout: %s", tt.args, &stdout)
			}
		})
	}
}

func TestCommandSummary(t *testing.T) {
	var stdout, stderr bytes.Buffer
	code := command(t.Context(), []string{"-endpoints", "1", "-rate", "5", "-duration", "100ms", "-no-compare", "-listen", "127.0.0.1:0", "-json", "-"}, &stdout, &stderr)
	var s summary
	if err := json.Unmarshal(stdout.Bytes(), &s); code != 0 || err != nil || len(s.Policies) != 1 || !s.Simulated {
		t.Errorf("command = %d, stdout %s (%v), stderr %s", code, &stdout, err, &stderr)
	}
	if !strings.Contains(stderr.String(), "Live page") {
		t.Errorf("stderr = %q, want what else is on stdout", &stderr)
	}
}

func TestLoadPolicyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.json")
	write(t, file, `{"plugins": [{"type": "queue-scorer"}, {"type": "max-score-picker"}],
		"schedulingProfiles": [{"name": "mine", "plugins": [{"pluginRef": "queue-scorer", "weight": 2}, {"pluginRef": "max-score-picker"}]}]}`)
	for _, arg := range []string{file, file + "#mine"} {
		p, err := loadPolicy(arg)
		if err != nil || p.name != "mine" || len(p.profile.Scorers) != 1 {
			t.Errorf("loadPolicy(%q) = %+v, %v", arg, p, err)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
