package epp_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/stretchr/testify/require"
)

func TestStartRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "good.yaml")
	put(t, good, base)
	garbage := filepath.Join(dir, "garbage.pem")
	put(t, garbage, "no PEM")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	inUse := taken.Addr().String()
	missing := filepath.Join(dir, "missing")

	for _, tt := range []struct {
		name   string
		config string // "": good
		change func(*epp.Options)
		want   []string // in the error
	}{
		{"no configuration", "", func(o *epp.Options) { o.Config = "" }, []string{"Options.Config is required"}},
		{"missing configuration", "", func(o *epp.Options) { o.Config = missing }, []string{missing}},
		{"empty configuration", "# nothing\n", nil, []string{"no InferencePool"}},
		{"a bad pool alone", strings.Replace(poolYAML("llama"), "spec:", "specs:", 1), nil, []string{"epp.yaml:2: ", "spec.selector"}},
		{"an unknown plugin", base + pickerHead + "plugins: [{type: magic-scorer}]\n", nil, []string{"epp.yaml:29:12: ", "plugins[0].type", "magic-scorer"}},
		{"gRPC address in use", "", func(o *epp.Options) { o.GRPCAddr = inUse }, []string{"epp: gRPC address", inUse, "in use"}},
		{"health address in use", "", func(o *epp.Options) { o.HealthAddr = inUse }, []string{"epp: health address", inUse, "in use"}},
		{"metrics address in use", "", func(o *epp.Options) { o.MetricsAddr = inUse }, []string{"epp: metrics address", inUse, "in use"}},
		{"no address", "", func(o *epp.Options) { o.GRPCAddr = "nonsense" }, []string{"epp: gRPC address", "nonsense"}},
		{"two kinds of TLS", "", func(o *epp.Options) {
			o.TLS = epp.TLS{Off: true, CertFile: garbage, KeyFile: garbage}
		}, []string{"off, but has files"}},
		{"a certificate and no key", "", func(o *epp.Options) { o.TLS = epp.TLS{CertFile: garbage} }, []string{"both a certificate and a key"}},
		{"a key and no certificate", "", func(o *epp.Options) { o.TLS = epp.TLS{KeyFile: garbage} }, []string{"both a certificate and a key"}},
		{"an old TLS", "", func(o *epp.Options) { o.TLS = epp.TLS{MinVersion: tls.VersionTLS11} }, []string{"TLS 1.1", "at least TLS 1.2"}},
		{"authorities missing", "", func(o *epp.Options) { o.TLS = epp.TLS{ClientCAFile: missing} }, []string{"authorities", missing}},
		{"authorities unreadable", "", func(o *epp.Options) { o.TLS = epp.TLS{ClientCAFile: garbage} }, []string{garbage, "no certificate"}},
		{"TLS of metrics without a certificate", "", func(o *epp.Options) { o.MetricsTLS.ClientCAFile = garbage }, []string{"off, but has files"}},
		{"token missing", "", func(o *epp.Options) { o.MetricsTokenFile = missing }, []string{"token of metrics", missing}},
		{"token of two words", "", func(o *epp.Options) { o.MetricsTokenFile = garbage }, []string{"token of metrics", garbage, "blank"}},
		{"token empty", "", func(o *epp.Options) { o.MetricsTokenFile = os.DevNull }, []string{"token of metrics", "is empty"}},
		{"certificate missing", "", func(o *epp.Options) { o.TLS = epp.TLS{CertFile: missing, KeyFile: garbage} }, []string{"epp: ", missing}},
		{"certificate unreadable", "", func(o *epp.Options) { o.TLS = epp.TLS{CertFile: garbage, KeyFile: garbage} }, []string{"epp: ", garbage}},
		{"negative delay", "", func(o *epp.Options) { o.DrainDelay = -time.Second }, []string{"Options.DrainDelay is -1s"}},
		{"negative timeout", "", func(o *epp.Options) { o.DrainTimeout = -time.Second }, []string{"Options.DrainTimeout is -1s"}},
		{"KEDA at a port that is not there", "", func(o *epp.Options) {
			o.GRPCAddr, o.Autoscale = "-", &epp.Autoscale{KEDAAddr: epp.PickerPort}
		}, []string{"KEDAAddr", "is nowhere", "host:port"}},
		{"TLS of a port that is not there", "", func(o *epp.Options) {
			o.GRPCAddr, o.TLS = "-", epp.TLS{CertFile: garbage, KeyFile: garbage}
		}, []string{"Options.TLS", "is nowhere"}},
		{"negative body in process", "", func(o *epp.Options) { o.GRPCAddr, o.MaxBody = "-", -1 }, []string{"MaxBody is -1"}},
		{"negative destinations in process", "", func(o *epp.Options) { o.GRPCAddr, o.MaxDestinations = "-", -1 }, []string{"MaxDestinations is -1"}},
		{"negative body", "", func(o *epp.Options) { o.MaxBody = -1 }, []string{"MaxBody is -1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(good)
			if tt.config != "" {
				o.Config = filepath.Join(t.TempDir(), "epp.yaml")
				put(t, o.Config, tt.config)
			}
			if tt.change != nil {
				tt.change(&o)
			}
			app, err := epp.New(o)
			if err == nil {
				app.Close()
				t.Fatal("no error")
			}
			for _, want := range tt.want {
				require.Contains(t, err.Error(), want)
			}
		})
	}
}

// TestRefusedStartKeepsNoPort: what New listened on before it failed is free again.
func TestRefusedStartKeepsNoPort(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "epp")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path, socket := filepath.Join(dir, "epp.yaml"), filepath.Join(dir, "s")
	put(t, path, base)
	o := options(path)
	o.GRPCAddr, o.MetricsAddr = "unix:"+socket, "nonsense"
	if app, err := epp.New(o); err == nil {
		app.Close()
		t.Fatal("no error")
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestReserveHeap(t *testing.T) {
	for _, env := range []string{"", "100"} {
		t.Setenv("GOGC", env)
		epp.ReserveHeap()()
	}
}
