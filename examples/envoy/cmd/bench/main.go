// Bench measures what asking a picker costs through a real Envoy: the same Envoy with
// plain round robin, with a picker in a process of its own (ext_proc) and with one that it has loaded (a
// dynamic module), in turns, on the same machine, with the same requests. Of both ways there is
// one that looks at nothing and gives every byte back: what the way itself costs.
//
//	go run ./cmd/bench                                # all
//	go run ./cmd/bench -cases 220 -only 'round|inferpick' -rounds 5 -markdown
//
// Model servers answer at once and clients share the machine with everything else, so
// that only differences and ratios mean something. CPU time and memory of the processes are what the
// kernel says.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
	"time"

	flag "github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/internal/commandline"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var s setup
	role := flag.String("role", "", "what a process that bench starts is: for its own use")
	flag.StringVar(&s.config, "config", "", "configuration of the picker: for its own use")
	flag.StringVar(&s.home, "home", ".", "`folder` of this module of Go")
	only := flag.String("only", "", "`regexp` of the names of the contenders to run: round robin, ext_proc: empty, ext_proc: inferpick, module: empty, module: inferpick (default all)")
	names := flag.String("cases", "", "`regexp` of the names of the cases to run, as the tables have them (default all)")
	rounds := flag.Int("rounds", 3, "how often each case is measured; the best round of each contender is reported")
	duration := flag.Duration("duration", 5*time.Second, "of one measurement")
	flag.IntVar(&s.workers, "workers", 2, "worker threads of Envoy")
	flag.IntVar(&s.pickerProcs, "picker-procs", 1, "GOMAXPROCS of the pickers beside Envoy, as a CPU limit sets it")
	flag.IntVar(&s.moduleProcs, "module-procs", 0, "GOMAXPROCS of the modules in Envoy (default what they take themselves)")
	profile := flag.String("profile", "", "`file` for CPU profiles of the last round of the last case; names of contenders are added. That of a module has what is Go's, and misnames what is Envoy's")
	markdown := flag.Bool("markdown", false, "print tables in Markdown")
	if err := commandline.Parse(flag.CommandLine, os.Args[1:]); err != nil {
		return err
	}
	switch *role {
	case "picker":
		return servePicker(ctx, s.config)
	case "empty":
		return serveEmpty(ctx, s.config)
	case "":
	default:
		return fmt.Errorf("-role %q is none", *role)
	}

	chosen, err := regexp.Compile(*names)
	if err != nil {
		return fmt.Errorf("-cases: %w", err)
	}
	if s.only, err = regexp.Compile(*only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if s.bin, err = envoyproxy.Find(s.home); err != nil {
		return err
	}
	loads := cases(chosen)
	if len(loads) == 0 {
		return errors.New("-cases matches no case")
	}
	b, err := newBench(ctx, s)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Printf("%s, %d CPUs, Envoy with %d workers, pickers with GOMAXPROCS %d, modules with %s, best of %d rounds of %v each\n\n",
		runtime.Version(), runtime.NumCPU(), s.workers, s.pickerProcs, procs(s.moduleProcs), *rounds, *duration)
	for i, c := range loads {
		file := ""
		if i == len(loads)-1 {
			file = *profile
		}
		results, err := b.measure(ctx, c, *rounds, *duration, file)
		if err != nil {
			return err
		}
		timings(c, b.started, results).print(os.Stdout, *markdown)
	}
	memory, err := memories(b.started)
	if err != nil {
		return err
	}
	memory.print(os.Stdout, *markdown)
	return nil
}

func procs(n int) string {
	if n == 0 {
		return "what they take"
	}
	return fmt.Sprint(n)
}
