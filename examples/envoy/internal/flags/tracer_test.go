package flags

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

// collector takes spans, with TLS.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer
	got chan received
}

type received struct {
	header  metadata.MD
	service string
	spans   int
}

func (c *collector) Export(ctx context.Context, in *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	var r received
	r.header, _ = metadata.FromIncomingContext(ctx)
	for _, of := range in.ResourceSpans {
		for _, a := range of.Resource.Attributes {
			if a.Key == "service.name" {
				r.service = a.Value.GetStringValue()
			}
		}
		for _, scope := range of.ScopeSpans {
			r.spans += len(scope.Spans)
		}
	}
	c.got <- r
	return new(collectorv1.ExportTraceServiceResponse), nil
}

// startCollector returns its address, and a file with the certificate of its authority.
func startCollector(t *testing.T, encrypted bool) (c *collector, address, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	ca = filepath.Join(t.TempDir(), "ca.crt")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var opts []grpc.ServerOption
	if encrypted {
		opts = append(opts, grpc.Creds(credentials.NewServerTLSFromCert(&tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})))
	}
	server := grpc.NewServer(opts...)
	c = &collector{got: make(chan received, 100)}
	collectorv1.RegisterTraceServiceServer(server, c)
	go server.Serve(ln)
	t.Cleanup(server.Stop)
	return c, ln.Addr().String(), ca
}

// noOTEL takes away what the environment of the test says.
func noOTEL(t *testing.T) {
	for _, name := range []string{"ENDPOINT", "TRACES_ENDPOINT", "CERTIFICATE", "TRACES_CERTIFICATE", "HEADERS", "PROTOCOL", "TRACES_PROTOCOL"} {
		t.Setenv("OTEL_EXPORTER_OTLP_"+name, "")
	}
	for _, name := range []string{"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"} {
		t.Setenv(name, "")
	}
}

// TestSpansWithTLS: spans reach a collector with TLS, whether flags or the environment say
// where it is, with the headers that it asks for.
func TestSpansWithTLS(t *testing.T) {
	for _, tt := range []struct {
		name      string
		encrypted bool
		flags     func(address, ca string) traceFlags
		env       func(address, ca string) map[string]string
		service   string
	}{
		{"flags", true, func(a, ca string) traceFlags { return traceFlags{endpoint: "https://" + a, ca: ca} }, nil, "inferpick-epp"},
		{"flags, no scheme", true, func(a, ca string) traceFlags { return traceFlags{endpoint: a, ca: ca} }, nil, "inferpick-epp"},
		{"flags, plain", false, func(a, _ string) traceFlags { return traceFlags{endpoint: a} }, nil, "inferpick-epp"},
		{"flags, plain URL", false, func(a, _ string) traceFlags { return traceFlags{endpoint: "http://" + a} }, nil, "inferpick-epp"},
		{"environment", true, nil, func(a, ca string) map[string]string {
			return map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "https://" + a, "OTEL_EXPORTER_OTLP_CERTIFICATE": ca, "OTEL_SERVICE_NAME": "picker-7",
			}
		}, "picker-7"},
		{"environment, of traces", true, nil, func(a, ca string) map[string]string {
			return map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://" + a, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": ca,
			}
		}, "inferpick-epp"},
		{"flag and environment", true, func(a, _ string) traceFlags { return traceFlags{endpoint: "https://" + a} }, func(_, ca string) map[string]string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_CERTIFICATE": ca}
		}, "inferpick-epp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noOTEL(t)
			c, address, ca := startCollector(t, tt.encrypted)
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme")
			if tt.env != nil {
				for name, value := range tt.env(address, ca) {
					t.Setenv(name, value)
				}
			}
			var f traceFlags
			if tt.flags != nil {
				f = tt.flags(address, ca)
			}
			tracer, shutdown, err := f.newTracer(t.Context())
			require.NoError(t, err)
			require.NotNil(t, tracer)
			_, span := tracer.Start(t.Context(), "POST", "/v1/chat/completions", nil)
			span.End()
			shutdown()
			select {
			case r := <-c.got:
				require.Equal(t, 1, r.spans)
				require.Equal(t, tt.service, r.service)
				require.Equal(t, []string{"acme"}, r.header.Get("x-tenant"))
			default:
				t.Fatal("no span has come")
			}
		})
	}
}

func TestSpansGoNowhere(t *testing.T) {
	noOTEL(t)
	off := false
	for _, f := range []traceFlags{{}, {on: &off}, {on: &off, endpoint: "a:1"}} {
		tracer, shutdown, err := f.newTracer(t.Context())
		require.NoError(t, err)
		require.Nil(t, tracer)
		shutdown()
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	tracer, _, err := (&traceFlags{endpoint: "a:1"}).newTracer(t.Context())
	require.NoError(t, err)
	require.Nil(t, tracer)
}

// TestBadSpans: what the exporter would only log of is told at the start.
func TestBadSpans(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage")
	write(t, garbage, "no PEM")
	for _, tt := range []struct {
		name  string
		flags traceFlags
		env   [2]string
		want  []string
	}{
		{"scheme", traceFlags{endpoint: "ftp://a:1"}, [2]string{}, []string{"ftp://a:1", "https://host:port"}},
		{"no port", traceFlags{endpoint: "collector"}, [2]string{}, []string{`"collector"`, "host:port"}},
		{"no host", traceFlags{endpoint: "https://"}, [2]string{}, []string{"https://", "host:port"}},
		{"authorities of a plain one", traceFlags{endpoint: "http://a:1", ca: garbage}, [2]string{}, []string{"-otlp-ca", "http://"}},
		{"authorities", traceFlags{endpoint: "https://a:1", ca: garbage}, [2]string{}, []string{"-otlp-ca", garbage}},
		{"authorities missing", traceFlags{endpoint: "https://a:1", ca: garbage + "2"}, [2]string{}, []string{"-otlp-ca", garbage + "2"}},
		{"authorities by the environment", traceFlags{endpoint: "https://a:1"}, [2]string{"OTEL_EXPORTER_OTLP_CERTIFICATE", garbage}, []string{"OTEL_EXPORTER_OTLP_CERTIFICATE", garbage}},
		{"endpoint by the environment", traceFlags{}, [2]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "unix:///x"}, []string{"unix:///x"}},
		{"protocol", traceFlags{endpoint: "https://a:1"}, [2]string{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"}, []string{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "grpc"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noOTEL(t)
			if tt.env[0] != "" {
				t.Setenv(tt.env[0], tt.env[1])
			}
			_, _, err := tt.flags.newTracer(t.Context())
			require.Error(t, err)
			for _, want := range tt.want {
				require.True(t, strings.Contains(err.Error(), want), "%q in %v", want, err)
			}
		})
	}
}
