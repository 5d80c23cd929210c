package flags

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/types"
)

// effect is what a flag of another picker does here: one of the three is set.
type effect struct {
	args string
	does func(*Flags, *epp.Options) bool
	note string // it has no effect, and this is why
	err  string // it is refused, and this is why
}

// nothing is the effect of what is done in any case.
func nothing(*Flags, *epp.Options) bool { return true }

func files(cert, key string) func(epp.TLS) bool {
	return func(t epp.TLS) bool { return t.CertFile == cert && t.KeyFile == key && !t.Off }
}

// effects has at least one line for each flag of GIE 1.5 and llm-d 0.10.
var effects = map[string][]effect{
	"grpc-port":                  {{args: "-grpc-port 9102", does: func(_ *Flags, o *epp.Options) bool { return o.GRPCAddr == ":9102" }}, {args: "-grpc-port=70000", err: "want a port"}},
	"grpc-health-port":           {{args: "--grpc-health-port=9103", does: func(_ *Flags, o *epp.Options) bool { return o.HealthAddr == ":9103" }}},
	"metrics-port":               {{args: "--metrics-port 9190", does: func(_ *Flags, o *epp.Options) bool { return o.MetricsAddr == ":9190" }}},
	"grpc-max-recv-msg-size":     {{args: "--grpc-max-recv-msg-size 10MiB", note: "-max-body"}},
	"grpc-max-send-msg-size":     {{args: "--grpc-max-send-msg-size 10MiB", note: "chunks"}},
	"enable-grpc-stream-metrics": {{args: "--enable-grpc-stream-metrics", note: "inferpick_pool_in_flight_requests"}, {args: "--enable-grpc-stream-metrics=false", does: nothing}},

	"pool-name": {{args: "--pool-name llama", does: func(_ *Flags, o *epp.Options) bool {
		return o.Pool == types.NamespacedName{Namespace: "default", Name: "llama"}
	}}},
	"pool-namespace": {{args: "--pool-namespace prod --pool-name llama", does: func(_ *Flags, o *epp.Options) bool {
		return o.Pool == types.NamespacedName{Namespace: "prod", Name: "llama"}
	}}, {args: "--pool-namespace prod", note: "-pool-name"}},
	"pool-group":        {{args: "--pool-group inference.networking.k8s.io", does: nothing}, {args: "--pool-group example.com", err: "inference.networking.x-k8s.io"}},
	"endpoint-selector": {{args: "--endpoint-selector app=llama", err: "StaticEndpoints"}, {args: "-kubernetes --endpoint-selector app=llama", does: func(f *Flags, _ *epp.Options) bool { return f.kube.endpointSelector == "app=llama" }}},
	"endpoint-target-ports": {
		{args: "--endpoint-target-ports 8000,8001", err: "StaticEndpoints"}, {args: "-kubernetes --endpoint-target-ports 8000", err: "-endpoint-selector"},
		{args: "-kubernetes --endpoint-selector app=llama --endpoint-target-ports 8000", does: func(f *Flags, _ *epp.Options) bool { return f.kube.endpointPorts == "8000" }},
	},
	"destination-endpoint-hint-key":                {{args: "--destination-endpoint-hint-key x-gateway-destination-endpoint", does: nothing}, {args: "--destination-endpoint-hint-key x", err: "protocol"}},
	"destination-endpoint-hint-metadata-namespace": {{args: "-DestinationEndpointHintMetadataNamespace envoy.lb", does: nothing}, {args: "--destination-endpoint-hint-metadata-namespace x", err: "protocol"}},
	"disable-endpoint-subset-filter":               {{args: "--disable-endpoint-subset-filter", err: "always holds"}, {args: "--disable-endpoint-subset-filter=false", does: nothing}},
	"emit-endpoint-scores":                         {{args: "--emit-endpoint-scores", note: "/explain"}, {args: "--emit-endpoint-scores=false", does: nothing}},
	"ha-enable-leader-election": {
		{args: "--ha-enable-leader-election", note: "every picker serves"}, {args: "--ha-enable-leader-election=false", does: nothing},
		{args: "-kubernetes --ha-enable-leader-election", does: func(f *Flags, _ *epp.Options) bool { return f.kube.elect }},
		{args: "-kubernetes --ha-enable-leader-election=false", does: func(f *Flags, _ *epp.Options) bool { return !f.kube.elect }},
	},

	"config-file": {{args: "--config-file y", does: func(_ *Flags, o *epp.Options) bool {
		return o.Config == "x" && len(o.MoreConfig) == 1 && o.MoreConfig[0] == "y"
	}}, {args: "--config-file y --config-text z", err: "want one of the two"}},
	"config-text":                {{args: "--config-text z", does: func(f *Flags, _ *epp.Options) bool { return f.theirs.configText == "z" }}},
	"feature-gates":              {{args: "--feature-gates flowControl=true", err: "featureGates"}},
	"allow-experimental-plugins": {{args: "--allow-experimental-plugins", note: "no plugin type"}},

	"model-server-metrics-scheme": {{args: "--model-server-metrics-scheme https", does: func(_ *Flags, o *epp.Options) bool {
		return o.ServerMetrics == epp.ServerMetrics{Scheme: "https", InsecureSkipVerify: true} // as there
	}}, {args: "--model-server-metrics-scheme ftp", err: "want http or https"}},
	"model-server-metrics-path": {{args: "--model-server-metrics-path /m", does: func(_ *Flags, o *epp.Options) bool { return o.ServerMetrics.Path == "/m" }}},
	"model-server-metrics-port": {{args: "--model-server-metrics-port 9100", does: func(_ *Flags, o *epp.Options) bool { return o.ServerMetrics.Port == 9100 }}},
	"model-server-metrics-https-insecure-skip-verify": {{args: "--model-server-metrics-scheme https --model-server-metrics-https-insecure-skip-verify=false", does: func(_ *Flags, o *epp.Options) bool {
		return !o.ServerMetrics.InsecureSkipVerify
	}}, {args: "--model-server-metrics-https-insecure-skip-verify", does: func(_ *Flags, o *epp.Options) bool {
		return o.ServerMetrics.InsecureSkipVerify
	}}},
	"refresh-metrics-interval":            {{args: "--refresh-metrics-interval 100ms", does: func(_ *Flags, o *epp.Options) bool { return o.ScrapeInterval == 100*time.Millisecond }}, {args: "--refresh-metrics-interval 0s", err: "more than 0"}},
	"metrics-staleness-threshold":         {{args: "--metrics-staleness-threshold 3s", does: func(_ *Flags, o *epp.Options) bool { return o.MetricsTTL == 3*time.Second }}},
	"refresh-prometheus-metrics-interval": {{args: "--refresh-prometheus-metrics-interval 5s", note: "when they are asked for"}},
	"plugin-state-staleness-threshold":    {{args: "--plugin-state-staleness-threshold 5m", note: "bookingTTL"}},
	"fairness-id-metric-label-limit":      {{args: "--fairness-id-metric-label-limit 9", note: "tenants"}},
	"total-queued-requests-metric": {
		{args: "--total-queued-requests-metric a", err: "engineConfigs"},
		{args: "--total-queued-requests-metric nv_trt_llm_request_metrics{request_type=waiting}", note: "triton"}, // the charts'
		{args: `--total-queued-requests-metric="sglang:num_queue_reqs"`, note: "sglang"},
	},
	"total-running-requests-metric":    {{args: "--total-running-requests-metric a", err: "engineConfigs"}},
	"kv-cache-usage-percentage-metric": {{args: "--kv-cache-usage-percentage-metric a", err: "engineConfigs"}},
	"lora-info-metric":                 {{args: "--lora-info-metric a", err: "engineConfigs"}, {args: "--lora-info-metric vllm:lora_requests_info", note: "vllm"}},
	"cache-info-metric":                {{args: "--cache-info-metric a", err: "engineConfigs"}},

	"v": {
		{args: "-v 4", does: debug}, {args: "--v=5", does: debug}, {args: "-v4", does: debug}, {args: "-v=2", does: info}, {args: "-v 4 --zap-log-level info", does: info},
		{args: "-v x", err: "invalid"},
	},
	"zap-log-level": {
		{args: "--zap-log-level debug", does: debug}, {args: "--zap-log-level=5", does: debug}, {args: "--zap-log-level 2 -v 4", does: info},
		{args: "--zap-log-level error", does: func(f *Flags, _ *epp.Options) bool { return f.logLevel == slog.LevelError }},
		{args: "--zap-log-level loud", err: "want debug"},
	},
	"zap-encoder":          {{args: "--zap-encoder json", does: format("json")}, {args: "--zap-encoder=console", does: format("text")}, {args: "--zap-encoder xml", err: "json or console"}},
	"zap-devel":            {{args: "--zap-devel=false", does: format("json")}, {args: "--zap-devel", does: format("text")}, {args: "--zap-encoder console --zap-devel=false", does: format("text")}},
	"zap-stacktrace-level": {{args: "--zap-stacktrace-level error", note: "panics"}},
	"zap-time-encoding":    {{args: "--zap-time-encoding iso8601", note: "RFC 3339"}},

	"tracing": {
		{args: "--tracing", does: func(f *Flags, _ *epp.Options) bool { return f.trace.wanted() == defaultEndpoint }},
		{args: "--tracing=false -otlp-endpoint a:1", does: func(f *Flags, _ *epp.Options) bool { return f.trace.wanted() == "" }},
	},
	"health-checking":        {{args: "--health-checking", does: nothing}, {args: "--health-checking=false", note: "always served"}},
	"enable-pprof":           {{args: "--enable-pprof", does: func(_ *Flags, o *epp.Options) bool { return o.Pprof }}, {args: "--enable-pprof=false", does: func(_ *Flags, o *epp.Options) bool { return !o.Pprof }}},
	"metrics-endpoint-auth":  {{args: "--metrics-endpoint-auth", err: "-metrics-token-file"}, {args: "--metrics-endpoint-auth=false", does: nothing}, {args: "--metrics-endpoint-auth -metrics-token-file t", does: nothing}},
	"metrics-cert-dir":       {{args: "--metrics-cert-dir d", does: func(_ *Flags, o *epp.Options) bool { return files("d/tls.crt", "d/tls.key")(o.MetricsTLS) }}},
	"metrics-client-ca-file": {{args: "--metrics-client-ca-file c", does: func(_ *Flags, o *epp.Options) bool { return o.MetricsTLS.ClientCAFile == "c" }}},

	"secure-serving": {
		{args: "--secure-serving", does: func(_ *Flags, o *epp.Options) bool { return !o.TLS.Off }},
		{args: "--secure-serving=false", does: func(_ *Flags, o *epp.Options) bool { return o.TLS.Off }},
		{args: "--secure-serving=false --cert-path d", does: func(_ *Flags, o *epp.Options) bool { return o.TLS.Off && o.TLS.CertFile == "" }},
	},
	"cert-path":          {{args: "--cert-path d", does: func(_ *Flags, o *epp.Options) bool { return files("d/tls.crt", "d/tls.key")(o.TLS) }}},
	"enable-cert-reload": {{args: "--enable-cert-reload", does: nothing}, {args: "--enable-cert-reload=false", note: "always read again"}},

	// Called as ours.
	"drain-timeout":     {{args: "--drain-timeout 9s", does: func(_ *Flags, o *epp.Options) bool { return o.DrainTimeout == 9*time.Second }}},
	"tls-min-version":   {{args: "--tls-min-version VersionTLS13", does: func(_ *Flags, o *epp.Options) bool { return o.TLS.MinVersion == 0x304 }}},
	"tls-cipher-suites": {{args: "--tls-cipher-suites TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", does: func(_ *Flags, o *epp.Options) bool { return len(o.TLS.CipherSuites) == 1 }}},
}

func debug(f *Flags, _ *epp.Options) bool { return f.logLevel == slog.LevelDebug }
func info(f *Flags, _ *epp.Options) bool  { return f.logLevel == slog.LevelInfo }

func format(want string) func(*Flags, *epp.Options) bool {
	return func(f *Flags, _ *epp.Options) bool { return f.logFormat == want }
}

// TestFlagsOfOtherPickers walks the table: each of their flags does what it does there, or
// says why it has no effect, or is refused with the reason.
func TestFlagsOfOtherPickers(t *testing.T) {
	for _, name := range []string{"ENDPOINT", "TRACES_ENDPOINT"} {
		t.Setenv("OTEL_EXPORTER_OTLP_"+name, "")
	}
	for _, a := range aliases {
		require.NotEmpty(t, effects[a.name], "flag %s has no line in the test's table", a.name)
	}
	for name, all := range effects {
		for _, e := range all {
			f, err := Parse(append([]string{"-config", "x"}, strings.Fields(e.args)...), new(bytes.Buffer))
			switch {
			case e.err != "":
				require.ErrorContains(t, err, e.err, "%s", e.args)
				require.ErrorContains(t, err, name, "%s", e.args)
				continue
			case err != nil:
				t.Errorf("%s: %v", e.args, err)
				continue
			case e.note != "":
				require.Len(t, f.notes, 1, "%s", e.args)
				require.Contains(t, f.notes[0], "-"+name+" has no effect: ", "%s", e.args)
				require.Contains(t, f.notes[0], e.note, "%s", e.args)
				continue
			}
			require.Empty(t, f.notes, "%s", e.args)
			require.True(t, e.does(f, &f.Options), "%s: %+v", e.args, f)
		}
	}
}

// TestFlagsInCapitals: to version 0.5 the words of a flag were joined by capitals. The first
// line is that of the deployment of 0.3.
func TestFlagsInCapitals(t *testing.T) {
	f, err := Parse(strings.Fields("-config x -poolName llama -v 4 --zap-encoder json -grpcPort 9102 -grpcHealthPort 9103 "+
		"-metricsPort=9190 --modelServerMetricsHttpsInsecureSkipVerify=false -secureServing=false -configText y"), new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, "default/llama", f.Options.Pool.String())
	require.Equal(t, [3]string{":9102", ":9103", ":9190"}, [3]string{f.Options.GRPCAddr, f.Options.HealthAddr, f.Options.MetricsAddr})
	require.True(t, f.Options.TLS.Off)
	require.Equal(t, "y", f.theirs.configText)
	require.Equal(t, slog.LevelDebug, f.logLevel)
}

// TestTheirCommandLine: what a chart of theirs starts, with its pool and EndpointPickerConfig,
// starts this picker; what has no effect is in the log.
func TestTheirCommandLine(t *testing.T) {
	dir := t.TempDir()
	pools, theirs := filepath.Join(dir, "pools.yaml"), filepath.Join(dir, "default-plugins.yaml")
	write(t, pools, configuration)
	picker := "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins: [{type: queue-scorer}, {type: max-score-picker}]\n"
	write(t, theirs, picker)
	line := []string{
		"--pool-name", "llama", "--pool-namespace", "default", "--pool-group", "inference.networking.k8s.io", "--zap-encoder", "json", "--v", "1",
		"--metrics-endpoint-auth=false", "--ha-enable-leader-election", "--tracing=false", "--secure-serving=true",
	}
	for _, config := range [][]string{{"--config-file", theirs}, {"--config-text", picker}} {
		log, stop := serve(t, slices.Concat([]string{"-config", pools}, line, config)...)
		log.WaitFor(t, "msg=serving", 1)
		require.Contains(t, log.String(), "manifests=1")
		require.Contains(t, log.String(), "-ha-enable-leader-election has no effect: there is no leader")
		stop()
	}
	// The same, and what is wrong in it is told with its place.
	write(t, theirs, strings.Replace(picker, "queue-scorer", "queue-scorre", 1))
	err := failing(t, "-config", pools, "--config-file", theirs)
	require.ErrorContains(t, err, "queue-scorre")
	require.ErrorContains(t, err, theirs)
}
