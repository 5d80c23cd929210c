// Quickstart shows inferpick at work on one machine: a fleet of simulated model
// servers, a gateway in front of it that embeds the scheduler, a workload, and
// the same workload once more on an identical fleet behind round robin.
//
//	go run ./examples/quickstart
//
// It serves OpenAI's API and a live page on http://127.0.0.1:8080 and draws a
// table in the terminal until Ctrl-C. No model is loaded and no GPU is needed:
// what is simulated is the part of an inference engine that a router can feel.
// Everything between the client and the engine is real HTTP.
//
// The parts of a gateway, in the order in which a reader meets them: fleet.go
// wires store, scraper, scheduler, admission control, director and transport;
// gateway.go makes an HTTP server of them; requestlog.go follows each request by
// their hooks, and keeps why it waited and why it went where it went. The rest is
// for the show.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
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

// command is the whole program: it returns the exit code when ctx is done or the
// work is.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage())
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "quickstart: %v\nRun with -h for usage.\n", err)
		return exitUsage
	}
	out := stdout
	if cfg.json == "-" {
		out = stderr // stdout is for the summary alone
	}
	summary, err := run(ctx, cfg, out)
	if err == nil && cfg.json != "" {
		err = summary.write(cfg.json, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "quickstart: %v\n", err)
		return exitError
	}
	return exitOK
}
