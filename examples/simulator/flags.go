package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/examples/simulator/scalers"
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
	maxLink     = 1e5
	maxShare    = 1e6
)

// defaultHTML is the page that is written if no other output is asked for.
const defaultHTML = "simulator.html"

// config is what the flags say.
type config struct {
	workload string // as given
	spec     simulation.Spec
	policies []simulation.Policy
	engine   engine.Config
	denoises *engine.DiffusionConfig // in place of engine; nil: no diffusion model
	replicas int
	gateways int
	share    bool               // all policies share
	sharing  simulation.Sharing // how messages come
	shares   []float64          // of the jobs; nil: all the same
	sticky   bool
	scrape   time.Duration // 0: metrics are never read

	// Of the replicas, so many compute prompts for others only, so many answer, and the rest of them, if these or
	// both are set, do both; with links of so many Gb/s.
	prefill, decode int
	both            bool
	link            float64

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
	scaling  string                              // file of a suite for laws of scaling; empty: none
	laws     []scalers.Law                       // that are played; nil: all
	cases    []string                            // of it that are; nil: all
	quick    bool                                // less of them
	tuning   bool                                // what the suite gives for tuning
	own      bool                                // each policy's capacity, too
	records  string                              // file of runs; empty: none
	fresh    []string                            // policies that are not taken from it
	svg      string                              // file of a figure; empty: none
	traces   map[string]string                   // files of the traces of a suite, by name

	command string // that does the same again
	core    core
}

// given are values of flags as they are given, to be read once all flags are.
type given struct {
	policy, profile, engine, load, rate, admission, fresh, trace, capacity, shares, law, cases string
	seed                                                                                       uint64
	seeds                                                                                      int
	flags                                                                                      map[string]bool // those on the command line
}

// group is flags that belong together.
type group struct {
	title string
	*pflag.FlagSet
}

// groups returns all flags. They set cfg and g.
func (cfg *config) groups(g *given) []group {
	var engines []string
	for _, c := range engine.Calibrations() {
		engines = append(engines, c.Name)
	}
	for _, d := range engine.Denoisers() {
		engines = append(engines, d.Name)
	}
	var all []group
	add := func(title string) *pflag.FlagSet {
		f := pflag.NewFlagSet(title, pflag.ContinueOnError)
		f.SortFlags = false
		all = append(all, group{title, f})
		return f
	}

	f := add("What is played")
	f.StringVar(&cfg.workload, "workload", defaultWorkload, "workload `NAME`: "+strings.Join(workloadNames(), ", "))
	f.StringVar(&g.policy, "policy", strings.Join(defaultPolicies(), ","), "`LIST` of policies, separated by commas, or all. Default: "+strings.Join(defaultPolicies(), ", "))
	f.Lookup("policy").DefValue = "" // the text has it, in lines that can be wrapped
	f.StringVar(&g.profile, "profile", "", "`LIST` of files with profiles of your own, declared as plugins.Config; each profile is played beside the policies, as FILE#NAME")
	f.StringVar(&g.load, "load", "", "`LIST` of requests per second, as fractions of the measured capacity, the highest rate at which least-req keeps up. Default: "+
		joinFloats(defaultLoads())+"; a trace or SPEC.json plays at its own rate")
	f.StringVar(&g.rate, "rate", "", "`LIST` of requests per second, in place of -load")
	f.IntVar(&cfg.clients, "clients", 0, "closed loop: `N` clients that each send a request when their last one has ended, in place of -load and -rate")
	f.DurationVar(&cfg.duration, "duration", defaultDuration, "simulated time `D` in which requests arrive")
	f.DurationVar(&cfg.warmup, "warmup", 0, "time `D` at its beginning, not counted. Default: a quarter of it")
	f.Uint64Var(&g.seed, "seed", 1, "seed `N` of the first run")
	f.IntVar(&g.seeds, "seeds", defaultSeeds, "number of runs, with the seeds `N`, N+1, ...")

	f = add("The fleet")
	f.StringVar(&g.engine, "engine", engine.Llama31H100().Name, "what a replica is, by `NAME`: "+strings.Join(engines, ", ")+", or FILE.json with an engine.Config")
	f.IntVar(&cfg.replicas, "replicas", 10, fmt.Sprintf("number of servers, `N` from 1 to %d", maxReplicas))
	f.IntVar(&cfg.prefill, "prefill", 0, "`N` of the servers only compute prompts, for others that answer. With this, -decode or -both, the rest of them do both. "+
		"Policies that send prompts elsewhere: "+strings.Join(apartNames(), ", "))
	f.IntVar(&cfg.decode, "decode", 0, "`N` of the servers answer, with prompts that others compute or by themselves. -replicas is by default the sum of both")
	f.BoolVar(&cfg.both, "both", false, "all servers may compute prompts for each other")
	f.Float64Var(&cfg.link, "link", 200, "what they send prompts over, in `Gb/s` of each server")
	f.DurationVar(&cfg.scrape, "scrape", 50*time.Millisecond, "they read the replicas' metrics every `D`; 0 is never")

	f = add("The gateways")
	f.IntVar(&cfg.gateways, "gateways", 1, "number `N` of gateways that share the fleet")
	f.BoolVar(&cfg.share, "share", false, "they tell each other what they know, whatever the policy. Those that do by themselves: "+strings.Join(names(policies.Shared()), ", "))
	f.DurationVar(&cfg.sharing.Every, "share-every", 100*time.Millisecond, "each tells the others every `D`")
	f.DurationVar(&cfg.sharing.Delay, "share-delay", time.Millisecond, "messages take `D`")
	f.DurationVar(&cfg.sharing.Jitter, "share-jitter", 0, "they are late by an exponential time with mean `D`: some overtake others")
	f.Float64Var(&cfg.sharing.Lost, "share-loss", 0, "the `PART` of messages, 0 to 1, that do not come to one of those they are for")
	f.StringVar(&g.shares, "shares", "", "`LIST` of what part of the requests each gateway gets, relative to the others. Default: all get as many")
	f.BoolVar(&cfg.sticky, "sticky", false, "all requests of a session go to the same gateway, not to each in turn")

	f = add("What is written")
	f.StringVar(&cfg.html, "html", defaultHTML, "page `FILE` with plots and tables, unless -json or -csv is given; -html \"\" writes none")
	f.StringVar(&cfg.json, "json", "", "all reports to `FILE`; - is stdout, and so is -json without FILE")
	f.StringVar(&cfg.csv, "csv", "", "a line for each run to `FILE`; - is stdout")
	f.StringVar(&cfg.show, "show", "", "`POLICY` whose run the page shows in detail. Default: that with the lowest p90 of the time to first token")
	f.IntVar(&cfg.explain, "explain", 0, "number `N` of the request whose decision the page explains. Default: one from the middle")
	f.BoolVar(&cfg.cpu, "cpu", false, "measure the time that decisions take: the one figure that is not the same in every run")

	f = add("In place of all that")
	f.BoolVar(&cfg.anchors, "anchors", false, "play what others have measured and published, and print what is within its tolerance. The exit code is 1 if any is not")
	f.BoolVar(&cfg.overload, "overload", false, "play fleets that are asked for more than they can do, by requests of mixed criticality and by unequal tenants, "+
		"with no admission control, the reference's shedding and ours. Goes with -seed, -seeds, -quick, -trace vtc=FILE and -admission")
	f.StringVar(&g.admission, "admission", "", "with -overload: `LIST` of files with an admission.Config each, to be played beside the others")
	f.StringVar(&cfg.suite, "suite", "", "play the cases of the suite in `FILE`, such as examples/simulator/suite/suite.json, and print the regret of each policy: "+
		"its p90 over the best policy's. Goes with -policy (default all), -profile, -seed, -seeds, -trace, -tuning, -capacity, -records and -fresh. "+
		"The exit code is 1 if a requirement of the suite does not hold")
	f.StringVar(&cfg.scaling, "scaling", "", "play laws that choose the number of replicas on the cases of `FILE`, such as examples/simulator/suite/autoscaling.json, "+
		"and print what share of requests each serves in time for how many replica-hours. Goes with -law, -case, -seed, -seeds, -quick, -records and -html")
	f.StringVar(&g.law, "law", "", "with -scaling: `LIST` of laws. Default: all. "+strings.Join(lawNames(), ", "))
	f.StringVar(&g.cases, "case", "", "with -scaling: `LIST` of the cases to play. Default: all")
	f.StringVar(&g.trace, "trace", "", "`LIST` of files of the traces that a suite names, as NAME=FILE")
	f.BoolVar(&cfg.tuning, "tuning", false, "play the seeds and the half of the traces that the suite gives for choosing constants, not those of its claims")
	f.StringVar(&g.capacity, "capacity", "suite", "with -suite: whose capacity is measured, `WHOSE`: suite, that of the one policy of which its loads are fractions; "+
		"own, that of each policy, too, in the first case of each family: some six runs each")
	f.StringVar(&cfg.records, "records", "", "take runs that were played before from `FILE`, and add those that are. Throw it away when the simulator changes")
	f.StringVar(&cfg.svg, "svg", "", "with -suite: a figure to `FILE`, of in how many cases each policy is within so many times the best")
	f.StringVar(&g.fresh, "fresh", "", "with -records: `LIST` of policies to be played anew")
	f.BoolVar(&cfg.quick, "quick", false, "with -anchors, -overload, -suite or -scaling: less of it, to see that it runs")
	return all
}

func usage() string {
	var b strings.Builder
	b.WriteString(`Simulator plays a workload against a simulated fleet of LLM model servers, once
for each scheduling policy, load and seed, and compares latencies. No GPU and no
network are needed, and the same flags give the same figures on every machine.

Usage: go run ./examples/simulator [flags]; long names have one dash or two
`)
	for _, g := range new(config).groups(new(given)) {
		fmt.Fprintf(&b, "\n%s\n%s", g.title, g.FlagUsagesWrapped(80))
	}
	b.WriteString(`
Examples:
  go run ./examples/simulator
  go run ./examples/simulator -workload agentic -policy all -seeds 5
  go run ./examples/simulator -profile mine.json -load 0.9 -html mine.html
  go run ./examples/simulator -rate 120 -policy least-req,classic-223 -json

Simulated latencies compare policies; they are not to be quoted as measured.
`)
	return b.String()
}

const (
	defaultDuration = 120 * time.Second
	defaultSeeds    = 2
)

func defaultLoads() []float64 { return []float64{0.5, 0.8, 0.95, 1.1} }

// parseFlags reads and checks the flags. The error is pflag.ErrHelp if help was
// asked for; any other says which flag is wrong and what it may be.
func parseFlags(args []string) (config, error) {
	args = jsonToStdout(args)
	cfg, g := config{core: realCore()}, given{flags: map[string]bool{}}
	f := pflag.NewFlagSet("simulator", pflag.ContinueOnError)
	f.Usage = func() {}
	for _, one := range cfg.groups(&g) {
		f.AddFlagSet(one.FlagSet)
	}
	if err := parseArgs(f, args); err != nil {
		return cfg, err
	}
	f.Visit(func(f *pflag.Flag) { g.flags[f.Name] = true })
	cfg.command = commandLine(args, g.flags["seed"])
	if err := checkMode(g.flags); err != nil {
		return cfg, err
	}

	if !g.flags["html"] && (g.flags["json"] || g.flags["csv"]) {
		cfg.html = ""
	}
	if !g.flags["warmup"] {
		cfg.warmup = cfg.duration / 4
	}
	if n := cfg.prefill + cfg.decode; !g.flags["replicas"] && n > 0 {
		cfg.replicas = n
	}
	if err := cfg.check(); err != nil {
		return cfg, err
	}
	if g.flags["link"] && !cfg.roles() {
		return cfg, errors.New("-link goes with -prefill, -decode or -both: else nothing is sent")
	}
	if err := cfg.checkGateways(&g); err != nil {
		return cfg, err
	}
	if g.seeds < 1 || g.seeds > maxSeeds {
		return cfg, fmt.Errorf("-seeds is %d, want 1 to %d", g.seeds, maxSeeds)
	}
	for i := range g.seeds {
		cfg.seeds = append(cfg.seeds, g.seed+uint64(i))
	}

	var err error
	if cfg.traces, err = tracePaths(g.trace); err != nil {
		return cfg, fmt.Errorf("-trace: %w", err)
	}
	if cfg.admit, err = admissionFiles(g.admission); err != nil {
		return cfg, fmt.Errorf("-admission: %w", err)
	}
	if cfg.scaling != "" {
		return cfg, cfg.loadScaling(&g)
	}
	if cfg.anchors || cfg.overload || cfg.suite != "" {
		return cfg, cfg.loadSuite(&g)
	}
	return cfg, cfg.loadRun(&g)
}

// checkGateways checks what is said of the gateways.
func (cfg *config) checkGateways(g *given) (err error) {
	if g.shares != "" {
		if cfg.shares, err = list(g.shares, maxShare); err != nil {
			return fmt.Errorf("-shares: %w", err)
		}
		if len(cfg.shares) != cfg.gateways {
			return fmt.Errorf("-shares has %d numbers, want one for each of the %d of -gateways", len(cfg.shares), cfg.gateways)
		}
	}
	s := &cfg.sharing
	for _, d := range []struct {
		flag        string
		value       time.Duration
		least, most time.Duration
	}{
		{"-share-every", s.Every, 10 * time.Millisecond, 10 * time.Second},
		{"-share-delay", s.Delay, 0, time.Minute},
		{"-share-jitter", s.Jitter, 0, time.Minute},
	} {
		if d.value < d.least || d.value > d.most {
			return fmt.Errorf("%s is %v, want %v to %v", d.flag, d.value, d.least, d.most)
		}
	}
	if !(s.Lost >= 0 && s.Lost <= 1) {
		return fmt.Errorf("-share-loss is %v, want 0 to 1", s.Lost)
	}
	if s.Delay == 0 {
		s.Delay = -1 // none
	}
	return nil
}

// tells reports whether gateways tell each other anything, with some of the policies.
func (cfg *config) tells() bool {
	return slices.ContainsFunc(cfg.policies, func(p simulation.Policy) bool { return p.Sharer != nil })
}

// parseArgs is f.Parse for long names with one dash or two, and no arguments that are no flags.
func parseArgs(f *pflag.FlagSet, args []string) error {
	args = slices.Clone(args)
	for i, a := range args {
		name, dash := strings.CutPrefix(a, "-")
		name, _, _ = strings.Cut(name, "=")
		if dash && name != "" && f.Lookup(name) != nil {
			args[i] = "-" + a
		}
	}
	err := f.Parse(args)
	if unknown := (*pflag.NotExistError)(nil); errors.As(err, &unknown) {
		return fmt.Errorf("unknown flag -%s", cmp.Or(unknown.GetSpecifiedShortnames(), unknown.GetSpecifiedName()))
	}
	if err == nil && f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: everything is a flag", f.Arg(0))
	}
	return err
}

// loadSuite reads what the flags of a suite name.
func (cfg *config) loadSuite(g *given) (err error) {
	if !g.flags["seed"] && !g.flags["seeds"] {
		cfg.seeds = nil // those of the suite
	}
	if !g.flags["policy"] {
		g.policy = ""
	}
	if cfg.own = g.capacity == "own"; !cfg.own && g.capacity != "suite" {
		return fmt.Errorf("-capacity is %q, want suite or own", g.capacity)
	}
	if g.fresh != "" && cfg.records == "" {
		return errors.New("-fresh goes with -records: without, all is played anew")
	}
	if g.fresh != "" {
		cfg.fresh = strings.Split(g.fresh, ",")
	}
	cfg.policies, err = suitePolicies(g.policy, g.profile)
	return err
}

// loadScaling reads what the flags of a suite for scaling name.
func (cfg *config) loadScaling(g *given) error {
	if !g.flags["seed"] && !g.flags["seeds"] {
		cfg.seeds = nil // those of the suite
	}
	if !g.flags["html"] {
		cfg.html = ""
	}
	if g.cases != "" {
		cfg.cases = strings.Split(g.cases, ",")
	}
	if g.law == "" {
		return nil
	}
	for _, name := range strings.Split(g.law, ",") {
		law, err := scalers.ByName(name)
		if err != nil {
			return fmt.Errorf("-law: %w", err)
		}
		cfg.laws = append(cfg.laws, law)
	}
	return nil
}

// lawNames are the laws that choose the number of replicas.
func lawNames() []string {
	var names []string
	for _, l := range scalers.Laws() {
		names = append(names, l.Name)
	}
	return names
}

// loadRun reads what the flags of a run name.
func (cfg *config) loadRun(g *given) (err error) {
	if cfg.denoises = loadDenoiser(g.engine); cfg.denoises != nil {
		if cfg.roles() {
			return fmt.Errorf("-engine: %s is a diffusion model, which knows no -prefill, -decode and -both", g.engine)
		}
	} else if cfg.engine, err = loadEngine(g.engine); err != nil {
		return fmt.Errorf("-engine: %w", err)
	}
	if cfg.spec, err = loadWorkload(cfg.workload); err != nil {
		return fmt.Errorf("-workload: %w", err)
	}
	if cfg.policies, err = loadPolicies(g.policy, g.profile); err != nil {
		return err
	}
	for i := range cfg.policies {
		if cfg.share {
			cfg.policies[i].Sharer = policies.Sharer
		}
	}
	for _, name := range []string{"share-every", "share-delay", "share-jitter", "share-loss"} {
		if g.flags[name] && !cfg.tells() {
			return fmt.Errorf("-%s goes with -share, or with one of the policies %s: else nobody tells anything", name, strings.Join(names(policies.Shared()), ", "))
		}
	}
	if cfg.show != "" && !slices.ContainsFunc(cfg.policies, func(p simulation.Policy) bool { return p.Name == cfg.show }) {
		return fmt.Errorf("-show is %q, want one of the policies that are played: %s", cfg.show, strings.Join(names(cfg.policies), ", "))
	}
	load, rate := g.flags["load"], g.flags["rate"]
	switch {
	case cfg.clients > 0 && (load || rate):
		return errors.New("-clients is a closed loop, in which neither -load nor -rate means anything")
	case cfg.clients > 0:
	case load && rate:
		return errors.New("-load and -rate exclude each other")
	case rate:
		if cfg.rates, err = floats(g.rate, maxRate); err != nil {
			return fmt.Errorf("-rate: %w", err)
		}
	case load:
		if cfg.loads, err = floats(g.load, maxLoad); err != nil {
			return fmt.Errorf("-load: %w", err)
		}
	case !hasOwnRate(cfg.workload):
		cfg.loads = defaultLoads()
	}
	return nil
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
		mode, with = "-suite", []string{"suite", "policy", "profile", "seed", "seeds", "trace", "quick", "tuning", "records", "fresh", "capacity", "svg"}
	case given["scaling"]:
		mode, with = "-scaling", []string{"scaling", "law", "case", "quick", "seed", "seeds", "records", "html"}
	case given["law"], given["case"]:
		return errors.New("-law and -case are for -scaling")
	case given["admission"]:
		return errors.New("-admission is for -overload")
	case given["quick"], given["trace"], given["tuning"], given["records"], given["fresh"], given["capacity"], given["svg"]:
		return errors.New("-quick, -trace, -tuning, -records, -fresh, -capacity and -svg are for -suite, -quick and -trace for -overload, -quick and -records for -scaling and -quick for -anchors too")
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
	case cfg.prefill < 0 || cfg.decode < 0 || cfg.prefill+cfg.decode > cfg.replicas:
		return fmt.Errorf("-prefill is %d and -decode %d, want at least 0, and together at most the %d of -replicas", cfg.prefill, cfg.decode, cfg.replicas)
	case cfg.prefill == cfg.replicas:
		return fmt.Errorf("-prefill is %d of %d servers, want fewer: none would answer", cfg.prefill, cfg.replicas)
	case cfg.prefill == 0 && cfg.decode == cfg.replicas:
		return fmt.Errorf("-decode is %d of %d servers, want fewer, or none: none would compute prompts for others", cfg.decode, cfg.replicas)
	case !(cfg.link > 0 && cfg.link <= maxLink):
		return fmt.Errorf("-link is %v, want above 0 and at most %v", cfg.link, float64(maxLink))
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

// floats reads a list of numbers above 0, each of which is there once, and sorts it.
func floats(text string, most float64) ([]float64, error) {
	xs, err := list(text, most)
	slices.Sort(xs)
	for i := range xs {
		if i > 0 && xs[i] == xs[i-1] {
			return nil, fmt.Errorf("%g is there twice", xs[i])
		}
	}
	return xs, err
}

// list reads a list of numbers above 0.
func list(text string, most float64) ([]float64, error) {
	var xs []float64
	for _, s := range strings.Split(text, ",") {
		x, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil || math.IsNaN(x) || x <= 0 || x > most {
			return nil, fmt.Errorf("%q, want numbers above 0 and at most %g, separated by commas", s, most)
		}
		xs = append(xs, x)
	}
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
