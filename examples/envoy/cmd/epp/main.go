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

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/flags"
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
	f, err := flags.Parse(args, stdout)
	if errors.Is(err, flags.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "epp: %v\nRun with -h for usage.\n", err)
		return exitUsage
	}
	if f.Version {
		fmt.Fprint(stdout, versionText())
		return exitOK
	}
	if f.Check != "" {
		return check(f.Check, f.Options.Config, f.Loader(), stdout, stderr)
	}
	f.Options.Version, f.Options.Commit = build()
	logger := f.Logger(stderr)
	app, closeRest, err := f.App(ctx, logger)
	if err != nil {
		fmt.Fprintf(stderr, "epp: %s\n", strings.TrimPrefix(err.Error(), "epp: "))
		return exitError
	}
	defer closeRest()
	defer reloadOnHangup(app, logger)()
	defer epp.ReserveHeap()()
	if err := app.Run(ctx); err != nil {
		logger.Error(err.Error())
		return exitError
	}
	return exitOK
}
