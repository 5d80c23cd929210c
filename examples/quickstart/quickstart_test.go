package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait of the tests; none takes nearly as long, unless the machine is
// busy with many other things and the race detector is on.
const patience = time.Minute

// testConfig is a small and fast run, on a free port.
func testConfig(t *testing.T, args ...string) config {
	t.Helper()
	cfg, err := parseFlags(append([]string{"-endpoints", "3", "-listen", "127.0.0.1:0", "-rate", "20"}, args...))
	require.NoError(t, err)
	cfg.timeScale = 10
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
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(body)
}

// -families takes a table, and says what is wrong with one.
func TestFamilies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "families.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"families":[{"models":["chat"],"image":{"rule":"fixed","tokens":100}}]}`), 0o600))
	cfg := testConfig(t, "-families", file)
	require.Equal(t, 100, cfg.families.Of("chat").Image.Tokens)
	_, err := parseFlags([]string{"-families", "families.go"})
	require.ErrorContains(t, err, "-families")
	_, err = parseFlags([]string{"-families", "flags.go"})
	require.ErrorContains(t, err, "openai: line 1")
}

func TestRun(t *testing.T) {
	http.DefaultClient.CloseIdleConnections()
	before := runtime.NumGoroutine()
	url, stop := startRun(t, testConfig(t))

	// What a user does first. curl without -H says it is a form.
	resp, err := http.Post(url+"/v1/chat/completions", "application/x-www-form-urlencoded",
		strings.NewReader(`{"model":"chat","messages":[{"role":"user","content":"hi"}]}`))
	require.NoError(t, err)
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !bytes.Contains(body, []byte(`"model":"chat"`)) {
		t.Errorf("chat = %d %s", resp.StatusCode, body)
	}
	if _, body := get(t, url+"/v1/models"); !strings.Contains(body, `"id":"sql-writer"`) {
		t.Errorf("GET /v1/models = %s", body)
	}
	resp, err = http.Post(url+"/v1/chat/completions", "", strings.NewReader(`{"model":"nobody","messages":[]}`))
	require.NoError(t, err)
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
		return v.Fleets[0].Total.Requests > 40 && v.Fleets[1].Total.Requests > 40 && v.Point.Fleets[0].TTFT90 != nil &&
			slices.ContainsFunc(v.Requests, func(e entry) bool { return routed(e) && e.Session != "" })
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

	// What became of its session?
	withSession := v.Requests[slices.IndexFunc(v.Requests, func(e entry) bool { return routed(e) && e.Session != "" })]
	_, answer = get(t, url+"/explain?"+neturl.Values{"tenant": {withSession.Tenant}, "session": {withSession.Session}}.Encode())
	var story struct {
		Session string
		Steps   []struct{ Endpoint, Outcome string }
	}
	require.NoError(t, json.Unmarshal([]byte(answer), &story), answer)
	require.Equal(t, withSession.Session, story.Session)
	require.NotEmpty(t, story.Steps)

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
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
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
	require.NoError(t, os.Mkdir(empty, 0o755))
	file := filepath.Join(dir, "file.json")
	two := filepath.Join(dir, "two.json")
	write(t, file, `{"plugins": [{"type": "no-such-plugin"}]}`)
	write(t, two, `{"plugins": [{"type": "random-picker"}], "schedulingProfiles": [
		{"name": "a", "plugins": [{"pluginRef": "random-picker"}]}, {"name": "b", "plugins": [{"pluginRef": "random-picker"}]}]}`)
	bands, badBands := filepath.Join(dir, "bands.json"), filepath.Join(dir, "bad-bands.json")
	write(t, bands, narrow)
	write(t, badBands, `{"plugins": [{"type": "random-picker"}], "schedulingProfiles": [{"name": "a", "plugins": [{"pluginRef": "random-picker"}]}],
		"admission": {"bands": [{"name": "all", "ceiling": -1}]}}`)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
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
		{"neither on nor off", []string{"-admission", "maybe"}, 2, `-admission: unknown value "maybe", want on, off`},
		{"no such admission file", []string{"-admission", filepath.Join(dir, "none.json")}, 2, "-admission: open"},
		{"no admission in the file", []string{"-admission", two}, 2, "declares no admission"},
		{"no such profile with it", []string{"-admission", bands + "#c"}, 2, `-admission: ` + bands + `: no profile "c"`},
		{"bad admission", []string{"-admission", badBands}, 2, "admission.bands[0]"},
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
	require.Contains(t, stderr.String(), "Live page")
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

// narrow is a policy whose servers are full with two requests.
const narrow = `{"plugins": [{"type": "random-picker"}], "schedulingProfiles": [{"name": "narrow", "plugins": [{"pluginRef": "random-picker"}]}],
	"admission": {"detectors": [{"type": "concurrency-detector", "parameters": {"maxConcurrency": 2}}]}}`

func TestAdmissionFlag(t *testing.T) {
	file := filepath.Join(t.TempDir(), "narrow.json")
	write(t, file, narrow)
	for _, tt := range []struct {
		args     []string
		on, ours bool // ours: what the file says
	}{
		{nil, true, false},
		{[]string{"-admission", "on"}, true, false},
		{[]string{"-admission", "off"}, false, false},
		{[]string{"-admission", file}, true, true},
		{[]string{"-admission", file + "#narrow"}, true, true},
		{[]string{"-policy", file}, true, true},
		{[]string{"-policy", file, "-admission", "off"}, false, false},
	} {
		cfg := testConfig(t, tt.args...)
		if on := cfg.policy.admission != nil; on != tt.on || on && (cfg.policy.admission().Detector != nil) != tt.ours {
			t.Errorf("%q: admission control is %v, want %v, of the file %v", tt.args, on, tt.on, tt.ours)
		}
		if cfg.compare.admission != nil {
			t.Errorf("%q: the compared fleet has admission control", tt.args)
		}
	}
}

// TestAdmission: with more to do than there is room for critical requests go first,
// standard ones wait, sheddable ones are refused, and all of it can be seen.
func TestAdmission(t *testing.T) {
	file := filepath.Join(t.TempDir(), "narrow.json")
	write(t, file, narrow)
	url, stop := startRun(t, testConfig(t, "-admission", file, "-no-compare", "-rate", "60"))
	band := func(v view, priority int) bandView {
		for _, b := range v.Fleets[0].Bands {
			if b.Priority == priority {
				return b
			}
		}
		t.Fatalf("no band of priority %d in %+v", priority, v.Fleets[0].Bands)
		return bandView{}
	}
	queued := func(e entry) bool { return e.Outcome == "queued" && e.Priority == 0 }
	waited := func(e entry) bool { return e.Outcome == "done" && e.Waited != nil && *e.Waited > 0 }
	refused := func(e entry) bool { return e.Outcome == "refused" && e.Reason == "saturated" }
	find := func(v view, what func(entry) bool) entry {
		if i := slices.IndexFunc(v.Requests, what); i >= 0 {
			return v.Requests[i]
		}
		return entry{}
	}
	explained := func(e entry) (x struct {
		Request   entry
		Admission *reportView
	}) {
		t.Helper()
		_, answer := get(t, url+"/api/requests/"+jsonNumber(e.ID))
		if err := json.Unmarshal([]byte(answer), &x); err != nil {
			t.Fatalf("request %d = %s (%v)", e.ID, answer, err)
		}
		return x
	}

	v := watchUntil(t, url, func(v view) bool {
		return band(v, 0).Queued > 20 && band(v, -100).Refused > 0 && band(v, 100).Served > 0 && band(v, 0).Wait90 != nil && v.Point.Queued[0] > 20 &&
			slices.ContainsFunc(v.Requests, queued) && slices.ContainsFunc(v.Requests, refused)
	})
	a := v.Fleets[0].Admission
	if a.Endpoints != 3 || a.Saturation == nil || a.Queued < 20 || a.Oldest <= 0 || band(v, 0).Tenants == 0 || band(v, 0).Name != "standard" {
		t.Errorf("admission = %+v", a)
	}
	if n := band(v, -100).Reasons["saturated"]; n == 0 || band(v, -100).Queued != 0 {
		t.Errorf("sheddable = %+v, want them refused as saturated", band(v, -100))
	}
	// The report of one that waits is of now: by then it may have been let in.
	if x := explained(find(v, queued)); x.Admission == nil || x.Request.Outcome == "queued" && (x.Admission.Verdict != "queued" || x.Admission.Waited <= 0) || !isTenant(x.Request.Tenant) {
		t.Errorf("a request that waits: %+v, %+v", x.Request, x.Admission)
	}
	if x := explained(find(v, refused)); x.Request.Error == "" || x.Request.RetryAfter < 1 || x.Request.Priority != -100 {
		t.Errorf("a request that was refused: %+v", x.Request)
	}
	v = watchUntil(t, url, func(v view) bool { return slices.ContainsFunc(v.Requests, waited) })
	if x := explained(find(v, waited)); x.Admission == nil || x.Admission.Verdict != "queued" || x.Request.TTFT != nil && *x.Request.TTFT < *x.Request.Waited {
		t.Errorf("a request that waited: %+v, %+v", x.Request, x.Admission)
	}

	s := stop()
	p := s.Policies[0]
	if p.InFlight != 0 || p.Queued != 0 || p.Failed != 0 {
		t.Errorf("%d are in the ledger, %d wait and %d failed, want none", p.InFlight, p.Queued, p.Failed)
	}
	if len(p.Bands) != 3 || p.Bands[0].Name != "critical" || p.Bands[2].Shed == 0 || p.Bands[2].Admission.Reasons["saturated"] == 0 || p.Bands[1].Admission.Wait50 == nil {
		t.Errorf("bands = %+v", p.Bands)
	}
	if text := s.String(); !strings.Contains(text, "sheddable") || !strings.Contains(text, " saturated") {
		t.Errorf("summary = %s", text)
	}
}

// TestTrapInventedTenants: clients direct nothing by headers, and invent no tenants.
func TestTrapInventedTenants(t *testing.T) {
	for id, want := range map[string]string{
		"tenant-1": "tenant-1", "tenant-24": "tenant-24", "tenant-25": "", "tenant-0": "", "tenant-01": "", "tenant-+1": "", "1": "", "x": "", "": "",
	} {
		h := http.Header{}
		h.Set(director.HeaderFairness, id)
		h.Set(director.HeaderObjective, "urgent")
		h.Set(director.HeaderRewrite, "llama-8b")
		in := director.Incoming{Header: h}
		identify(&http.Request{Header: h}, &in)
		if in.FairnessID != want || in.Objective+in.Rewrite != "" {
			t.Errorf("%q became %+v, want the tenant %q alone", id, in, want)
		}
	}
}

// TestWorkloadMix: the parts of the bands are as the page says.
func TestWorkloadMix(t *testing.T) {
	w := newWorkload(nil, 1, 1)
	counts := map[int]int{}
	const n = 4000
	for range n {
		c := w.next(time.Now())
		counts[c.priority]++
		if !isTenant(c.tenant) {
			t.Fatalf("%s is no tenant", c.tenant)
		}
		if len(w.waiting) < 100 {
			w.waiting = append(w.waiting, c)
		}
	}
	for priority, want := range map[int]float64{100: .2, 0: .5, -100: .3} {
		if got := float64(counts[priority]) / n; math.Abs(got-want) > .03 {
			t.Errorf("priority %d is %.2f of the requests, want %g", priority, got, want)
		}
	}
}

func TestBandsOf(t *testing.T) {
	for _, tt := range []struct {
		declared []admission.Band
		seen     []int
		want     []band
	}{
		{nil, nil, []band{{"critical", 100}, {"standard", 0}, {"sheddable", -100}}},
		{nil, []int{0, 7}, []band{{"critical", 100}, {"standard", 7}, {"standard", 0}, {"sheddable", -100}}},
		{[]admission.Band{{Name: "low", Priority: 50}, {Name: "high", Priority: 99}}, nil, []band{{"high", 100}, {"low", 0}, {"low", -100}}},
	} {
		if got := bandsOf(tt.declared, tt.seen...); !slices.Equal(got, tt.want) {
			t.Errorf("bandsOf(%v, %v) = %v, want %v", tt.declared, tt.seen, got, tt.want)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
}
