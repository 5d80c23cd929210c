// Package flags is the command line of the picker: what it may say, and how an App is made of it.
// Command epp and the module inside Envoy read the same.
package flags

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/commandline"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

// Flags are a command line that was read. Make them with Parse.
type Flags struct {
	// Options are what the flags say of the App so far. They may be changed before App, which completes them.
	Options epp.Options
	// Check is what to look at instead of serving, empty if nothing: -check.
	Check string
	// Version is that the build is to be told, instead of serving: -version.
	Version bool

	trace     traceFlags
	kube      kubeFlags
	peers     peerFlags
	rollouts  rolloutFlags
	scale     scaleFlags
	logLevel  slog.Level
	logFormat string
	theirs    theirs
	notes     []string // what has no effect
	// -tls self-signed was said; it is the default, but not beside files.
	selfSigned bool
}

// ErrHelp is Parse's error if help was asked for.
var ErrHelp = pflag.ErrHelp

// Parse reads a command line, without the program's name. With -h it writes the usage to out
// and returns ErrHelp.
func Parse(args []string, out io.Writer) (*Flags, error) {
	f, fs := newFlags()
	switch err := commandline.Parse(fs, args); {
	case errors.Is(err, ErrHelp):
		usage(fs, out)
		return nil, err
	case err != nil:
		return nil, err
	}
	if err := f.settle(); err != nil {
		return nil, err
	}
	return f, f.check()
}

// newFlags returns flags that are not read yet, ours and those of others.
func newFlags() (*Flags, *pflag.FlagSet) {
	f := new(Flags)
	fs := f.own()
	fs.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName { return pflag.NormalizedName(dashed(name)) })
	for i := range aliases {
		letter := ""
		if len(aliases[i].name) == 1 {
			letter = aliases[i].name
		}
		one := fs.VarPF(aliasValue{&aliases[i], f}, aliases[i].name, letter, "")
		one.Hidden = true
		if aliases[i].isBool {
			one.NoOptDefVal = "true"
		}
	}
	return f, fs
}

// dashed is the name of a flag whose words are joined by capitals, as they were to version
// 0.5 of the Inference Extension.
func dashed(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func usage(fs *pflag.FlagSet, out io.Writer) {
	fmt.Fprint(out, "Usage: epp -config FILE_OR_FOLDER [flags]\n       epp -kubernetes [flags]\n\n", fs.FlagUsagesWrapped(100))
	fmt.Fprint(out, "\nOne dash or two. Flags of the pickers of the Inference Extension and llm-d that are taken as\n"+
		"well; of one that has no effect here the log says why. Those of version 0.5 and before\n(-grpcPort) are, too:\n")
	for _, a := range aliases {
		fmt.Fprintf(out, "  -%s\n", a.name)
	}
}

// own returns our flags.
func (f *Flags) own() *pflag.FlagSet {
	o := &f.Options
	fs := pflag.NewFlagSet("epp", pflag.ContinueOnError)
	fs.Usage = func() {} // see usage
	f.ownPorts(fs)

	fs.StringVar(&o.Config, "config", "", "`file or folder` of YAML documents: InferencePool, InferenceModel, InferenceObjective, InferenceModelRewrite, EndpointPickerConfig, StaticEndpoints (required without -kubernetes)")
	fs.BoolVar(&o.Strict, "strict", false, "take fields that are not known for errors; without, they are warned of")
	fs.StringVar(&f.Check, "check", "", "say which objects of a `file or folder`, with all that are inside, would be read and what is wrong with the others, and end: with 1 if there is something; with -config, that is looked at as a whole, too")
	fs.DurationVar(&o.ReloadInterval, "reload-interval", time.Second, "time between two looks at the configuration")

	fs.Func("pool", "`name` or namespace/name of the pool of every request (default: the one that serves the model)", func(s string) (err error) {
		o.Pool, err = exchange.ParsePool(s)
		return err
	})
	fs.IntVar(&o.MaxBody, "max-body", exchange.DefaultMaxBody, "largest request body in `bytes`")
	fs.IntVar(&o.MaxDestinations, "max-destinations", 0, "most endpoints to name to an Envoy whose configuration does not say it ("+picker.DestinationsMetadata+"): the choice and its fallbacks (default 1)")
	fs.IntVar(&o.MaxStreams, "max-streams", exchange.DefaultMaxStreams, "most requests at a time; further ones are refused")
	fs.DurationVar(&o.IdleTimeout, "stream-idle-timeout", picker.DefaultIdleTimeout, "longest time in which nothing may come from Envoy on an open request; has to be longer than servers take for an answer; negative: no bound")
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
	fs.StringArrayVar(&o.AllowPaths, "allow-path", nil, "`path` that clients may ask for, with all below it, beside those of the inference APIs; may be repeated; / for all that Envoy's routes let through")
	fs.StringVar(&o.SessionHeader, "session-header", "", "`header` that holds a session (default x-session-id)")
	fs.Func("families", "`file` of JSON that says how many tokens images, sound and films are for models by their names; see openai.Families (default: as for models that are known)", func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		o.Families, err = openai.ParseFamilies(data)
		return err
	})
	fs.StringVar(&o.RoleLabel, "role-label", "", "`label` of servers that says which steps of a request they are for: prefill, decode, encode, or several (default "+types.RoleLabel+")")
	fs.DurationVar(&o.ScrapeInterval, "scrape-interval", 50*time.Millisecond, "time between two readings of a server's metrics")
	fs.DurationVar(&o.DrainDelay, "drain-delay", 0, "how long to go on after SIGTERM with health NOT_SERVING, so that gateways notice")
	fs.DurationVar(&o.DrainTimeout, "drain-timeout", 30*time.Second, "how long requests under way may take after that")

	f.kube.add(fs)
	f.peers.add(fs)
	f.rollouts.add(fs)
	f.scale.add(fs)
	f.trace.add(fs)
	fs.BoolVar(&f.Version, "version", false, "say which build this is, and end")
	fs.Func("log-level", "`level`: debug, info, warn or error (default info)", func(s string) error { return f.logLevel.UnmarshalText([]byte(s)) })
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")

	return fs
}

// ownPorts adds those of what is listened on.
func (f *Flags) ownPorts(fs *pflag.FlagSet) {
	o := &f.Options
	fs.StringVar(&o.GRPCAddr, "grpc-addr", ":9002", "`address` of the picker, for Envoy: host:port, or unix:/path; - for none")
	fs.Func("tls", "`mode` of the picker's port: self-signed, or off (default self-signed; -tls-cert and -tls-key for one's own)", func(s string) error {
		if s != "off" && s != "self-signed" {
			return errors.New("want off or self-signed")
		}
		o.TLS.Off, f.selfSigned = s == "off", s == "self-signed"
		return nil
	})
	fs.StringVar(&o.TLS.CertFile, "tls-cert", "", "certificate `file` (PEM), read again when it changes")
	fs.StringVar(&o.TLS.KeyFile, "tls-key", "", "key `file` (PEM)")
	fs.StringVar(&o.TLS.ClientCAFile, "tls-client-ca", "", "`file` (PEM) of the authorities of which Envoy must have a certificate")
	fs.Func("tls-min-version", "oldest `version` of TLS: VersionTLS12 or VersionTLS13 (default VersionTLS12)", func(s string) (err error) {
		o.TLS.MinVersion, err = tlsVersion(s)
		o.MetricsTLS.MinVersion = o.TLS.MinVersion
		return err
	})
	fs.Func("tls-cipher-suites", "`names` of crypto/tls with commas between, for TLS 1.2 (default: those of Go)", func(s string) (err error) {
		o.TLS.CipherSuites, err = cipherSuites(s)
		o.MetricsTLS.CipherSuites = o.TLS.CipherSuites
		return err
	})

	fs.StringVar(&o.HealthAddr, "health-addr", ":9003", "`address` of gRPC health, for probes; - for none")
	fs.StringVar(&o.MetricsAddr, "metrics-addr", ":9090", "`address` of /metrics; - for none")
	fs.BoolVar(&o.Explain, "explain", false, "serve /explain at -metrics-addr, too: it tells who asks what is cached for whom, and what became of sessions")
	fs.BoolVar(&o.Pprof, "pprof", false, "serve /debug/pprof at -metrics-addr, too")
	fs.StringVar(&o.MetricsTokenFile, "metrics-token-file", "", "`file` with the bearer token that what is served at -metrics-addr has to be asked for with")
	fs.Func("metric-names", "`names` of metrics: gie, llm-d, or both (default gie)", func(s string) (err error) {
		o.MetricNames, err = metricNames(s)
		return err
	})
}

// check says what is wrong with what the flags say together.
func (f *Flags) check() error {
	o := &f.Options
	switch {
	case f.Check != "" || f.Version:
	case o.Config == "" && f.theirs.configText == "" && !*f.kube.on:
		return errors.New("-config is required, or -kubernetes")
	case f.logFormat != "text" && f.logFormat != "json":
		return fmt.Errorf("-log-format %q, want text or json", f.logFormat)
	case o.MaxBody <= 0:
		return fmt.Errorf("-max-body %d, want more than 0", o.MaxBody)
	case f.selfSigned && (o.TLS.CertFile != "" || o.TLS.KeyFile != ""):
		return errors.New("-tls self-signed and -tls-cert: want one of the two")
	}
	if err := f.rollouts.check(*f.kube.on); err != nil {
		return err
	}
	if err := f.checkAutoscale(); err != nil {
		return err
	}
	return f.peers.check()
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

// Loader is what reads the configuration as the App would, for -check.
func (f *Flags) Loader() config.Loader {
	loader := epp.Loader(f.Options.Strict)
	loader.PoolsElsewhere, loader.RoleLabel = *f.kube.on, f.Options.RoleLabel
	return loader
}

// Logger returns a logger as -log-level and -log-format say.
func (f *Flags) Logger(w io.Writer) *slog.Logger {
	o := &slog.HandlerOptions{Level: f.logLevel}
	if f.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
