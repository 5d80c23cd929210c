package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/picker"
)

type flags struct {
	options   epp.Options
	otlp      string
	logLevel  slog.Level
	logFormat string
	check     string // what to look at instead of serving
}

// parseFlags reads the command line. With -h it writes the usage to out and returns
// flag.ErrHelp.
func parseFlags(args []string, out io.Writer) (*flags, error) {
	f := new(flags)
	o := &f.options
	fs := flag.NewFlagSet("epp", flag.ContinueOnError)
	fs.SetOutput(io.Discard)

	fs.StringVar(&o.Config, "config", "", "`file or folder` of YAML documents: InferencePool, InferenceModel, InferenceObjective, InferenceModelRewrite, EndpointPickerConfig, StaticEndpoints (required)")
	fs.BoolVar(&o.Strict, "strict", false, "take fields that are not known for errors; without, they are warned of")
	fs.StringVar(&f.check, "check", "", "say which objects of a `file or folder`, with all that are inside, would be read and what is wrong with the others, and end: with 1 if there is something; with -config, that is looked at as a whole, too")
	fs.DurationVar(&o.ReloadInterval, "reload-interval", time.Second, "time between two looks at the configuration")

	fs.StringVar(&o.GRPCAddr, "grpc-addr", ":9002", "`address` of the picker, for Envoy: host:port, or unix:/path")
	fs.StringVar(&o.HealthAddr, "health-addr", ":9003", "`address` of gRPC health, for probes; - for none")
	fs.StringVar(&o.MetricsAddr, "metrics-addr", ":9090", "`address` of /metrics and /explain; - for none")
	fs.BoolVar(&o.Pprof, "pprof", false, "serve /debug/pprof at -metrics-addr, too")
	fs.Func("tls", "`mode` of the picker's port: off, or self-signed (default off; -tls-cert and -tls-key for one's own)", func(s string) error {
		switch s {
		case "off":
			o.TLS.SelfSigned = false
		case "self-signed":
			o.TLS.SelfSigned = true
		default:
			return errors.New("want off or self-signed")
		}
		return nil
	})
	fs.StringVar(&o.TLS.CertFile, "tls-cert", "", "certificate `file` (PEM), read again when it changes")
	fs.StringVar(&o.TLS.KeyFile, "tls-key", "", "key `file` (PEM)")

	fs.Func("pool", "`name` or namespace/name of the pool of every request (default: the one that serves the model)", func(s string) (err error) {
		o.Pool, err = picker.ParsePool(s)
		return err
	})
	fs.IntVar(&o.MaxBody, "max-body", picker.DefaultMaxBody, "largest request body in `bytes`")
	fs.IntVar(&o.MaxDestinations, "max-destinations", 0, "most endpoints to name, the choice and its fallbacks; 1 for ORIGINAL_DST clusters (default: what the profile says)")
	fs.Func("request-body-mode", "`mode` of an Envoy that does not tell it: full-duplex or buffered (default full-duplex)", bodyMode(&o.RequestBody))
	fs.Func("response-body-mode", "`mode` of an Envoy that does not tell it: full-duplex, streamed or buffered (default full-duplex)", bodyMode(&o.ResponseBody, "streamed"))
	fs.Func("unknown-models", "what to do with a model that no manifest names: `pass` it on, or refuse (default pass)", func(s string) error {
		if s != "pass" && s != "refuse" {
			return errors.New("want pass or refuse")
		}
		o.RefuseUnknownModels = s == "refuse"
		return nil
	})
	fs.BoolVar(&o.KeepTargetModel, "keep-target-model", false, "leave the target model's name in responses")
	fs.BoolVar(&o.IgnoreRequestHeaders, "ignore-request-headers", false, "do not read the objective, fairness and rewrite headers, for clients that are not trusted with them")
	fs.StringVar(&o.SessionHeader, "session-header", "", "`header` that holds a session (default x-session-id)")
	fs.DurationVar(&o.ScrapeInterval, "scrape-interval", 50*time.Millisecond, "time between two readings of a server's metrics")
	fs.DurationVar(&o.DrainDelay, "drain-delay", 0, "how long to go on after SIGTERM with health NOT_SERVING, so that gateways notice")
	fs.DurationVar(&o.DrainTimeout, "drain-timeout", 30*time.Second, "how long requests under way may take after that")

	fs.StringVar(&f.otlp, "otlp-endpoint", "", "`host:port` that OpenTelemetry spans go to by gRPC without TLS (default: no spans)")
	fs.Func("log-level", "`level`: debug, info, warn or error (default info)", func(s string) error { return f.logLevel.UnmarshalText([]byte(s)) })
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")

	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(out, "Usage: epp -config FILE_OR_FOLDER [flags]\n\n")
			fs.SetOutput(out)
			fs.PrintDefaults()
		}
		return nil, err
	}
	switch {
	case fs.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case f.check != "":
	case o.Config == "":
		return nil, errors.New("-config is required")
	case f.logFormat != "text" && f.logFormat != "json":
		return nil, fmt.Errorf("-log-format %q, want text or json", f.logFormat)
	case o.MaxBody <= 0:
		return nil, fmt.Errorf("-max-body %d, want more than 0", o.MaxBody)
	}
	return f, nil
}

func bodyMode(to *picker.BodyMode, also ...string) func(string) error {
	modes := map[string]picker.BodyMode{
		"full-duplex": extprocv3.ProcessingMode_FULL_DUPLEX_STREAMED,
		"buffered":    extprocv3.ProcessingMode_BUFFERED,
		"streamed":    extprocv3.ProcessingMode_STREAMED,
	}
	known := append([]string{"full-duplex", "buffered"}, also...)
	return func(s string) error {
		if !slices.Contains(known, s) {
			return fmt.Errorf("want one of %s", strings.Join(known, ", "))
		}
		*to = modes[s]
		return nil
	}
}

func (f *flags) logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: f.logLevel}
	if f.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
