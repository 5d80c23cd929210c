package flags

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"

	"github.com/inferpick/inferpick/examples/envoy/tracing"
)

// traceFlags say where spans go. What they leave open the environment may say: headers,
// certificates, sampling, attributes and so on by the variables OTEL_* of OpenTelemetry.
type traceFlags struct {
	endpoint, ca string
	on           *bool // -tracing: nil if it was not said
}

func (t *traceFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&t.endpoint, "otlp-endpoint", "", "`URL` that OpenTelemetry spans go to by gRPC: https://host:port with TLS, http://host:port or host:port without (default: what OTEL_EXPORTER_OTLP_ENDPOINT says, or no spans)")
	fs.StringVar(&t.ca, "otlp-ca", "", "`file` (PEM) of the authorities of its certificate (default: those of the system, or OTEL_EXPORTER_OTLP_CERTIFICATE)")
}

// defaultEndpoint is where OpenTelemetry's collectors listen.
const defaultEndpoint = "http://localhost:4317"

// wanted returns where spans are to go, empty if nowhere.
func (t *traceFlags) wanted() string {
	switch {
	case t.on != nil && !*t.on, strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true"):
		return ""
	case t.endpoint != "":
		return t.endpoint
	}
	endpoint := ofTraces("ENDPOINT")
	if endpoint == "" && t.on != nil {
		endpoint = defaultEndpoint
	}
	return endpoint
}

// ofTraces reads a variable of the exporter, that for traces alone first.
func ofTraces(name string) string {
	if v := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_" + name)
}

// exporterOptions say how to reach an endpoint. What the exporter would only log of, it
// finds out.
func (t *traceFlags) exporterOptions(endpoint string) (opts []otlptracegrpc.Option, err error) {
	if p := ofTraces("PROTOCOL"); p != "" && p != "grpc" {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q, and spans go by grpc alone", p)
	}
	scheme, host := "", endpoint
	if strings.Contains(endpoint, "://") {
		u, err := url.Parse(endpoint)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("%q: want https://host:port, http://host:port or host:port", endpoint)
		}
		scheme, host = u.Scheme, u.Host
	}
	if _, port, err := net.SplitHostPort(host); scheme == "" && (err != nil || port == "") {
		return nil, fmt.Errorf("%q: want https://host:port, http://host:port or host:port", endpoint)
	}
	opts = append(opts, otlptracegrpc.WithEndpoint(host))
	ca := t.ca
	if ca == "" {
		ca = ofTraces("CERTIFICATE")
	}
	switch {
	case scheme == "http" && t.ca != "":
		return nil, errors.New("-otlp-ca: the endpoint is http://, want https://")
	case scheme != "https" && t.ca == "":
		opts = append(opts, otlptracegrpc.WithInsecure())
	case t.ca != "":
		creds, err := credentials.NewClientTLSFromFile(ca, "")
		if err != nil {
			return nil, fmt.Errorf("-otlp-ca: %s: %w", ca, err)
		}
		opts = append(opts, otlptracegrpc.WithTLSCredentials(creds))
	case ca != "": // the exporter reads it, with the client's certificate
		if _, err := credentials.NewClientTLSFromFile(ca, ""); err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %s: %w", ca, err)
		}
	default:
		if ofTraces("CLIENT_CERTIFICATE") == "" {
			opts = append(opts, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(nil)))
		}
	}
	return opts, nil
}

// newTracer returns a tracer whose spans go to a collector, nil if they are to go
// nowhere. shutdown sends what is left.
func (t *traceFlags) newTracer(ctx context.Context) (_ *tracing.Tracer, shutdown func(), err error) {
	endpoint := t.wanted()
	if endpoint == "" {
		return nil, func() {}, nil
	}
	opts, err := t.exporterOptions(endpoint)
	if err != nil {
		return nil, nil, fmt.Errorf("spans: %w", err)
	}
	exporter, err := otlptracegrpc.New(ctx, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("spans: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "inferpick-epp")), resource.WithFromEnv())
	if err != nil {
		exporter.Shutdown(ctx)
		return nil, nil, fmt.Errorf("spans: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return tracing.New(provider), func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		provider.Shutdown(ctx)
	}, nil
}
