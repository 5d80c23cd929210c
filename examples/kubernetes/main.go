// Kubernetes is an inference gateway for a Kubernetes cluster in one process, without Envoy:
// it serves the Gateways of its class and their HTTPRoutes, and schedules the requests to
// InferencePools itself.
//
//	go run ./examples/kubernetes -kubeconfig ~/.kube/config -address 127.0.0.1
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

	"github.com/inferpick/inferpick/examples/kubernetes/app"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program the hard way
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is the whole program: it returns the exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parseFlags(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	}
	var o app.Options
	if err == nil {
		o, err = f.options(stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "kubernetes: %v\nRun with -h for usage.\n", err)
		return exitUsage
	}
	g, err := app.New(o)
	if err == nil {
		err = g.Run(ctx)
	}
	if err != nil {
		fmt.Fprintf(stderr, "kubernetes: %v\n", err)
		return exitError
	}
	return exitOK
}
