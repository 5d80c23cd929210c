//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/stretchr/testify/require"
)

// browser is a headless Chromium that is told what to do by the DevTools protocol
// over a pair of pipes.
type browser struct {
	cmd     *exec.Cmd
	in      *os.File
	session string

	mu      sync.Mutex
	last    int
	answers map[int]chan devtools
	trouble []string // messages of level error, and exceptions
}

// devtools is a message of the protocol in either direction.
type devtools struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// startBrowser starts a browser that ends with the test, or skips the test if
// there is none.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("no chromium on PATH")
	}
	inR, inW, err1 := os.Pipe()
	outR, outW, err2 := os.Pipe()
	require.NoError(t, errors.Join(err1, err2))
	b := &browser{in: inW, answers: map[int]chan devtools{}}
	b.cmd = exec.Command(program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage",
		"--disable-background-networking", "--hide-scrollbars", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	b.cmd.ExtraFiles = []*os.File{inR, outW} // 3 and 4, as the browser expects
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := b.cmd.Start(); err != nil {
		t.Skipf("%s does not start: %v", program, err)
	}
	inR.Close()
	outW.Close()
	reading := make(chan struct{})
	go func() { defer close(reading); b.read(outR) }()
	t.Cleanup(func() {
		inW.Close()
		syscall.Kill(-b.cmd.Process.Pid, syscall.SIGKILL) // with its children
		b.cmd.Wait()
		outR.Close()
		<-reading
	})

	var target struct{ TargetID, SessionID string }
	b.must(t, "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.must(t, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.must(t, domain+".enable", nil, nil)
	}
	return b
}

// read hands answers to their callers and keeps what went wrong on the page.
func (b *browser) read(out *os.File) {
	r := bufio.NewReader(out)
	for {
		data, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtools
		if json.Unmarshal(bytes.TrimSuffix(data, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		switch {
		case m.ID != 0 && b.answers[m.ID] != nil:
			b.answers[m.ID] <- m
			delete(b.answers, m.ID)
		case m.Method == "Runtime.exceptionThrown",
			m.Method == "Log.entryAdded" && bytes.Contains(m.Params, []byte(`"level":"error"`)),
			m.Method == "Runtime.consoleAPICalled" && bytes.Contains(m.Params, []byte(`"type":"error"`)):
			b.trouble = append(b.trouble, string(m.Params))
		}
		b.mu.Unlock()
	}
}

// must calls a method of the protocol and decodes its result.
func (b *browser) must(t *testing.T, method string, params, result any) {
	t.Helper()
	encoded, err := json.Marshal(params)
	require.NoError(t, err)
	if params == nil {
		encoded = []byte("{}")
	}
	answer := make(chan devtools, 1)
	b.mu.Lock()
	b.last++
	m := devtools{ID: b.last, Session: b.session, Method: method, Params: encoded}
	b.answers[m.ID] = answer
	data, _ := json.Marshal(m)
	_, err = b.in.Write(append(data, 0))
	b.mu.Unlock()
	require.NoError(t, err, "%s", method)
	select {
	case m = <-answer:
	case <-time.After(patience):
		t.Fatalf("%s: no answer", method)
	}
	if m.Error != nil {
		t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if result != nil {
		require.NoError(t, json.Unmarshal(m.Result, result), "%s", method)
	}
}

// eval evaluates an expression on the page, waiting for it if it is a promise.
func (b *browser) eval(t *testing.T, expression string) any {
	t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	b.must(t, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		t.Fatalf("%s: %s", expression, r.ExceptionDetails)
	}
	return r.Result.Value
}

// waitFor waits until an expression is true on the page.
func (b *browser) waitFor(t *testing.T, expression string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if b.eval(t, "!!("+expression+")") == true {
			return
		}
	}
	t.Fatalf("%s: still false after %v", expression, patience)
}

// choose clicks what an expression finds until something is shown: what was clicked may
// have been forgotten before it was asked for.
func (b *browser) choose(t *testing.T, found, shown string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		b.eval(t, found+`?.click()`)
		for range 40 {
			if b.eval(t, "!!("+shown+")") == true {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		b.eval(t, `document.activeElement.blur()`) // which holds the list
		time.Sleep(time.Second)
	}
	t.Fatalf("%s: still false %v after a click on %s; the page shows %v", shown, patience, found, b.eval(t, `document.querySelector("#explanation").innerText`))
}

func (b *browser) open(t *testing.T, url string, width, height int) {
	t.Helper()
	b.must(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.must(t, "Page.navigate", map[string]any{"url": url}, nil)
}

// shoot keeps a picture of the page if somebody wants to look at it: in the
// directory that the variable QUICKSTART_SCREENSHOTS names.
func (b *browser) shoot(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("QUICKSTART_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct{ Data string }
	b.must(t, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	data, err := base64.StdEncoding.DecodeString(shot.Data)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644))
}

func (b *browser) errors() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.trouble
}

// served is the button of a request in the list that was not refused: on a slow machine
// the small fleet sheds some, and then no server was chosen.
const served = `[...document.querySelectorAll("#requests tbody tr")].filter((r) => /[0-9] m?s/.test(r.cells[5].textContent)).at(-1)?.querySelector("button")`

// pageConfig is testConfig with as many views as a browser on a busy machine can draw.
func pageConfig(t *testing.T, args ...string) config {
	cfg := testConfig(t, args...)
	cfg.refresh = 400 * time.Millisecond
	return cfg
}

func TestPageInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := startBrowser(t)
	cfg := pageConfig(t)
	if os.Getenv("QUICKSTART_SCREENSHOTS") != "" { // as a user sees it
		cfg.timeScale, cfg.endpoints, cfg.rate, cfg.refresh = 1, 8, ratePerEndpoint*8, time.Second
	}
	url, stop := startRun(t, cfg)
	defer stop()

	b.open(t, url+"/", 1280, 1400)
	b.waitFor(t, `document.querySelectorAll("#requests tbody tr").length > 5 && document.querySelectorAll("#chart-ttft path[d^=M]").length > 0`)
	if os.Getenv("QUICKSTART_SCREENSHOTS") != "" {
		time.Sleep(70 * time.Second)
	}
	const counter = `document.querySelector("#tiles .tile:last-child dd").textContent`
	before := b.eval(t, counter)
	b.waitFor(t, fmt.Sprintf("%s !== %q", counter, before))
	if title, _ := b.eval(t, "document.body.innerText").(string); !strings.Contains(title, "Simulated model servers") {
		t.Error("the page does not say that the model servers are simulated")
	}

	if got := b.eval(t, `[...document.querySelectorAll("#bands tbody th span")].map((e) => e.textContent).join()`); got != "critical,standard,sheddable" {
		t.Errorf("the bands are %v", got)
	}
	if got := b.eval(t, `document.querySelectorAll("#chart-queue path[d^=M]").length`); got != float64(3) {
		t.Errorf("%v lines show what waits, want 3", got)
	}

	// By keyboard: the name of a request is a button.
	b.waitFor(t, `!!`+served)
	b.eval(t, served+`.focus()`)
	b.choose(t, served, `document.querySelectorAll("#explanation .terms tr.chosen td.term").length >= 5`)
	if got := b.eval(t, `document.querySelectorAll("#explanation .terms tbody tr").length`); got != float64(cfg.endpoints) {
		t.Errorf("the explanation shows %v servers, want %d", got, cfg.endpoints)
	}
	for what, expression := range map[string]string{
		"sentence": `document.querySelector("#explanation").textContent.includes("Lower is better")`,
		"unit":     `document.querySelector("#explanation thead th:nth-child(3) small").textContent === "seconds"`,
		"cheapest": `document.querySelector("#explanation tbody tr").classList.contains("chosen")`,
		"bars": `(() => {
			const long = [...document.querySelectorAll("#explanation .stack")].map((s) => [...s.children].reduce((sum, p) => sum + parseFloat(p.style.width), 0));
			return long[0] > 0 && long.every((l, i) => !i || l >= long[i - 1] - 1e-6);
		})()`,
	} {
		if b.eval(t, expression) != true {
			t.Errorf("%s: false on the page: %s, which shows %v", what, expression, b.eval(t, `document.querySelector("#explanation").innerText`))
		}
	}
	b.shoot(t, "desktop")
	b.must(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": "dark"}}}, nil)
	b.shoot(t, "desktop-dark")

	b.open(t, url+"/", 390, 2600)
	b.waitFor(t, `document.querySelectorAll("#requests tbody tr").length > 5 && !!`+served)
	b.eval(t, served+`.focus()`)
	b.choose(t, served, `document.querySelectorAll("#explanation .terms tr.chosen td.term").length >= 5`)
	if got := b.eval(t, "document.documentElement.scrollWidth"); got != float64(390) {
		t.Errorf("at a width of 390 the page is %v wide: %v", got, b.eval(t, `[...document.querySelectorAll("body *")]
			.filter((e) => e.getBoundingClientRect().right > 391 && !e.closest(".terms, .scroll, pre")).map((e) => e.tagName + "." + e.className + "#" + e.id).slice(0, 10).join()`))
	}
	b.shoot(t, "phone-dark")
	b.must(t, "Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{}}, nil)
	b.shoot(t, "phone")

	// A name is text, whatever is in it.
	call := call{path: "/v1/chat/completions", body: streamBody(`<img src=x onerror="throw 1">`, []message{{"user", "hi"}}, 8)}
	c := newClient(func() string { return url })
	defer c.close()
	c.do(context.Background(), call)
	b.waitFor(t, `document.querySelectorAll("#requests tbody tr").length > 5`)
	if got := b.eval(t, `document.querySelectorAll("main img").length`); got != float64(0) {
		t.Errorf("the name of a model became %v images", got)
	}
	explainEach(t, b)
	explainWaits(t, b)
	b.must(t, "Page.navigate", map[string]any{"url": "about:blank"}, nil) // a page without its gateway complains, rightly
	stop()

	// More than there is room for.
	file := filepath.Join(t.TempDir(), "narrow.json")
	write(t, file, narrow)
	url, stop = startRun(t, pageConfig(t, "-admission", file, "-rate", "60"))
	defer stop()
	b.open(t, url+"/", 1280, 1400)
	for _, tt := range []struct{ what, tag, title, text string }{
		{"one that waits", "queued", "Why does it wait?", "before it are"},
		{"one that was refused", "saturated", "Why was it refused?", "try again in"},
	} {
		tag := `[...document.querySelectorAll("#requests .tag")].find((e) => e.textContent === "` + tt.tag + `")`
		b.waitFor(t, tag)
		shown := `document.querySelector("#explanation").textContent`
		b.choose(t, tag+`?.closest("tr").querySelector("button")`, fmt.Sprintf(`%s.includes(%q) && %s.includes(%q)`, shown, tt.title, shown, tt.text))
	}
	b.waitFor(t, `/^[1-9]/.test(document.querySelectorAll("#bands tbody tr")[1].cells[1].textContent) && /saturated/.test(document.querySelectorAll("#bands tbody tr")[2].cells[5].textContent)`)
	b.waitFor(t, `/wait/.test(document.querySelector("#pool-state").textContent)`)
	b.open(t, url+"/", 390, 2600)
	b.waitFor(t, `[...document.querySelectorAll("#requests .tag")].some((e) => e.textContent === "queued")`)
	if got := b.eval(t, "document.documentElement.scrollWidth"); got != float64(390) {
		t.Errorf("at a width of 390 the page is %v wide while requests wait", got)
	}
	b.shoot(t, "phone-overload")
	b.must(t, "Page.navigate", map[string]any{"url": "about:blank"}, nil)
	stop()

	// One fleet, no admission control, and a policy without scores.
	cfg = pageConfig(t, "-no-compare", "-policy", "tree", "-admission", "off")
	url, stop = startRun(t, cfg)
	defer stop()
	b.open(t, url+"/", 1280, 1400)
	b.waitFor(t, `document.querySelectorAll("#requests tbody tr").length > 5 && document.querySelectorAll(".fleet").length === 1`)
	b.choose(t, served, `document.querySelector("#explanation").textContent.includes("does not score")`)
	if got := b.eval(t, `document.querySelector("#queue").getBoundingClientRect().width === 0 && document.querySelectorAll("#bands tbody tr").length === 3`); got != true {
		t.Error("the page does not say that there is no admission control, or not what becomes of each band")
	}
	if trouble := b.errors(); len(trouble) > 0 {
		t.Errorf("console: %s", strings.Join(trouble, "\n"))
	}
}

// explainEach has the page draw explanations that the run does not come by.
func explainEach(t *testing.T, b *browser) {
	t.Helper()
	score := scheduling.Term{Scorer: "queue", Weight: 2, Score: .5, Used: .5, Contribution: 1, Detail: "3 waiting"}
	cost := func(name string, seconds float64) scheduling.Term {
		return scheduling.Term{Scorer: name, Cost: true, Contribution: -seconds}
	}
	tests := []struct {
		name string
		x    scheduling.Explanation
		want string // table cells, by row
		note string
		bars string // the parts of the stacks in percent; in brackets what is taken off
	}{
		{"scores", scheduling.Explanation{Candidates: []scheduling.Candidate{
			{ID: "a", Terms: []scheduling.Term{score, {Scorer: "kv", Weight: 1, Unknown: true, Used: .25, Contribution: .25}}, Total: 1.25, Rank: 1},
			{ID: "b", FilteredBy: "healthy", FilterDetail: "failing"},
		}}, "Server|Total|queueweight 2|kvweight 1/achosen|1.25|1.003 waiting|0.25unknown, the mean counts/b|struck out by healthyfailing", "The highest total wins", "80 20"},
		{"costs", scheduling.Explanation{Candidates: []scheduling.Candidate{
			{ID: "a", Terms: []scheduling.Term{cost("wait", 4), cost("home", 0)}, Total: -4},
			{ID: "b", Terms: []scheduling.Term{cost("wait", 2.9996), cost("home", -1)}, Total: -1.9996, Rank: 1},
			{ID: "c", Terms: []scheduling.Term{{Scorer: "cost", Cost: true, Unknown: true, Contribution: -3}}, Total: -3, Rank: 2},
		}}, "Server|Cost|waitseconds|homeseconds|costseconds/bchosen|2.00 s|3.00 s|−1.00 s|–/cfallback 1|3.00 s|–|–|3.00 sunknown, the mean counts/a|4.00 s|4.00 s|0 ms|–",
			"the lowest total wins", "50(25)/75/100"},
		{"scores and costs", scheduling.Explanation{Candidates: []scheduling.Candidate{
			{ID: "a", Terms: []scheduling.Term{score, cost("queue", 4)}, Total: -3},
			{ID: "b", Terms: []scheduling.Term{score, cost("queue", .2)}, Total: .8, Rank: 1},
		}}, "Server|Total|queueweight 2|queueseconds/bchosen|0.80|1.003 waiting|200 ms/a|-3.00|1.003 waiting|4.00 s", "against it. The highest total wins", "25/5/25/100"},
		{"nobody left", scheduling.Explanation{Candidates: []scheduling.Candidate{{ID: "a", FilteredBy: "shed"}}}, "Server|Total/a|struck out by shed", "The filters left no server", ""},
	}
	for _, tt := range tests {
		x, err := json.Marshal(tt.x)
		require.NoError(t, err)
		got := b.eval(t, `(() => {
			const drawn = el("div", { id: "explanation" }, explanation({ request: { id: 1, model: "m", target: "m", endpoint: "a", outcome: "done" }, policy: "p", explanation: `+string(x)+` }));
			const texts = (all, text) => [...all].map(text);
			return [
				texts(drawn.querySelectorAll("tr"), (r) => texts(r.cells, (c) => c.textContent).join("|")).join("/"),
				drawn.querySelector("p.note").textContent,
				texts(drawn.querySelectorAll(".stack"), (s) => texts(s.children, (p) => [p.className, Math.round(parseFloat(p.style.width))]).filter(([, w]) => w)
					.map(([c, w]) => c ? `+"`(${w})`"+` : w).join(" ").replace(" (", "(")).join("/"),
			];
		})()`).([]any)
		if got[0] != tt.want || !strings.Contains(got[1].(string), tt.note) || got[2] != tt.bars {
			t.Errorf("%s:\n got %q\nwant %q with %q in it and %q", tt.name, got, tt.want, tt.note, tt.bars)
		}
	}
}

// explainWaits has the page draw how requests were let in, waited or were refused.
func explainWaits(t *testing.T, b *browser) {
	t.Helper()
	waited, half := 3200., .5
	queued := &reportView{admission.Report{Verdict: "queued", Detail: "none of 8 endpoints is less than 0.8 full", Band: "standard", Ceiling: .8, Candidates: 8,
		Higher: 1, OtherTenants: 12, OwnTenant: 3, Counter: 9000, Least: 100,
		Waited: 1500 * time.Millisecond, Left: 28500 * time.Millisecond, Expected: 2 * time.Second}, &half}
	for _, tt := range []struct {
		name   string
		e      entry
		report *reportView
		want   []string
	}{
		{"no admission control", entry{Outcome: "done", Endpoint: "a"}, nil, nil},
		{"room", entry{Outcome: "done", Endpoint: "a"}, &reportView{Report: admission.Report{Verdict: "admitted", Band: "critical", Ceiling: 1, Candidates: 8, Room: 1}},
			[]string{"Let in at once, in band critical: 1 of 8 servers is less than 100 % full."}},
		{"waits", entry{Outcome: "queued", Tenant: "tenant-3"}, queued, []string{"since 1.50 s", "none of 8 endpoints", "In the mean they are 50 % full",
			"of higher bands1", "of other tenants12", "of its own3", "may wait another28.5 s", "expected2.00 s", "tenant-3 has 9,000", "turn it is 100"}},
		{"waited", entry{Outcome: "done", Endpoint: "a", Waited: &waited}, queued, []string{"It waited 3.20 s to be let in, in band standard. When it came: none of", "before it were", "requests without a tenant had"}},
		{"refused", entry{Outcome: "refused", Reason: "saturated", Error: "none of 8", RetryAfter: 1.2}, nil, []string{"saturated: none of 8.", "again in 2 seconds."}},
		{"shutting down", entry{Outcome: "refused", Reason: "shutting_down", Error: "<b>"}, nil, []string{"shutting_down: <b>."}},
	} {
		request, err1 := json.Marshal(tt.e)
		report, err2 := json.Marshal(tt.report)
		require.NoError(t, errors.Join(err1, err2))
		got, _ := b.eval(t, fmt.Sprintf(`waiting(%s, %s).map((e) => e.textContent).join(" ")`, request, report)).(string)
		if (got == "") != (tt.want == nil) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		for _, want := range tt.want {
			require.Contains(t, got, want)
		}
	}
}

// The page shows what gateways know of each other, and stops and starts them.
func TestGatewaysInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := startBrowser(t)
	url, stop := startRun(t, pageConfig(t, "-gateways", "3", "-rate", "12", "-no-compare"))
	defer stop()
	b.open(t, url+"/", 1280, 1400)
	const row = `document.querySelector("#gateways tbody tr:nth-child(2)")`
	button := func(text string) string {
		return `[...` + row + `.querySelectorAll("button")].find((b) => b.textContent === "` + text + `")`
	}
	b.waitFor(t, row+`?.querySelectorAll("td small").length === 2`) // it hears two
	for _, step := range []struct{ click, shows string }{
		{"Cut off", `querySelectorAll("td small").length === 0`}, {"Join", `querySelectorAll("td small").length === 2`},
		{"Stop", `textContent.includes("stopped")`}, {"Start", `textContent.includes("running")`},
	} {
		b.waitFor(t, `!!`+button(step.click))
		b.eval(t, button(step.click)+`.click()`)
		b.waitFor(t, row+"."+step.shows)
	}
	b.shoot(t, "gateways")
	b.open(t, url+"/", 390, 2600)
	b.waitFor(t, `!!`+row)
	if got := b.eval(t, "document.documentElement.scrollWidth"); got != float64(390) {
		t.Errorf("at a width of 390 the page is %v wide", got)
	}
	if wrong := b.errors(); len(wrong) > 0 {
		t.Errorf("the browser says: %q", wrong)
	}
}

// A rollout is started, stopped and watched from the page.
func TestRolloutInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := startBrowser(t)
	cfg := pageConfig(t, "-no-compare", "-rate", "1")
	cfg.timeScale = 4 // so that there is something to see
	url, stop := startRun(t, cfg)
	defer stop()
	chatter(t, url)

	b.open(t, url+"/", 1280, 1400)
	const state = `(document.querySelector("#rollout-state")?.textContent ?? "")` // not there yet while the page loads
	press := func(button string) {
		t.Helper()
		find := fmt.Sprintf(`document.querySelector("#rollout [data-act='%s']:not(:disabled)")`, button)
		b.waitFor(t, "!!"+find)
		b.eval(t, find+".click()")
	}
	press("start?adapter=good")
	b.waitFor(t, state+`.endsWith("stepping")`)
	press("pause")
	b.waitFor(t, state+`.endsWith("paused")`)
	b.shoot(t, "rollout-paused")
	press("resume")
	b.waitFor(t, state+` === "chat-v1 → chat-v2 (good): done"`)
	if got := b.eval(t, `[...document.querySelectorAll("#rollout-weights span")].map((e) => e.textContent).join()`); got != "chat-v1 0 %,chat-v2 100 %" {
		t.Errorf("the weights are %v", got)
	}
	press("start?adapter=errors")
	b.waitFor(t, state+` === "chat-v2 → chat-v3 (errors): failed"`)
	if got, _ := b.eval(t, `document.querySelector("#rollout-events").innerText`).(string); !strings.Contains(got, "requests failed") {
		t.Errorf("the events do not say why: %s", got)
	}
	b.shoot(t, "rollout-failed")
	b.open(t, url+"/", 390, 2600)
	b.waitFor(t, state+`.endsWith("failed")`)
	if got := b.eval(t, "document.documentElement.scrollWidth"); got != float64(390) {
		t.Errorf("at a width of 390 the page is %v wide", got)
	}
	b.shoot(t, "rollout-phone")
	if errs := b.errors(); len(errs) > 0 {
		t.Errorf("the page reports %v", errs)
	}
}
