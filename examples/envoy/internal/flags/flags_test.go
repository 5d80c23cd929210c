package flags

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		ok   func(*Flags, *epp.Options) bool
	}{
		{"", func(f *Flags, o *epp.Options) bool {
			return o.Config == "x" && o.GRPCAddr == ":9002" && o.HealthAddr == ":9003" && o.MetricsAddr == ":9090" &&
				o.DrainTimeout == 30*time.Second && o.MaxBody == 32<<20 && reflect.DeepEqual(o.TLS, epp.TLS{}) && !o.Explain && f.logLevel == slog.LevelInfo
		}},
		{"-tls self-signed", func(_ *Flags, o *epp.Options) bool { return !o.TLS.Off }},
		{"-tls self-signed -tls off", func(_ *Flags, o *epp.Options) bool { return o.TLS.Off }},
		{"-tls-cert c -tls-key k -tls-client-ca a -tls-min-version 1.3", func(_ *Flags, o *epp.Options) bool {
			return reflect.DeepEqual(o.TLS, epp.TLS{CertFile: "c", KeyFile: "k", ClientCAFile: "a", MinVersion: tls.VersionTLS13})
		}},
		{"-tls-cipher-suites TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", func(_ *Flags, o *epp.Options) bool {
			return len(o.TLS.CipherSuites) == 2 && o.TLS.CipherSuites[0] == tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
		}},
		{"-rollouts", func(f *Flags, _ *epp.Options) bool {
			o, err := f.rollouts.options()
			return err == nil && reflect.DeepEqual(*o, epp.Rollouts{Loader: "auto"})
		}},
		{"-rollouts -rollout-loader vllm -rollout-state s -rollout-commands", func(f *Flags, _ *epp.Options) bool {
			o, err := f.rollouts.options()
			return err == nil && reflect.DeepEqual(*o, epp.Rollouts{Loader: "vllm", StateFile: "s", Commands: true})
		}},
		{"-explain -metrics-token-file t -metric-names both", func(_ *Flags, o *epp.Options) bool {
			return o.Explain && o.MetricsTokenFile == "t" && o.MetricNames == telemetry.NamesBoth
		}},
		{"-pool llama", func(_ *Flags, o *epp.Options) bool {
			return o.Pool == types.NamespacedName{Namespace: "default", Name: "llama"}
		}},
		{"-pool prod/llama", func(_ *Flags, o *epp.Options) bool {
			return o.Pool == types.NamespacedName{Namespace: "prod", Name: "llama"}
		}},
		{"-request-body-mode buffered -response-body-mode streamed", func(_ *Flags, o *epp.Options) bool {
			return o.RequestBody == modev3.ProcessingMode_BUFFERED && o.ResponseBody == modev3.ProcessingMode_STREAMED
		}},
		{"-request-body-mode full-duplex -response-body-mode full-duplex", func(_ *Flags, o *epp.Options) bool {
			return o.RequestBody == modev3.ProcessingMode_FULL_DUPLEX_STREAMED && o.ResponseBody == o.RequestBody
		}},
		{"-unknown-models refuse", func(_ *Flags, o *epp.Options) bool { return o.RefuseUnknownModels }},
		{"-unknown-models refuse -unknown-models pass", func(_ *Flags, o *epp.Options) bool { return !o.RefuseUnknownModels }},
		{"-keep-target-model -ignore-request-headers -pprof", func(_ *Flags, o *epp.Options) bool {
			return o.KeepTargetModel && o.IgnoreRequestHeaders && o.Pprof
		}},
		{"-families testdata/families.json", func(_ *Flags, o *epp.Options) bool { return o.Families.Of("acme/eye-2").Image.Tokens == 100 }},
		{"-max-body 5 -max-destinations 1 -session-header X-S -role-label role", func(_ *Flags, o *epp.Options) bool {
			return o.MaxBody == 5 && o.MaxDestinations == 1 && o.SessionHeader == "X-S" && o.RoleLabel == "role"
		}},
		{"-scrape-interval 2s -reload-interval 3s -drain-delay 4s -drain-timeout 5s", func(_ *Flags, o *epp.Options) bool {
			return o.ScrapeInterval == 2*time.Second && o.ReloadInterval == 3*time.Second && o.DrainDelay == 4*time.Second && o.DrainTimeout == 5*time.Second
		}},
		{"-peers a:1,b:2 -peers c:3 -peers-key-file k -peers-name me -peers-without load,accounts", func(f *Flags, _ *epp.Options) bool {
			p := f.peers
			return reflect.DeepEqual(p.Addresses, []string{"a:1", "b:2", "c:3"}) && p.Addr == ":9004" && p.KeyFile == "k" && p.name == "me" &&
				p.without == sharing.Kinds{Load: true, Accounts: true}
		}},
		{"-peers a:1 -peers-addr x:1 -peers-tls-cert c -peers-tls-key k -peers-tls-ca a -peers-tls-name n", func(f *Flags, _ *epp.Options) bool {
			p := f.peers.Peers
			return p.Addr == "x:1" && p.CertFile == "c" && p.CertKeyFile == "k" && p.CAFile == "a" && p.ServerName == "n" && !p.Insecure
		}},
		{"-autoscale", func(f *Flags, _ *epp.Options) bool {
			return autoscaleOf(t, f, func(a *epp.Autoscale) bool { return a != nil && reflect.DeepEqual(*a, epp.Autoscale{}) })
		}},
		{"-metrics-addr :1", func(f *Flags, _ *epp.Options) bool {
			return autoscaleOf(t, f, func(a *epp.Autoscale) bool { return a == nil })
		}},
		{"-keda-addr :9005 -keda-tls-cert c -keda-tls-key k -keda-tls-client-ca a -variant-label gpu", func(f *Flags, _ *epp.Options) bool {
			return autoscaleOf(t, f, func(a *epp.Autoscale) bool {
				return a.KEDAAddr == ":9005" && reflect.DeepEqual(a.KEDATLS, epp.TLS{CertFile: "c", KeyFile: "k", ClientCAFile: "a"}) && a.VariantLabel == "gpu" && a.Peers == nil
			})
		}},
		{"-kubernetes -external-metrics-addr :6443 -external-metrics-tls-cert c -external-metrics-tls-key k", func(f *Flags, _ *epp.Options) bool {
			return autoscaleOf(t, f, func(a *epp.Autoscale) bool {
				return a.ExternalMetricsAddr == ":6443" && reflect.DeepEqual(a.ExternalMetricsTLS, epp.TLS{CertFile: "c", KeyFile: "k"})
			})
		}},
		{"-autoscale-peers pickers:9090,https://others:9443", func(f *Flags, _ *epp.Options) bool {
			return autoscaleOf(t, f, func(a *epp.Autoscale) bool { return a.Peers != nil })
		}},
		{"-log-level debug -log-format json -otlp-endpoint a:1", func(f *Flags, _ *epp.Options) bool {
			return f.logLevel == slog.LevelDebug && f.logFormat == "json" && f.trace.wanted() == "a:1"
		}},
	} {
		f, err := Parse(append([]string{"-config", "x"}, strings.Fields(tt.args)...), new(bytes.Buffer))
		if err != nil {
			t.Errorf("%q: %v", tt.args, err)
		} else if !tt.ok(f, &f.Options) {
			t.Errorf("%q: %+v", tt.args, f)
		}
	}
}

// TestBadFlags: what is wrong is told by the name of its flag, and how it may be.
func TestBadFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"", []string{"-config is required"}},
		{"-config x y", []string{`unexpected argument "y"`}},
		{"-config x -nonsense", []string{"-nonsense"}},
		{"-config x -tls self-signed -tls-cert c -tls-key k", []string{"-tls self-signed and -tls-cert"}},
		{"-config x -tls-min-version VersionTLS11", []string{"-tls-min-version", "too old", "VersionTLS12"}},
		{"-config x -tls-min-version SSL3", []string{"-tls-min-version", "SSL3", "VersionTLS12"}},
		{"-config x -tls-cipher-suites TLS_RSA_WITH_RC4_128_SHA", []string{"-tls-cipher-suites", "not secure"}},
		{"-config x -tls-cipher-suites AES", []string{"-tls-cipher-suites", "AES is unknown", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}},
		{"-config x -metric-names prometheus", []string{"-metric-names", "want gie, llm-d or both"}},
		{"-config x -tls on", []string{"-tls", `"on"`, "want off or self-signed"}},
		{"-config x -pool a/b/c", []string{"-pool", "a/b/c", "namespace/name"}},
		{"-config x -pool /", []string{"-pool", "namespace/name"}},
		{"-config x -families testdata/none.json", []string{"-families", "testdata/none.json"}},
		{"-config x -families flags.go", []string{"-families", "openai: line 1"}},
		{"-config x -max-body 0", []string{"-max-body 0"}},
		{"-config x -max-body -1", []string{"-max-body -1"}},
		{"-config x -max-body many", []string{"-max-body", "many"}},
		{"-config x -max-destinations one", []string{"-max-destinations", "one"}},
		{"-config x -request-body-mode streamed", []string{"-request-body-mode", "streamed", "full-duplex, buffered"}},
		{"-config x -response-body-mode none", []string{"-response-body-mode", "none", "full-duplex, buffered, streamed"}},
		{"-config x -unknown-models drop", []string{"-unknown-models", "drop", "want pass or refuse"}},
		{"-config x -drain-delay 5", []string{"-drain-delay", `"5"`}},
		{"-config x -drain-timeout soon", []string{"-drain-timeout", "soon"}},
		{"-config x -scrape-interval 1", []string{"-scrape-interval", `"1"`}},
		{"-config x -reload-interval 1", []string{"-reload-interval", `"1"`}},
		{"-config x -pprof=perhaps", []string{"-pprof", "perhaps"}},
		{"-config x -log-level loud", []string{"-log-level", "loud"}},
		{"-config x -peers a:1", []string{"-peers: want -peers-key-file"}},
		{"-config x -peers-key-file k", []string{"no -peers"}},
		{"-config x -peers a:1 -peers-insecure -peers-without everything", []string{"-peers-without", `"everything"`, "load, placements"}},
		{"-config x -rollout-loader vllm", []string{"no -rollouts"}},
		{"-config x -rollouts -rollout-loader tgi", []string{"-rollout-loader \"tgi\"", "auto, vllm, sglang, resolver, manual"}},
		{"-kubernetes -rollouts -rollout-state s", []string{"-rollout-state is for pickers without -kubernetes"}},
		{"-config x -log-format xml", []string{"-log-format", "xml", "text or json"}},
	} {
		var usage bytes.Buffer
		_, err := Parse(strings.Fields(tt.args), &usage)
		require.Error(t, err, "%q", tt.args)
		for _, want := range tt.want {
			require.ErrorContains(t, err, want, "%q", tt.args)
		}
		require.Empty(t, usage.String(), "%q", tt.args)
	}
}

func TestHelp(t *testing.T) {
	for _, arg := range []string{"-h", "-help"} {
		var usage bytes.Buffer
		_, err := Parse([]string{arg}, &usage)
		require.ErrorIs(t, err, ErrHelp)
		for _, want := range []string{"Usage: epp -config", "-grpc-addr address", "(required without -kubernetes)", "-drain-timeout duration", "-otlp-endpoint URL", "  -pool-name"} {
			require.Contains(t, usage.String(), want)
		}
	}
}

// autoscaleOf judges what the flags of autoscaling say together.
func autoscaleOf(t *testing.T, f *Flags, ok func(*epp.Autoscale) bool) bool {
	t.Helper()
	a, err := f.autoscale(slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return ok(a)
}

func TestBadAutoscaleFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-keda-tls-cert c -keda-tls-key k":                         "are of a -keda-addr of its own",
		"-keda-addr grpc -keda-tls-cert c -keda-tls-key k":         "are of a -keda-addr of its own",
		"-keda-addr :1 -keda-tls-client-ca a":                      "want -keda-tls-cert",
		"-external-metrics-tls-cert c":                             "are of -external-metrics-addr",
		"-external-metrics-addr :1":                                "say -kubernetes",
		"-autoscale-peers-ca a":                                    "is of -autoscale-peers",
		"-kubernetes -autoscale-peers a:1 --metrics-endpoint-auth": "say -metrics-token-file",
	} {
		_, err := Parse(append([]string{"-config", "x"}, strings.Fields(args)...), new(bytes.Buffer))
		require.ErrorContains(t, err, want, args)
	}
	f, err := Parse([]string{"-config", "x", "-autoscale-peers", "nowhere"}, new(bytes.Buffer))
	require.NoError(t, err)
	_, err = f.autoscale(slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "want host:port")
}
