// Bench measures what asking a picker costs through a real Envoy: the same Envoy with
// plain round robin, with a picker that looks at nothing and gives every byte back at
// once (the limit of Envoy's own body streaming), and with inferpick, in turns, on the
// same machine, with the same requests.
//
//	go run ./cmd/bench
//
// Model servers answer at once and clients share the machine with everything else, so
// that only differences and ratios mean something. Pickers run in processes of their
// own, whose CPU time is what the kernel says.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
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
	role := flag.String("role", "", "what a process that bench starts is: for its own use")
	config := flag.String("config", "", "configuration of the picker: for its own use")
	home := flag.String("home", ".", "`folder` of this module")
	envoy := flag.String("envoy-config", "", "Envoy's configuration `file` (default envoy.yaml of the module)")
	rounds := flag.Int("rounds", 3, "how often each case is measured; the best round of each is reported")
	duration := flag.Duration("duration", 5*time.Second, "of one measurement")
	only := flag.String("only", "", "part of the names of the cases to run (default: all)")
	workers := flag.Int("workers", runtime.NumCPU(), "worker threads of Envoy")
	procs := flag.Int("picker-procs", 1, "GOMAXPROCS of the pickers, as a CPU limit sets it")
	profile := flag.String("cpuprofile", "", "`file` for a CPU profile of the picker in the last case")
	if err := commandline.Parse(flag.CommandLine, os.Args[1:]); err != nil {
		return err
	}

	switch *role {
	case "picker":
		return servePicker(ctx, *config)
	case "empty":
		return serveEmpty(ctx, *config)
	case "":
	default:
		return fmt.Errorf("-role %q is none", *role)
	}
	bin, err := envoyproxy.Find(*home)
	if err != nil {
		return err
	}
	if *envoy == "" {
		*envoy = *home + "/envoy.yaml"
	}
	b, err := newBench(ctx, bin, *envoy, *workers, *procs)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Printf("%s, %d CPUs, Envoy with %d workers, pickers with GOMAXPROCS %d, %d rounds of %v, best of each\n\n", runtime.Version(), runtime.NumCPU(), *workers, *procs, *rounds, *duration)
	matched := false
	for _, c := range cases() {
		if !c.matches(*only) {
			continue
		}
		matched = true
		if err := b.measure(ctx, c, *rounds, *duration, *profile); err != nil {
			return err
		}
	}
	if !matched {
		return errors.New("-only matches no case")
	}
	return nil
}
