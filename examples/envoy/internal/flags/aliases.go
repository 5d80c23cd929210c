package flags

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/telemetry"
)

// alias is a flag of the pickers of the Inference Extension (to version 1.5) and of llm-d
// (to 0.10), so that their command lines start this one. It does here what it does there;
// or it has no effect, which is told with the reason; or it is refused, with the reason,
// where to go on without what it asks for would be wrong.
type alias struct {
	name   string
	isBool bool
	// set takes a value. A note says that it has no effect, and why; an error is a value
	// that is none, or a refusal.
	set func(f *Flags, value string) (note string, err error)
}

// aliases are all of them but those that are called as ours: -drain-timeout and
// -tls-cipher-suites. To version 0.5 words were joined by capitals, see dashed.
var aliases = []alias{
	{name: "grpc-port", set: port(func(f *Flags) *string { return &f.Options.GRPCAddr })},
	{name: "grpc-health-port", set: port(func(f *Flags) *string { return &f.Options.HealthAddr })},
	{name: "metrics-port", set: port(func(f *Flags) *string { return &f.Options.MetricsAddr })},
	{name: "grpc-max-recv-msg-size", set: noEffect("messages may be as large as -max-body and what is around it")},
	{name: "grpc-max-send-msg-size", set: noEffect("bodies are sent in chunks")},
	{name: "enable-grpc-stream-metrics", isBool: true, set: unless("false", "there are no metrics of streams: inferpick_pool_in_flight_requests and those of requests say as much")},

	{name: "pool-name", set: text(func(f *Flags) *string { return &f.theirs.poolName })},
	{name: "pool-namespace", set: text(func(f *Flags) *string { return &f.theirs.poolNamespace })},
	{name: "pool-group", set: only("pools of both groups are read", "inference.networking.k8s.io", "inference.networking.x-k8s.io")},
	{name: "endpoint-selector", set: text(func(f *Flags) *string { return &f.kube.endpointSelector })},
	{name: "endpoint-target-ports", set: text(func(f *Flags) *string { return &f.kube.endpointPorts })},
	{name: "destination-endpoint-hint-key", set: only("it is what the protocol says", "x-gateway-destination-endpoint")},
	{name: "destination-endpoint-hint-metadata-namespace", set: only("it is what the protocol says", "envoy.lb")},
	{name: "disable-endpoint-subset-filter", isBool: true, set: refusedUnless("false", "the subset is what a gateway allows, and always holds")},
	{name: "emit-endpoint-scores", isBool: true, set: unless("false", "scores are not told to Envoy: /explain has them, with -explain")},
	{name: "ha-enable-leader-election", isBool: true, set: func(f *Flags, s string) (string, error) {
		on, err := strconv.ParseBool(s)
		f.theirs.election = &on
		return "", err
	}},

	{name: "config-file", set: text(func(f *Flags) *string { return &f.theirs.configFile })},
	{name: "config-text", set: text(func(f *Flags) *string { return &f.theirs.configText })},
	{name: "feature-gates", set: refused("write featureGates in the EndpointPickerConfig")},
	{name: "allow-experimental-plugins", isBool: true, set: unless("false", "no plugin type here needs it")},

	{name: "model-server-metrics-scheme", set: oneOf(func(f *Flags) *string { return &f.Options.ServerMetrics.Scheme }, "http", "https")},
	{name: "model-server-metrics-path", set: text(func(f *Flags) *string { return &f.Options.ServerMetrics.Path })},
	{name: "model-server-metrics-port", set: func(f *Flags, s string) (string, error) {
		n, err := portOf(s)
		f.Options.ServerMetrics.Port = n
		return "", err
	}},
	{name: "model-server-metrics-https-insecure-skip-verify", isBool: true, set: func(f *Flags, s string) (_ string, err error) {
		skip, err := strconv.ParseBool(s)
		f.theirs.skipVerify = &skip
		return "", err
	}},
	{name: "refresh-metrics-interval", set: func(f *Flags, s string) (_ string, err error) {
		f.Options.ScrapeInterval, err = positive(s)
		return "", err
	}},
	{name: "metrics-staleness-threshold", set: func(f *Flags, s string) (_ string, err error) {
		f.Options.MetricsTTL, err = positive(s)
		return "", err
	}},
	{name: "refresh-prometheus-metrics-interval", set: noEffect("figures are computed when they are asked for")},
	{name: "plugin-state-staleness-threshold", set: noEffect("a booking expires by bookingTTL of the profile, and not while a response goes on")},
	{name: "fairness-id-metric-label-limit", set: noEffect("tenants have series of their own if the configuration names them, and no others")},
	{name: "total-queued-requests-metric", set: knownMetric},
	{name: "total-running-requests-metric", set: knownMetric},
	{name: "kv-cache-usage-percentage-metric", set: knownMetric},
	{name: "lora-info-metric", set: knownMetric},
	{name: "cache-info-metric", set: knownMetric},

	{name: "v", set: func(f *Flags, s string) (string, error) {
		n, err := strconv.Atoi(s)
		f.theirs.verbosity = level(n)
		return "", err
	}},
	{name: "zap-log-level", set: zapLevel},
	{name: "zap-encoder", set: func(f *Flags, s string) (string, error) {
		formats := map[string]string{"json": "json", "console": "text"}
		if formats[s] == "" {
			return "", fmt.Errorf("want json or console")
		}
		f.theirs.encoder = formats[s]
		return "", nil
	}},
	{name: "zap-devel", isBool: true, set: func(f *Flags, s string) (string, error) {
		devel, err := strconv.ParseBool(s)
		f.theirs.devel = map[bool]string{true: "text", false: "json"}[devel]
		return "", err
	}},
	{name: "zap-stacktrace-level", set: noEffect("stacks are logged of panics alone")},
	{name: "zap-time-encoding", set: noEffect("times are in the form of RFC 3339")},

	{name: "tracing", isBool: true, set: func(f *Flags, s string) (string, error) {
		on, err := strconv.ParseBool(s)
		f.trace.on = &on
		return "", err
	}},
	{name: "health-checking", isBool: true, set: unless("true", "health is always served")},
	{name: "enable-pprof", isBool: true, set: func(f *Flags, s string) (_ string, err error) {
		f.Options.Pprof, err = strconv.ParseBool(s)
		return "", err
	}},
	{name: "metrics-endpoint-auth", isBool: true, set: func(f *Flags, s string) (_ string, err error) {
		f.theirs.metricsAuth, err = strconv.ParseBool(s)
		return "", err
	}},
	{name: "metrics-cert-dir", set: certDir(func(f *Flags) *epp.TLS { return &f.Options.MetricsTLS })},
	{name: "metrics-client-ca-file", set: text(func(f *Flags) *string { return &f.Options.MetricsTLS.ClientCAFile })},

	{name: "secure-serving", isBool: true, set: func(f *Flags, s string) (string, error) {
		secure, err := strconv.ParseBool(s)
		f.theirs.insecure = !secure
		return "", err
	}},
	{name: "cert-path", set: certDir(func(f *Flags) *epp.TLS { return &f.Options.TLS })},
	{name: "enable-cert-reload", isBool: true, set: unless("true", "certificates are always read again when they change")},
}

// knownMetric takes the name of a metric of a server that is read without being told, and
// refuses others, of which nothing would be known. The chart of 1.5 puts quotes around some.
func knownMetric(_ *Flags, s string) (string, error) {
	name, _, _ := strings.Cut(strings.Trim(s, `"`), "{")
	for _, e := range scrape.DefaultEngines() {
		read := slices.Concat(e.Waiting, e.Running, e.KVUsage, e.BlockSize, e.NumBlocks)
		if slices.ContainsFunc(read, func(m scrape.Metric) bool { return m.Name == name }) ||
			slices.ContainsFunc(e.Adapters, func(m scrape.AdapterMetric) bool { return m.Name == name }) {
			return "servers are known by what they report: " + e.Name + " is", nil
		}
	}
	return "", fmt.Errorf("no known server has this metric: say it by engine, in engineConfigs of core-metrics-extractor")
}

// theirs is what has to be seen together once all flags are read.
type theirs struct {
	poolName, poolNamespace string
	configFile, configText  string
	verbosity, level        *slog.Level
	encoder, devel          string
	insecure, metricsAuth   bool
	skipVerify              *bool
	election                *bool
}

// settle puts together what several flags say.
func (f *Flags) settle() error {
	t, o := &f.theirs, &f.Options
	switch {
	case t.poolName != "":
		namespace := t.poolNamespace
		if namespace == "" {
			namespace = "default"
		}
		o.Pool.Namespace, o.Pool.Name = namespace, t.poolName
	case t.poolNamespace != "" && f.kube.endpointSelector == "":
		f.note("pool-namespace", "it is the namespace of -pool-name, which is not there: all pools are served")
	}
	if err := f.kube.settle(f); err != nil {
		return err
	}
	if t.election != nil {
		f.kube.elect = *t.election
		if *t.election && !*f.kube.on {
			f.note("ha-enable-leader-election", "there is no leader: every picker serves, and each knows what it sent itself and what servers report")
		}
	}
	for _, l := range []*slog.Level{t.verbosity, t.level} {
		if l != nil {
			f.logLevel = *l
		}
	}
	for _, format := range []string{t.devel, t.encoder} {
		if format != "" {
			f.logFormat = format
		}
	}
	o.ServerMetrics.InsecureSkipVerify = o.ServerMetrics.Scheme == "https" // by default, there
	if t.skipVerify != nil {
		o.ServerMetrics.InsecureSkipVerify = *t.skipVerify
	}
	if t.insecure {
		o.TLS = epp.TLS{Off: true}
	}
	if t.metricsAuth && !*f.kube.on && o.MetricsTokenFile == "" && o.MetricsTLS.ClientCAFile == "" {
		return fmt.Errorf("-metrics-endpoint-auth: there is no Kubernetes here to ask who somebody is: say -metrics-token-file, or -kubernetes")
	}
	if t.configFile != "" && t.configText != "" {
		return fmt.Errorf("-config-file and -config-text: want one of the two")
	}
	if t.configFile != "" {
		f.addConfig(t.configFile)
	}
	f.unserved()
	return nil
}

// unserved notes what would be served at a port that is not there.
func (f *Flags) unserved() {
	o := &f.Options
	if o.MetricsAddr != "-" {
		return
	}
	for _, flag := range []struct {
		name string
		said bool
	}{{"explain", o.Explain}, {"pprof", o.Pprof}, {"metrics-token-file", o.MetricsTokenFile != ""}} {
		if flag.said {
			f.note(flag.name, "it is about what is served at -metrics-addr, which is nowhere")
		}
	}
}

// writeConfigText makes a file of -config-text, if there is any, until remove is called.
func (f *Flags) writeConfigText() (remove func(), err error) {
	if f.theirs.configText == "" {
		return func() {}, nil
	}
	dir, err := os.MkdirTemp("", "epp-")
	if err != nil {
		return nil, fmt.Errorf("-config-text: %w", err)
	}
	remove = func() { os.RemoveAll(dir) }
	path := filepath.Join(dir, "config-text.yaml")
	if err := os.WriteFile(path, []byte(f.theirs.configText), 0o600); err != nil {
		remove()
		return nil, fmt.Errorf("-config-text: %w", err)
	}
	f.addConfig(path)
	return remove, nil
}

// addConfig adds a file to the configuration.
func (f *Flags) addConfig(path string) {
	if f.Options.Config == "" {
		f.Options.Config = path
		return
	}
	f.Options.MoreConfig = append(f.Options.MoreConfig, path)
}

func (f *Flags) note(flag, why string) {
	f.notes = append(f.notes, fmt.Sprintf("-%s has no effect: %s", flag, why))
}

// aliasValue is a pflag.Value.
type aliasValue struct {
	*alias
	f *Flags
}

func (v aliasValue) String() string { return "" }
func (v aliasValue) Type() string   { return "" }

func (v aliasValue) Set(s string) error {
	note, err := v.set(v.f, s)
	if note != "" && err == nil {
		v.f.note(v.name, note)
	}
	return err
}

func text(to func(*Flags) *string) func(*Flags, string) (string, error) {
	return func(f *Flags, s string) (string, error) {
		*to(f) = s
		return "", nil
	}
}

func oneOf(to func(*Flags) *string, known ...string) func(*Flags, string) (string, error) {
	return func(f *Flags, s string) (string, error) {
		if !slices.Contains(known, s) {
			return "", fmt.Errorf("want %s", strings.Join(known, " or "))
		}
		*to(f) = s
		return "", nil
	}
}

func noEffect(why string) func(*Flags, string) (string, error) {
	return func(*Flags, string) (string, error) { return why, nil }
}

func refused(why string) func(*Flags, string) (string, error) {
	return func(*Flags, string) (string, error) { return "", fmt.Errorf("%s", why) }
}

// only takes the values that mean what is done in any case.
func only(why string, values ...string) func(*Flags, string) (string, error) {
	return func(_ *Flags, s string) (string, error) {
		if !slices.Contains(values, s) {
			return "", fmt.Errorf("%s: want %s", why, strings.Join(values, " or "))
		}
		return "", nil
	}
}

// unless is for a flag of which one value is what is done in any case, and the other has no
// effect; refusedUnless for one of which the other is refused.
func unless(expected, why string) func(*Flags, string) (string, error) {
	return func(_ *Flags, s string) (string, error) {
		v, err := strconv.ParseBool(s)
		if err != nil || strconv.FormatBool(v) == expected {
			return "", err
		}
		return why, nil
	}
}

func refusedUnless(expected, why string) func(*Flags, string) (string, error) {
	return func(f *Flags, s string) (string, error) {
		note, err := unless(expected, why)(f, s)
		if note != "" {
			return "", fmt.Errorf("%s", note)
		}
		return "", err
	}
}

func port(to func(*Flags) *string) func(*Flags, string) (string, error) {
	return func(f *Flags, s string) (string, error) {
		n, err := portOf(s)
		*to(f) = fmt.Sprintf(":%d", n)
		return "", err
	}
}

func portOf(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("want a port, 0 to 65535")
	}
	return int(n), nil
}

func certDir(to func(*Flags) *epp.TLS) func(*Flags, string) (string, error) {
	return func(f *Flags, dir string) (string, error) {
		if dir != "" {
			to(f).CertFile, to(f).KeyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
		}
		return "", nil
	}
}

func positive(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err == nil && d <= 0 {
		err = fmt.Errorf("want more than 0")
	}
	return d, err
}

// level is the level of a verbosity: there, 4 is for debugging, and 2 is the default.
func level(verbosity int) *slog.Level {
	l := slog.LevelInfo
	if verbosity >= 4 {
		l = slog.LevelDebug
	}
	return &l
}

func zapLevel(f *Flags, s string) (string, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		f.theirs.level = level(n)
		return "", nil
	}
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError, "panic": slog.LevelError}
	l, ok := levels[s]
	if !ok {
		return "", fmt.Errorf("want debug, info, error, panic, or a number above 0")
	}
	f.theirs.level = &l
	return "", nil
}

// tlsVersion reads the name of a version, as Kubernetes has it or as people say it.
func tlsVersion(s string) (uint16, error) {
	switch s {
	case "VersionTLS12", "1.2":
		return tls.VersionTLS12, nil
	case "VersionTLS13", "1.3":
		return tls.VersionTLS13, nil
	case "VersionTLS10", "VersionTLS11", "1.0", "1.1":
		return 0, fmt.Errorf("it is too old for HTTP/2: want VersionTLS12 or VersionTLS13")
	}
	return 0, fmt.Errorf("want VersionTLS12 or VersionTLS13")
}

// cipherSuites reads names of crypto/tls.
func cipherSuites(s string) (ids []uint16, err error) {
	for _, name := range strings.Split(s, ",") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool { return c.Name == name })
		switch {
		case name == "":
		case i >= 0:
			ids = append(ids, tls.CipherSuites()[i].ID)
		case slices.ContainsFunc(tls.InsecureCipherSuites(), func(c *tls.CipherSuite) bool { return c.Name == name }):
			return nil, fmt.Errorf("%s is not secure", name)
		default:
			var known []string
			for _, c := range tls.CipherSuites() {
				known = append(known, c.Name)
			}
			return nil, fmt.Errorf("%s is unknown: want some of %s", name, strings.Join(known, ", "))
		}
	}
	return ids, nil
}

func metricNames(s string) (telemetry.Names, error) {
	names := map[string]telemetry.Names{"gie": telemetry.NamesGIE, "llm-d": telemetry.NamesLLMD, "both": telemetry.NamesBoth}
	if n, ok := names[s]; ok {
		return n, nil
	}
	return 0, fmt.Errorf("want gie, llm-d or both")
}
