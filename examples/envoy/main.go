// Envoy shows inferpick as the endpoint picker of a real Envoy, on one machine:
// simulated model servers, the picker, and Envoy with the shipped envoy.yaml; or, with -module,
// Envoy that has loaded the picker into its own process, with envoy-module.yaml.
//
//	go run ./examples/envoy
//	curl http://127.0.0.1:8081/v1/chat/completions \
//	  -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
//
// The picker is configured by the folder demo, which may be changed while it runs.
// Command cmd/epp is the picker alone, for use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/internal/commandline"
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

// settings are what the command line says.
type settings struct {
	config, bootstrap, listen string
	module, debug             bool
	at                        addresses
}

// command is the whole program: it returns the exit code.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s, err := parseFlags(args, stdout)
	if errors.Is(err, pflag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "envoy: %v\nRun with -h for usage.\n", err)
		return exitUsage
	}
	if err := run(ctx, s, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "envoy: %v\n", err)
		switch {
		case errors.Is(err, envoyproxy.ErrNotFound):
			fmt.Fprintf(stderr, "envoy: %s installs it into a folder of its own\n", filepath.Join(home(), "install-envoy.sh"))
		case errors.Is(err, envoyproxy.ErrNoCompiler):
			fmt.Fprintln(stderr, "envoy: install gcc or clang, or run it without -module: the picker in a process of its own needs none")
		}
		return exitError
	}
	return exitOK
}

// bootstrapFiles are Envoy's configurations, by whether the picker is a module.
var bootstrapFiles = map[bool]string{false: "envoy.yaml", true: "envoy-module.yaml"}

func parseFlags(args []string, out io.Writer) (s settings, err error) {
	s.at = defaultAddresses
	fs := pflag.NewFlagSet("envoy", pflag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(out, "Usage: envoy [flags]\n\n", fs.FlagUsagesWrapped(100)) }
	fs.StringVar(&s.config, "config", filepath.Join(home(), "demo"), "the picker's configuration, a `file or folder`; model servers are simulated at the addresses in it")
	fs.StringVar(&s.bootstrap, "envoy-config", "", "Envoy's configuration `file` (default envoy.yaml, with -module envoy-module.yaml, beside the source)")
	fs.StringVar(&s.listen, "listen", "127.0.0.1:8081", "`address` that Envoy listens on")
	fs.BoolVar(&s.module, "module", false, "load the picker into Envoy, as a dynamic module; it is built for that, with a C compiler")
	fs.BoolVar(&s.debug, "debug", false, "tell of every request")
	err = commandline.Parse(fs, args)
	if s.bootstrap == "" {
		s.bootstrap = filepath.Join(home(), bootstrapFiles[s.module])
	}
	return s, err
}

// home is the folder of this program's source, where its files are; they are found
// from any folder that it is run in.
func home() string {
	_, file, _, _ := runtime.Caller(0)
	if _, err := os.Stat(filepath.Join(filepath.Dir(file), "envoy.yaml")); err == nil {
		return filepath.Dir(file)
	}
	return "." // built with -trimpath: run it in its folder
}
