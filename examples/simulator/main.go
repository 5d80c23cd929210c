// Simulator compares scheduling policies on a simulated fleet of LLM model
// servers, in seconds and without a GPU.
//
//	go run ./examples/simulator
//
// plays the shared-prefix workload against ten simulated replicas at several
// loads, once for each policy, prints a table and writes a page with plots,
// simulator.html. Flags choose the workload, the policies (profiles of one's own
// among them), the fleet and what is written; -h lists them.
//
// The parts, in the order in which a reader meets them: flags.go reads what is
// asked for; plan.go makes a list of runs of it; pool.go plays them on all
// cores; summary.go puts the runs of several seeds together; table.go, files.go
// and page.go say what came out. The simulation itself is package
// scheduling/simulation, the policies are in package policies beside this one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second Ctrl-C ends the program the hard way.
	context.AfterFunc(ctx, stop)
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is the whole program: it returns the exit code when the work is done or
// ctx is.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args)
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(stdout, usage())
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "simulator: %v\nRun with -h for usage.\n", err)
		return exitUsage
	}
	return run(ctx, cfg, stdout, stderr)
}
