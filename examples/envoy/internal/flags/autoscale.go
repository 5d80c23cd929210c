package flags

import (
	"errors"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// scaleFlags say who is told how many replicas there should be.
type scaleFlags struct {
	on    bool
	of    epp.Autoscale
	peers epp.Pickers
}

func (s *scaleFlags) add(fs *pflag.FlagSet) {
	fs.BoolVar(&s.on, "autoscale", false, "recommend how many replicas pools should have, at /autoscale of -metrics-addr and in the metrics; the other flags of autoscaling turn it on, too")
	fs.StringVar(&s.of.KEDAAddr, "keda-addr", "", "`address` of the external scaler that KEDA asks: host:port, or "+epp.PickerPort+" for that of -grpc-addr (default: none)")
	fs.StringVar(&s.of.KEDATLS.CertFile, "keda-tls-cert", "", "certificate `file` (PEM) of -keda-addr, read again when it changes (default: no TLS)")
	fs.StringVar(&s.of.KEDATLS.KeyFile, "keda-tls-key", "", "key `file` (PEM)")
	fs.StringVar(&s.of.KEDATLS.ClientCAFile, "keda-tls-client-ca", "", "`file` (PEM) of the authorities of which KEDA must have a certificate")
	fs.StringVar(&s.of.ExternalMetricsAddr, "external-metrics-addr", "", "`address` of the API external.metrics.k8s.io, for a cluster that has no other provider of it, such as KEDA (default: none)")
	fs.StringVar(&s.of.ExternalMetricsTLS.CertFile, "external-metrics-tls-cert", "", "certificate `file` (PEM), read again when it changes (default: one that is made, for insecureSkipTLSVerify)")
	fs.StringVar(&s.of.ExternalMetricsTLS.KeyFile, "external-metrics-tls-key", "", "key `file` (PEM)")
	fs.StringSliceVar(&s.peers.Addresses, "autoscale-peers", nil, "`host:port` of the metrics of all pickers of the same servers, which are asked what they have queued and sent; https://host:port with TLS; may be repeated, or have commas between. As of -peers, all addresses of a name are pickers, and this one may be among them (default: those of -peers, who tell each other by themselves)")
	fs.StringVar(&s.peers.CAFile, "autoscale-peers-ca", "", "`file` (PEM) of the authorities of their certificates (default: those of the system)")
	fs.StringVar(&s.of.VariantLabel, "variant-label", "", "`label` of servers whose values tell kinds of replicas apart (default: all are of one kind)")
}

// check says what is wrong with what the flags say together.
func (f *Flags) checkAutoscale() error {
	s := &f.scale
	own := s.of.KEDAAddr != "" && s.of.KEDAAddr != epp.PickerPort
	certs := s.of.ExternalMetricsTLS.CertFile + s.of.ExternalMetricsTLS.KeyFile
	switch {
	case !own && s.of.KEDATLS.CertFile+s.of.KEDATLS.KeyFile+s.of.KEDATLS.ClientCAFile != "":
		return errors.New("-keda-tls-cert, -key and -client-ca are of a -keda-addr of its own: want that, or none of them")
	case s.of.KEDATLS.ClientCAFile != "" && s.of.KEDATLS.CertFile == "":
		return errors.New("-keda-tls-client-ca: want -keda-tls-cert and -keda-tls-key, too")
	case s.of.ExternalMetricsAddr == "" && certs != "":
		return errors.New("-external-metrics-tls-cert and -key are of -external-metrics-addr: want that, or none of them")
	case s.of.ExternalMetricsAddr != "" && !*f.kube.on && f.Check == "" && !f.Version:
		return errors.New("-external-metrics-addr is for the API server of a cluster: say -kubernetes")
	case len(s.peers.Addresses) == 0 && s.peers.CAFile != "":
		return errors.New("-autoscale-peers-ca is of -autoscale-peers: want that, or none of them")
	case len(s.peers.Addresses) > 0 && f.theirs.metricsAuth && f.Options.MetricsTokenFile == "":
		return errors.New("-autoscale-peers with -metrics-endpoint-auth: pickers have no token for each other; say -metrics-token-file in its place")
	}
	return nil
}

// autoscale returns what the flags say together, nil if there is to be no autoscaling.
func (f *Flags) autoscale(logger *slog.Logger) (*epp.Autoscale, error) {
	s := &f.scale
	if !s.on && s.of.KEDAAddr == "" && s.of.ExternalMetricsAddr == "" && len(s.peers.Addresses) == 0 {
		return nil, nil
	}
	of := s.of
	if len(s.peers.Addresses) > 0 {
		p := s.peers
		p.TokenFile, p.Logger = f.Options.MetricsTokenFile, logger
		var err error
		if of.Peers, err = epp.NewPickers(p); err != nil {
			return nil, err
		}
	}
	return &of, nil
}
