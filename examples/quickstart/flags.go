package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/openai"
)

// Limits of the flags.
const (
	maxEndpoints = 64
	maxRate      = 1000
	maxThink     = time.Minute
)

// Defaults that depend on other flags.
const (
	ratePerEndpoint = 1.8 // requests per second, which a server can do
	rateOfTooMuch   = 6.0 // requests per second, more than it can do
	replayRate      = 1.0 // sessions per second
)

// config is what the flags say.
type config struct {
	given struct{ policy, admission, compare string }

	duration  time.Duration // 0: until ctx is done or the replay is through
	endpoints int
	gateways  int     // of each fleet
	share     bool    // they tell each other what they know
	rate      float64 // requests, or sessions of a replay, per second
	policy    policy
	compare   policy // of the second fleet; its name is empty if there is none
	noCompare bool
	listen    string
	replay    string // directory; empty: the built-in workload
	sessions  []session
	rollout   string           // kind of the adapter to roll out at the beginning; empty: none
	think     time.Duration    // longest pause between two turns of a replayed session
	families  *openai.Families // what media weigh; nil: as for models that are known
	seed      uint64
	json      string // file for the summary, "-" for stdout, empty for none

	timeScale float64       // of the simulated servers; more than 1 only in tests
	refresh   time.Duration // of the page and the terminal
}

// flags returns the flags that set cfg.
func (cfg *config) flags() *flag.FlagSet {
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&cfg.given.policy, "policy", defaultPolicy, "scheduling policy `NAME`: one of "+strings.Join(policyNames(), ", ")+",\n"+
		"or FILE.json[#PROFILE]: a profile of your own, declared as plugins.Config")
	f.StringVar(&cfg.given.admission, "admission", "on", `who waits and who is refused while the servers are full, `+"`WHAT`"+`: on, off, or
FILE.json[#PROFILE] for the admission section of a policy. On is the section of
-policy FILE.json if it has one, else critical requests first, standard ones wait,
sheddable ones are refused. The second fleet has none, unless its own policy's
FILE.json has a section.`)
	f.StringVar(&cfg.given.compare, "compare", defaultCompare, "policy `NAME` of the second fleet; same values as -policy")
	f.BoolVar(&cfg.noCompare, "no-compare", false, "no second fleet: half the CPU")
	f.IntVar(&cfg.endpoints, "endpoints", 8, fmt.Sprintf("model servers in a fleet, `N` from 1 to %d", maxEndpoints))
	f.IntVar(&cfg.gateways, "gateways", 1, fmt.Sprintf("gateways in front of a fleet, `N` from 1 to %d, which get the requests in turn. The\n"+
		"page shows what they know of each other, and stops and starts them.", maxGateways))
	f.BoolVar(&cfg.share, "share", true, "several gateways tell each other what they know; -share=false shows what\nhappens without")
	f.Float64Var(&cfg.rate, "rate", 0, fmt.Sprintf("requests per second of the built-in workload, `R` up to %d. Default %g for each\n"+
		"endpoint; about %g for each is more than they can do. With -replay: sessions\nstarted per second, default %g.",
		maxRate, ratePerEndpoint, rateOfTooMuch, replayRate))
	f.StringVar(&cfg.replay, "replay", "", `replay recorded sessions in place of the built-in workload, once through. `+"`DIR`"+` holds
one .jsonl file a session, each line a turn: {"timestamp": MICROSECONDS,
"input": "PROMPT TEXT", "output": "TEXT", "session_id": "ID"}. A turn is sent when
the one before was answered and the recorded pause is over.`)
	f.DurationVar(&cfg.think, "think", 2*time.Second, "longest pause `D` between two turns of a replay")
	f.DurationVar(&cfg.duration, "duration", 0, "stop after `D`, such as 30s; 0 is on Ctrl-C (default 0)")
	f.StringVar(&cfg.rollout, "rollout", "", `begin with a rollout of the model chat to an adapter that is `+"`KIND`"+`: good, errors, slow
or empty. The page starts others.`)
	f.StringVar(&cfg.listen, "listen", "127.0.0.1:8080", "`ADDR` of gateway and page")
	f.Func("families", "JSON `FILE` that says how many tokens images, sound and films are for models by their\n"+
		"names: openai.Families. By default, as for models that are known.", func(path string) error {
		data, err := os.ReadFile(path)
		if err == nil {
			cfg.families, err = openai.ParseFamilies(data)
		}
		return err
	})
	f.Uint64Var(&cfg.seed, "seed", 1, "same seed `N`, same workload and same draws")
	f.StringVar(&cfg.json, "json", "", "write a summary to `FILE` at the end; - is stdout")
	return f
}

func usage() string {
	var b strings.Builder
	b.WriteString(`Quickstart runs an inference gateway in front of simulated model servers, sends
it a workload, and shows what it does: a table here and a page in the browser.
The same workload goes to an identical fleet behind round robin, for comparison.

Usage: go run ./examples/quickstart [flags]

`)
	f := new(config).flags()
	f.SetOutput(&b)
	f.PrintDefaults()
	b.WriteString(`
Examples:
  go run ./examples/quickstart
  go run ./examples/quickstart -policy classic -compare least-requests
  go run ./examples/quickstart -endpoints 3 -rate 18
  go run ./examples/quickstart -gateways 4
  go run ./examples/quickstart -rollout errors
  go run ./examples/quickstart -duration 60s -json - 2>/dev/null
  curl http://127.0.0.1:8080/v1/chat/completions \
      -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
`)
	return b.String()
}

// parseFlags reads and checks the flags. The error is flag.ErrHelp if help was
// asked for; any other says which flag is wrong and what it may be.
func parseFlags(args []string) (config, error) {
	cfg := config{timeScale: 1, refresh: time.Second}
	f := cfg.flags()
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q: everything is a flag", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["rate"] {
		cfg.rate = ratePerEndpoint * float64(cfg.endpoints)
		if cfg.replay != "" {
			cfg.rate = replayRate
		}
	}
	switch {
	case cfg.noCompare && given["compare"]:
		return cfg, errors.New("-compare and -no-compare exclude each other")
	case given["think"] && cfg.replay == "":
		return cfg, errors.New("-think is for -replay only")
	}
	if err := cfg.check(); err != nil {
		return cfg, err
	}
	return cfg, cfg.load()
}

// check checks the plain values.
func (cfg *config) check() error {
	switch {
	case cfg.duration < 0:
		return fmt.Errorf("-duration is %v, want at least 0", cfg.duration)
	case cfg.endpoints < 1 || cfg.endpoints > maxEndpoints:
		return fmt.Errorf("-endpoints is %d, want 1 to %d", cfg.endpoints, maxEndpoints)
	case cfg.gateways < 1 || cfg.gateways > maxGateways:
		return fmt.Errorf("-gateways is %d, want 1 to %d", cfg.gateways, maxGateways)
	case !(cfg.rate > 0 && cfg.rate <= maxRate): // NaN included
		return fmt.Errorf("-rate is %v, want more than 0 and at most %d", cfg.rate, maxRate)
	case cfg.think < 0 || cfg.think > maxThink:
		return fmt.Errorf("-think is %v, want 0 to %v", cfg.think, maxThink)
	}
	if cfg.rollout != "" && !slices.Contains(kindsOfAdapter, cfg.rollout) {
		return fmt.Errorf("-rollout is %q, want one of %s", cfg.rollout, strings.Join(kindsOfAdapter, ", "))
	}
	_, port, err := net.SplitHostPort(cfg.listen)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("-listen is %q, want HOST:PORT such as 127.0.0.1:8080", cfg.listen)
	}
	return checkJSON(cfg.json)
}

// checkJSON finds out before a long run whether its summary can be written.
func checkJSON(path string) error {
	if path == "" || path == "-" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("-json %s is a directory, want a file", path)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return fmt.Errorf("-json %s: there is no directory %s", path, filepath.Dir(path))
	}
	return nil
}

// load reads the files that the flags name.
func (cfg *config) load() (err error) {
	if cfg.policy, err = loadPolicy(cfg.given.policy); err != nil {
		return fmt.Errorf("-policy: %w", err)
	}
	if cfg.policy.admission, err = loadAdmission(cfg.given.admission, cfg.policy); err != nil {
		return fmt.Errorf("-admission: %w", err)
	}
	if !cfg.noCompare {
		if cfg.compare, err = loadPolicy(cfg.given.compare); err != nil {
			return fmt.Errorf("-compare: %w", err)
		}
	}
	if cfg.replay != "" {
		if cfg.sessions, err = readSessions(cfg.replay); err != nil {
			return fmt.Errorf("-replay: %w", err)
		}
	}
	return nil
}
