package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
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
	duration  time.Duration // 0: until ctx is done or the replay is through
	endpoints int
	rate      float64 // requests, or sessions of a replay, per second
	policy    policy
	compare   policy // of the second fleet; its name is empty if there is none
	listen    string
	replay    string // directory; empty: the built-in workload
	sessions  []session
	think     time.Duration // longest pause between two turns of a replayed session
	seed      uint64
	json      string // file for the summary, "-" for stdout, empty for none

	timeScale float64       // of the simulated servers; more than 1 only in tests
	refresh   time.Duration // of the page and the terminal
}

const usageText = `Quickstart runs an inference gateway in front of simulated model servers, sends
it a workload, and shows what it does: a table here and a page in the browser.
The same workload goes to an identical fleet behind round robin, for comparison.

Usage: go run ./examples/quickstart [flags]

  -policy NAME     scheduling policy, %q if not given. One of
                   %s,
                   or FILE.json[#PROFILE]: a profile of your own, declared as
                   plugins.Config.
  -admission WHAT  who waits and who is refused while the servers are full: on,
                   off, or FILE.json[#PROFILE] for the admission section of a
                   policy. Default on: the section of -policy FILE.json if it has
                   one, else critical requests first, standard ones wait,
                   sheddable ones are refused. The second fleet has none, unless
                   its own policy's FILE.json has a section.
  -compare NAME    policy of the second fleet, %q if not given; same values.
  -no-compare      no second fleet: half the CPU
  -endpoints N     model servers in a fleet, 1 to %d. Default 8.
  -rate R          requests per second of the built-in workload, up to %d.
                   Default %g for each endpoint; about %g for each is more than
                   they can do. With -replay: sessions started per second,
                   default %g.
  -replay DIR      replay recorded sessions instead of the built-in workload,
                   once through. DIR holds one .jsonl file a session, each line
                   a turn: {"timestamp": MICROSECONDS, "input": "PROMPT TEXT",
                   "output": "TEXT", "session_id": "ID"}. A turn is sent when the
                   one before was answered and the recorded pause is over.
  -think D         longest pause between two turns of a replay. Default 2s.
  -duration D      stop after this long, such as 30s. Default 0: on Ctrl-C.
  -listen ADDR     address of gateway and page. Default 127.0.0.1:8080.
  -seed N          same seed, same workload and same draws. Default 1.
  -json FILE       write a summary at the end; - is stdout
  -h               this text

Examples:
  go run ./examples/quickstart
  go run ./examples/quickstart -policy classic -compare least-requests
  go run ./examples/quickstart -endpoints 3 -rate 18
  go run ./examples/quickstart -duration 60s -json - 2>/dev/null
  curl http://127.0.0.1:8080/v1/chat/completions \
      -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
`

func usage() string {
	return fmt.Sprintf(usageText, defaultPolicy, strings.Join(policyNames(), ", "), defaultCompare,
		maxEndpoints, maxRate, ratePerEndpoint, rateOfTooMuch, replayRate)
}

// parseFlags reads and checks the flags. The error is flag.ErrHelp if help was
// asked for; any other says which flag is wrong and what it may be.
func parseFlags(args []string) (config, error) {
	cfg := config{timeScale: 1, refresh: time.Second}
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.DurationVar(&cfg.duration, "duration", 0, "")
	f.IntVar(&cfg.endpoints, "endpoints", 8, "")
	f.Float64Var(&cfg.rate, "rate", 0, "")
	policyFlag := f.String("policy", defaultPolicy, "")
	admissionFlag := f.String("admission", "on", "")
	compareFlag := f.String("compare", defaultCompare, "")
	noCompare := f.Bool("no-compare", false, "")
	f.StringVar(&cfg.listen, "listen", "127.0.0.1:8080", "")
	f.StringVar(&cfg.replay, "replay", "", "")
	f.DurationVar(&cfg.think, "think", 2*time.Second, "")
	f.Uint64Var(&cfg.seed, "seed", 1, "")
	f.StringVar(&cfg.json, "json", "", "")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q: everything is a flag", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *noCompare && given["compare"] {
		return cfg, errors.New("-compare and -no-compare exclude each other")
	}
	if given["think"] && cfg.replay == "" {
		return cfg, errors.New("-think is for -replay only")
	}
	if err := cfg.check(given["rate"]); err != nil {
		return cfg, err
	}

	var err error
	if cfg.policy, err = loadPolicy(*policyFlag); err != nil {
		return cfg, fmt.Errorf("-policy: %w", err)
	}
	if cfg.policy.admission, err = loadAdmission(*admissionFlag, cfg.policy); err != nil {
		return cfg, fmt.Errorf("-admission: %w", err)
	}
	if !*noCompare {
		if cfg.compare, err = loadPolicy(*compareFlag); err != nil {
			return cfg, fmt.Errorf("-compare: %w", err)
		}
	}
	if cfg.replay != "" {
		if cfg.sessions, err = readSessions(cfg.replay); err != nil {
			return cfg, fmt.Errorf("-replay: %w", err)
		}
	}
	return cfg, nil
}

// check checks the plain values and fills in the default rate.
func (cfg *config) check(rateGiven bool) error {
	if cfg.duration < 0 {
		return fmt.Errorf("-duration is %v, want at least 0", cfg.duration)
	}
	if cfg.endpoints < 1 || cfg.endpoints > maxEndpoints {
		return fmt.Errorf("-endpoints is %d, want 1 to %d", cfg.endpoints, maxEndpoints)
	}
	if !rateGiven {
		cfg.rate = ratePerEndpoint * float64(cfg.endpoints)
		if cfg.replay != "" {
			cfg.rate = replayRate
		}
	}
	if !(cfg.rate > 0 && cfg.rate <= maxRate) || math.IsNaN(cfg.rate) {
		return fmt.Errorf("-rate is %v, want more than 0 and at most %d", cfg.rate, maxRate)
	}
	if cfg.think < 0 || cfg.think > maxThink {
		return fmt.Errorf("-think is %v, want 0 to %v", cfg.think, maxThink)
	}
	if err := checkListen(cfg.listen); err != nil {
		return err
	}
	return checkJSON(cfg.json)
}

func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("-listen is %q, want HOST:PORT such as 127.0.0.1:8080", address)
	}
	return nil
}

// checkJSON finds out before a long run whether its summary can be written.
func checkJSON(path string) error {
	if path == "" || path == "-" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("-json %s is a directory, want a file", path)
	}
	info, err := os.Stat(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return fmt.Errorf("-json %s: there is no directory %s", path, filepath.Dir(path))
	}
	return err
}
