package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// Limits of the flags. They keep a typing mistake from filling the memory.
const (
	maxReplicas = 1000
	maxGateways = 100
	maxClients  = 100_000
	maxSeeds    = 100
	maxRate     = 1e5
	maxLoad     = 10
	maxDuration = 24 * time.Hour
)

// defaultHTML is the page that is written if no other output is asked for.
const defaultHTML = "simulator.html"

// config is what the flags say.
type config struct {
	workload string // as given
	spec     simulation.Spec
	policies []simulation.Policy
	engine   engine.Config
	replicas int
	gateways int
	scrape   time.Duration // 0: metrics are never read

	// Of loads and rates at most one is not empty; if both are, the workload's own
	// rate is played.
	loads []float64 // fractions of the measured capacity
	rates []float64 // jobs per second
	// Above 0: a closed loop of so many clients, in place of loads and rates.
	clients int

	duration, warmup time.Duration
	seeds            []uint64

	json, csv, html string // file, "-" for stdout, empty for none
	show            string // policy that the page shows in detail; empty: the best one
	explain         int    // number of the job whose decision is explained; 0: one in the middle
	cpu             bool

	// In place of all that, published figures, an overloaded fleet or the cases of a suite
	// are played.
	anchors  bool
	overload bool
	admit    map[string]func() admission.Options // beside the others, by name
	suite    string                              // file; empty: none
	quick    bool                                // less of them
	tuning   bool                                // what the suite gives for tuning
	records  string                              // file of runs; empty: none
	fresh    []string                            // policies that are not taken from it
	traces   map[string]string                   // files of the traces of a suite, by name

	command string // that does the same again
	core    core
}

const usageText = `Simulator plays a workload against a simulated fleet of LLM model servers, once
for each scheduling policy, load and seed, and compares latencies. No GPU and no
network are needed, and the same flags give the same figures on every machine.

Usage: go run ./examples/simulator [flags]

What is played
  -workload NAME  %s.
                  Default %s.
  -policy LIST    policies, separated by commas, or all. Default
                  %s.
  -profile LIST   files with profiles of your own, declared as plugins.Config;
                  each profile is played beside the policies, as FILE#NAME
  -load LIST      requests per second, as fractions of the measured capacity,
                  the highest rate at which least-req keeps up. Default
                  %s; a trace or SPEC.json plays at its own rate.
  -rate LIST      requests per second, in place of -load
  -clients N      closed loop: N clients that each send a request when their
                  last one has ended, in place of -load and -rate
  -duration D     simulated time in which requests arrive. Default %s.
  -warmup D       at its beginning, not counted. Default: a quarter of it.
  -seed N         of the first run. Default 1.
  -seeds N        number of runs, with the seeds N, N+1, ... Default %d.

The fleet
  -engine NAME    what a replica is: %s,
                  or FILE.json with an engine.Config. Default %s.
  -replicas N     1 to %d. Default 10.
  -gateways N     gateways that share the fleet and nothing else. Default 1.
  -scrape D       how often they read the replicas' metrics; 0 is never.
                  Default 50ms.

What is written
  -html FILE      page with plots and tables. Default %s, unless
                  -json or -csv is given; -html "" writes none.
  -json FILE      all reports; - is stdout, and so is -json without FILE
  -csv FILE       a line for each run; - is stdout
  -show POLICY    whose run the page shows in detail. Default: that with the
                  lowest p90 of the time to first token.
  -explain N      number of the request whose decision the page explains.
                  Default: one from the middle.
  -cpu            measure the time that decisions take: the one figure that is
                  not the same in every run

In place of all that
  -anchors        play what others have measured and published, and print what
                  is within its tolerance. The exit code is 1 if any is not.
  -overload       play fleets that are asked for more than they can do, by
                  requests of mixed criticality and by unequal tenants, with
                  no admission control, the reference's shedding and ours.
                  Goes with -seed, -seeds, -quick, -trace vtc=FILE and
                  -admission.
  -admission LIST with -overload: files with an admission.Config each, to be
                  played beside the others
  -suite FILE     play the cases of a suite, such as
                  examples/simulator/suite/suite.json, and print the regret of
                  each policy: its p90 over the best policy's. Goes with -policy
                  (default all), -profile, -seed, -seeds, -trace, -tuning,
                  -records and -fresh. The exit
                  code is 1 if a requirement of the suite does not hold.
  -trace LIST     files of the traces that a suite names, as NAME=FILE
  -tuning         play the seeds and the half of the traces that the suite
                  gives for choosing constants, not those of its claims
  -records FILE   take runs that were played before from a file, and add those
                  that are. Throw it away when the simulator changes.
  -fresh LIST     with -records: policies to be played anew
  -quick          with -anchors, -overload or -suite: less of it, to see that
                  it runs

  -h              this text

Examples:
  go run ./examples/simulator
  go run ./examples/simulator -workload agentic -policy all -seeds 5
  go run ./examples/simulator -profile mine.json -load 0.9 -html mine.html
  go run ./examples/simulator -rate 120 -policy least-req,classic-223 -json

Simulated latencies compare policies; they are not to be quoted as measured.
`

func usage() string {
	engines := []string{}
	for _, c := range engine.Calibrations() {
		engines = append(engines, c.Name)
	}
	return fmt.Sprintf(usageText, wrap(workloadNames(), 18), defaultWorkload, wrap(defaultPolicies(), 18),
		joinFloats(defaultLoads()), durationText(defaultDuration), defaultSeeds, wrap(engines, 18),
		engine.Llama31H100().Name, maxReplicas, defaultHTML)
}

const (
	defaultDuration = 120 * time.Second
	defaultSeeds    = 2
)

func defaultLoads() []float64 { return []float64{0.5, 0.8, 0.95, 1.1} }

// parseFlags reads and checks the flags. The error is flag.ErrHelp if help was
// asked for; any other says which flag is wrong and what it may be.
func parseFlags(args []string) (config, error) {
	args = jsonToStdout(args)
	cfg := config{core: realCore()}
	f := flag.NewFlagSet("simulator", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	f.StringVar(&cfg.workload, "workload", defaultWorkload, "")
	policyFlag := f.String("policy", strings.Join(defaultPolicies(), ","), "")
	profileFlag := f.String("profile", "", "")
	engineFlag := f.String("engine", engine.Llama31H100().Name, "")
	f.IntVar(&cfg.replicas, "replicas", 10, "")
	f.IntVar(&cfg.gateways, "gateways", 1, "")
	f.DurationVar(&cfg.scrape, "scrape", 50*time.Millisecond, "")
	loadFlag := f.String("load", "", "")
	rateFlag := f.String("rate", "", "")
	f.IntVar(&cfg.clients, "clients", 0, "")
	f.DurationVar(&cfg.duration, "duration", defaultDuration, "")
	f.DurationVar(&cfg.warmup, "warmup", 0, "")
	seed := f.Uint64("seed", 1, "")
	seeds := f.Int("seeds", defaultSeeds, "")
	f.StringVar(&cfg.json, "json", "", "")
	f.StringVar(&cfg.csv, "csv", "", "")
	f.StringVar(&cfg.html, "html", defaultHTML, "")
	f.StringVar(&cfg.show, "show", "", "")
	f.IntVar(&cfg.explain, "explain", 0, "")
	f.BoolVar(&cfg.cpu, "cpu", false, "")
	f.BoolVar(&cfg.anchors, "anchors", false, "")
	f.BoolVar(&cfg.overload, "overload", false, "")
	admissionFlag := f.String("admission", "", "")
	f.StringVar(&cfg.suite, "suite", "", "")
	f.BoolVar(&cfg.quick, "quick", false, "")
	f.BoolVar(&cfg.tuning, "tuning", false, "")
	f.StringVar(&cfg.records, "records", "", "")
	freshFlag := f.String("fresh", "", "")
	traceFlag := f.String("trace", "", "")
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	if f.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q: everything is a flag", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	cfg.command = commandLine(args, given["seed"])
	if err := checkMode(given); err != nil {
		return cfg, err
	}

	if !given["html"] && (given["json"] || given["csv"]) {
		cfg.html = ""
	}
	if !given["warmup"] {
		cfg.warmup = cfg.duration / 4
	}
	if err := cfg.check(); err != nil {
		return cfg, err
	}
	if *seeds < 1 || *seeds > maxSeeds {
		return cfg, fmt.Errorf("-seeds is %d, want 1 to %d", *seeds, maxSeeds)
	}
	for i := range *seeds {
		cfg.seeds = append(cfg.seeds, *seed+uint64(i))
	}

	var err error
	if cfg.traces, err = tracePaths(*traceFlag); err != nil {
		return cfg, fmt.Errorf("-trace: %w", err)
	}
	if cfg.admit, err = admissionFiles(*admissionFlag); err != nil {
		return cfg, fmt.Errorf("-admission: %w", err)
	}
	if cfg.anchors || cfg.overload || cfg.suite != "" {
		if !given["seed"] && !given["seeds"] {
			cfg.seeds = nil // those of the suite
		}
		if !given["policy"] {
			*policyFlag = ""
		}
		if *freshFlag != "" && cfg.records == "" {
			return cfg, errors.New("-fresh goes with -records: without, all is played anew")
		}
		if *freshFlag != "" {
			cfg.fresh = strings.Split(*freshFlag, ",")
		}
		cfg.policies, err = suitePolicies(*policyFlag, *profileFlag)
		return cfg, err
	}
	if cfg.engine, err = loadEngine(*engineFlag); err != nil {
		return cfg, fmt.Errorf("-engine: %w", err)
	}
	if cfg.spec, err = loadWorkload(cfg.workload); err != nil {
		return cfg, fmt.Errorf("-workload: %w", err)
	}
	if cfg.policies, err = loadPolicies(*policyFlag, *profileFlag); err != nil {
		return cfg, err
	}
	if cfg.show != "" && !slices.ContainsFunc(cfg.policies, func(p simulation.Policy) bool { return p.Name == cfg.show }) {
		return cfg, fmt.Errorf("-show is %q, want one of the policies that are played: %s", cfg.show, strings.Join(names(cfg.policies), ", "))
	}
	switch {
	case cfg.clients > 0 && (given["load"] || given["rate"]):
		return cfg, errors.New("-clients is a closed loop, in which neither -load nor -rate means anything")
	case cfg.clients > 0:
	case given["load"] && given["rate"]:
		return cfg, errors.New("-load and -rate exclude each other")
	case given["rate"]:
		cfg.rates, err = floats(*rateFlag, maxRate)
	case given["load"]:
		cfg.loads, err = floats(*loadFlag, maxLoad)
	case !hasOwnRate(cfg.workload):
		cfg.loads = defaultLoads()
	}
	if err != nil {
		name := "-load"
		if given["rate"] {
			name = "-rate"
		}
		return cfg, fmt.Errorf("%s: %w", name, err)
	}
	return cfg, nil
}

// checkMode refuses flags that would do nothing.
func checkMode(given map[string]bool) error {
	var mode string
	var with []string
	switch {
	case given["anchors"]:
		mode, with = "-anchors", []string{"anchors", "quick"}
	case given["overload"]:
		mode, with = "-overload", []string{"overload", "quick", "seed", "seeds", "trace", "admission"}
	case given["suite"]:
		mode, with = "-suite", []string{"suite", "policy", "profile", "seed", "seeds", "trace", "quick", "tuning", "records", "fresh"}
	case given["admission"]:
		return errors.New("-admission is for -overload")
	case given["quick"], given["trace"], given["tuning"], given["records"], given["fresh"]:
		return errors.New("-quick, -trace, -tuning, -records and -fresh are for -suite, -quick and -trace for -overload and -quick for -anchors too")
	default:
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(with, name) {
			return fmt.Errorf("-%s does not go with %s", name, mode)
		}
	}
	return nil
}

// tracePaths reads a list of NAME=FILE.
func tracePaths(list string) (map[string]string, error) {
	paths := map[string]string{}
	if list == "" {
		return paths, nil
	}
	for _, item := range strings.Split(list, ",") {
		name, file, ok := strings.Cut(item, "=")
		if !ok || name == "" || file == "" {
			return nil, fmt.Errorf("%q, want NAME=FILE", item)
		}
		if _, err := os.Stat(file); err != nil {
			return nil, err
		}
		paths[name] = file
	}
	return paths, nil
}

// jsonToStdout makes "-json" with no value "-json -", so that both that and
// "-json FILE" work.
func jsonToStdout(args []string) []string {
	for i, a := range args {
		last := i+1 == len(args)
		if (a == "-json" || a == "--json") && (last || strings.HasPrefix(args[i+1], "-") && args[i+1] != "-") {
			return slices.Insert(slices.Clone(args), i+1, "-")
		}
	}
	return args
}

// check checks the plain values.
func (cfg *config) check() error {
	switch {
	case cfg.replicas < 1 || cfg.replicas > maxReplicas:
		return fmt.Errorf("-replicas is %d, want 1 to %d", cfg.replicas, maxReplicas)
	case cfg.gateways < 1 || cfg.gateways > maxGateways:
		return fmt.Errorf("-gateways is %d, want 1 to %d", cfg.gateways, maxGateways)
	case cfg.scrape < 0 || cfg.scrape > 0 && cfg.scrape < time.Millisecond:
		return fmt.Errorf("-scrape is %v, want at least 1ms, or 0 for never", cfg.scrape)
	case cfg.duration < time.Second || cfg.duration > maxDuration:
		return fmt.Errorf("-duration is %v, want 1s to %v", cfg.duration, maxDuration)
	case cfg.warmup < 0 || cfg.warmup >= cfg.duration:
		return fmt.Errorf("-warmup is %v, want at least 0 and less than -duration, which is %v", cfg.warmup, cfg.duration)
	case cfg.clients < 0 || cfg.clients > maxClients:
		return fmt.Errorf("-clients is %d, want 1 to %d", cfg.clients, maxClients)
	case cfg.explain < 0:
		return fmt.Errorf("-explain is %d, want the number of a request, from 1", cfg.explain)
	}
	stdout := 0
	for _, o := range []struct{ flag, path string }{{"-html", cfg.html}, {"-json", cfg.json}, {"-csv", cfg.csv}} {
		if err := checkOutput(o.flag, o.path); err != nil {
			return err
		}
		if o.path == "-" {
			stdout++
		}
	}
	if stdout > 1 {
		return errors.New("only one of -html, -json and -csv can go to stdout")
	}
	return nil
}

// checkOutput finds out before a long run whether a file can be written.
func checkOutput(flagName, path string) error {
	if path == "" || path == "-" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s %s is a directory, want a file", flagName, path)
	}
	info, err := os.Stat(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return fmt.Errorf("%s %s: there is no directory %s", flagName, path, filepath.Dir(path))
	}
	return err
}

// floats reads a list of numbers above 0, and sorts it.
func floats(list string, most float64) ([]float64, error) {
	var xs []float64
	for _, s := range strings.Split(list, ",") {
		x, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil || math.IsNaN(x) || x <= 0 || x > most {
			return nil, fmt.Errorf("%q, want numbers above 0 and at most %g, separated by commas", s, most)
		}
		if slices.Contains(xs, x) {
			return nil, fmt.Errorf("%g is there twice", x)
		}
		xs = append(xs, x)
	}
	slices.Sort(xs)
	return xs, nil
}

// commandLine is how to do the same again, in a shell.
func commandLine(args []string, seedGiven bool) string {
	words := []string{"go run ./examples/simulator"}
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n'\"\\$`*?[](){}<>|&;!#~") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	if !seedGiven {
		words = append(words, "-seed 1")
	}
	return strings.Join(words, " ")
}

func joinFloats(xs []float64) string {
	words := make([]string, len(xs))
	for i, x := range xs {
		words[i] = strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strings.Join(words, ",")
}

// wrap joins words with commas, in lines that fit after an indent. The first line
// has some text before it.
func wrap(words []string, indent int) string {
	const before = 20
	var b strings.Builder
	column := indent + before
	for i, w := range words {
		if i > 0 {
			b.WriteByte(',')
			column++
			if column+1+len(w)+1 > 80 {
				b.WriteString("\n" + strings.Repeat(" ", indent))
				column = indent
			} else {
				b.WriteByte(' ')
				column++
			}
		}
		b.WriteString(w)
		column += len(w)
	}
	return b.String()
}
