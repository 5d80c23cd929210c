// Epp is an endpoint picker for Envoy, and for every gateway that speaks the Endpoint
// Picker Protocol over ext_proc.
//
//	epp -config DIR_OR_FILE [flags]
//	epp -kubernetes [flags]
//
// What it serves is in files, or in a cluster: InferencePools, their pods, and what else there is
// for them; then files have policies alone, and there need be none.
//
// SIGHUP reads the configuration again at once; a change of its files is noticed
// within a second. SIGINT and SIGTERM drain: health says NOT_SERVING, requests under
// way finish. A second one ends it at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends the program the hard way
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is the whole program: it returns the exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "epp: %v\nRun with -h for usage.\n", err)
		return exitUsage
	}
	if f.version {
		fmt.Fprint(stdout, versionText())
		return exitOK
	}
	if f.inspect != "" {
		loader := epp.Loader(f.options.Strict)
		loader.PoolsElsewhere, loader.RoleLabel = *f.kube.on, f.options.RoleLabel
		return check(f.inspect, f.options.Config, loader, stdout, stderr)
	}
	logger := f.logger(stderr)
	f.options.Logger = logger
	f.options.Version, f.options.Commit = build()
	for _, note := range f.notes {
		logger.Warn(note)
	}
	tracer, shutdown, err := f.trace.newTracer(ctx)
	if err != nil {
		fmt.Fprintf(stderr, "epp: %v\n", err)
		return exitError
	}
	defer shutdown()
	if tracer != nil {
		f.options.Tracer = tracer
	}
	if f.options.Kubernetes, err = f.cluster(); err != nil {
		fmt.Fprintf(stderr, "epp: %v\n", err)
		return exitError
	}
	remove, err := f.writeConfigText()
	if err != nil {
		fmt.Fprintf(stderr, "epp: %v\n", err)
		return exitError
	}
	defer remove()
	if f.options.Sharing, err = f.peers.sharing(logger); err != nil {
		fmt.Fprintf(stderr, "%v\n", err)
		return exitError
	}
	if f.options.Rollouts, err = f.rollouts.options(); err != nil {
		fmt.Fprintf(stderr, "epp: %v\n", err)
		return exitError
	}
	if f.options.Autoscale, err = f.autoscale(logger); err != nil {
		fmt.Fprintf(stderr, "epp: %s\n", strings.TrimPrefix(err.Error(), "epp: "))
		return exitError
	}
	app, err := epp.New(f.options)
	if err != nil {
		fmt.Fprintf(stderr, "epp: %s\n", strings.TrimPrefix(err.Error(), "epp: "))
		return exitError
	}
	defer reloadOnHangup(app, logger)()
	defer epp.ReserveHeap()()
	if err := app.Run(ctx); err != nil {
		logger.Error(err.Error())
		return exitError
	}
	return exitOK
}
