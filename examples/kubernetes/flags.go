package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/inferpick/inferpick/examples/kubernetes/app"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
	"github.com/inferpick/inferpick/types"
)

// flags are what the command line says.
type flags struct {
	kubeconfig, context string
	controller          string
	gateways, addresses []string
	service, lease      string
	host, admin         string
	profile             string
	admission           bool
	ownPicker, trust    bool
	nameEndpoint        bool
	rollouts            string
	rolloutCommands     bool
	drainDelay, drain   time.Duration
	peers               []string
	peersAt, peersKey   string
	logLevel            slog.Level
	logFormat           string
}

// parseFlags reads the command line. With -h it writes the usage to out and returns
// pflag.ErrHelp.
func parseFlags(args []string, out io.Writer) (*flags, error) {
	f := new(flags)
	fs := pflag.NewFlagSet("kubernetes", pflag.ContinueOnError)
	fs.Usage = func() { fmt.Fprint(out, "Usage: kubernetes [flags]\n\n", fs.FlagUsagesWrapped(100)) }
	fs.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` that says which cluster this is (default: the one that the process is in, else that of kubectl)")
	fs.StringVar(&f.context, "context", "", "`name` of the context in it")
	fs.StringVar(&f.controller, "controller", app.DefaultController, "`name` by which a GatewayClass asks for this gateway")
	fs.StringSliceVar(&f.gateways, "gateway", nil, "`namespace/name` of a Gateway to serve, may be repeated (default: all of the class)")
	fs.StringSliceVar(&f.addresses, "address", nil, "`address` where clients reach the gateway, may be repeated (default: those of the service)")
	fs.StringVar(&f.service, "service", "", "`namespace/name` of the Service in front of the gateway")
	fs.StringVar(&f.lease, "lease", "", "`namespace/name` of the Lease whose holder writes statuses (default: none, this process does)")
	fs.StringVar(&f.host, "host", "", "`address` to listen at (default: all)")
	fs.StringVar(&f.admin, "admin", ":9090", "`address` of /healthz, /readyz and /metrics; empty: none")
	fs.StringVar(&f.profile, "profile", "", "policy, `FILE or FILE#NAME` (default: the default policy)")
	fs.BoolVar(&f.admission, "admission", false, "turn admission control on, with its defaults where the profile says nothing of it")
	fs.BoolVar(&f.ownPicker, "own-picker", false, "pick endpoints here also where a pool names a picker")
	fs.BoolVar(&f.trust, "trust-request-headers", false, "let clients set their objective, tenant and target model")
	fs.BoolVar(&f.nameEndpoint, "name-endpoint", false, "say in responses which endpoint served them")
	fs.StringVar(&f.rollouts, "rollouts", "", "move traffic from one adapter to another where the annotation inferpick.dev/rollout of a model or rewrite says so; adapters are loaded by this `loader`: auto, vllm, sglang, resolver or manual (default: none of that)")
	fs.BoolVar(&f.rolloutCommands, "rollout-commands", false, "let everybody pause, promote and abort rollouts who reaches -admin")
	fs.StringSliceVar(&f.peers, "peers", nil, "`host:port` of the replicas, with which this one shares what it knows; all addresses of a name are (default: nothing is shared)")
	fs.StringVar(&f.peersAt, "peers-addr", ":7946", "`address` at which they are heard")
	fs.StringVar(&f.peersKey, "peers-key-file", "", "`file` with a secret that all replicas have (required with -peers)")
	fs.DurationVar(&f.drainDelay, "drain-delay", 0, "how long requests are still taken when the process is to end and /readyz says so")
	fs.DurationVar(&f.drain, "drain", 30*time.Second, "how long requests under way may take after that")
	fs.TextVar(&f.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json")
	err := fs.Parse(doubleDashes(fs, args))
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return f, err
}

// doubleDashes lets long flags have one dash or two.
func doubleDashes(fs *pflag.FlagSet, args []string) []string {
	doubled := make([]string, len(args))
	for i, a := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(a, "-"), "=")
		if doubled[i] = a; strings.HasPrefix(a, "-") && fs.Lookup(name) != nil {
			doubled[i] = "-" + a
		}
	}
	return doubled
}

// options makes the options of the gateway, whose log goes to w.
func (f *flags) options(w io.Writer) (o app.Options, err error) {
	o = app.Options{
		Controller: f.controller, Addresses: f.addresses, Host: f.host, Admin: f.admin, OwnPicker: f.ownPicker,
		TrustRequestHeaders: f.trust, NameEndpoint: f.nameEndpoint, Rollouts: f.rollouts, RolloutCommands: f.rolloutCommands, DrainDelay: f.drainDelay, Drain: f.drain,
	}
	if o.Logger, err = f.logger(w); err != nil {
		return o, err
	}
	for _, gateway := range f.gateways {
		name, err := namespaced("gateway", gateway)
		if err != nil {
			return o, err
		}
		o.Only = append(o.Only, name)
	}
	if o.Service, err = namespaced("service", f.service); err != nil {
		return o, err
	}
	if o.Lease, err = namespaced("lease", f.lease); err != nil {
		return o, err
	}
	if f.profile != "" {
		if o.Policy, err = plugins.LoadProfile(f.profile); err != nil {
			return o, err
		}
	}
	if o.Policy.Admission == nil && f.admission {
		o.Policy.Admission = func() *admission.Options { return new(admission.Options) }
	}
	if o.Config, err = f.config(); err != nil {
		return o, err
	}
	o.Sharing, err = f.sharing(o.Logger)
	return o, err
}

// sharing begins to listen to peers, if there are any.
func (f *flags) sharing(logger *slog.Logger) (*sharing.Options, error) {
	if len(f.peers) == 0 {
		return nil, nil
	}
	if f.peersKey == "" {
		return nil, errors.New("-peers: want -peers-key-file, too")
	}
	key, more, err := mesh.ReadKeyFile(f.peersKey)
	if err != nil {
		return nil, fmt.Errorf("-peers-key-file: %w", err)
	}
	transport, err := mesh.New(mesh.Options{Listen: f.peersAt, Peers: f.peers, Key: key, MoreKeys: more, Logger: logger})
	if err != nil {
		return nil, fmt.Errorf("-peers: %w", err)
	}
	return &sharing.Options{Transport: transport}, nil
}

// config returns the cluster: that of the pod that the process is in, unless another one is
// named.
func (f *flags) config() (*rest.Config, error) {
	if f.kubeconfig == "" && f.context == "" {
		if config, err := rest.InClusterConfig(); err == nil {
			return config, nil
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
}

func (f *flags) logger(w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: f.logLevel}
	switch f.logFormat {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("-log-format: %q is neither text nor json", f.logFormat)
}

// namespaced reads NAMESPACE/NAME. Empty: the zero value.
func namespaced(flag, text string) (name types.NamespacedName, err error) {
	if text == "" {
		return name, nil
	}
	namespace, rest, ok := strings.Cut(text, "/")
	if !ok {
		namespace, rest = "", text
	}
	name = types.NamespacedName{Namespace: cmp.Or(namespace, types.DefaultNamespace), Name: rest}
	if rest == "" || strings.Contains(rest, "/") {
		return name, fmt.Errorf("-%s: %q is not namespace/name", flag, text)
	}
	return name, nil
}
