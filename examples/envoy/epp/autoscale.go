package epp

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/inferpick/inferpick/examples/envoy/externalmetrics"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/keda"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// Autoscale says who is told how many replicas pools should have. By which policy that is recommended the section
// autoscale of a pool's EndpointPickerConfig says. People are told by /autoscale at Options.MetricsAddr.
type Autoscale struct {
	// KEDAAddr serves KEDA's external scaler: host:port, or PickerPort. Empty: nowhere.
	KEDAAddr string
	// KEDATLS is the TLS of a KEDAAddr of its own, if it has files. Default: none.
	KEDATLS TLS
	// ExternalMetricsAddr serves external.metrics.k8s.io to the API server of Options.Kubernetes: host:port. Empty:
	// nowhere. A cluster has one provider of it, which with KEDA is KEDA.
	ExternalMetricsAddr string
	// ExternalMetricsTLS is its TLS. Default: a certificate that is made for it, which an APIService has to take
	// unseen (insecureSkipTLSVerify).
	ExternalMetricsTLS TLS
	// Peers asks the other pickers in front of the same servers. Nil: those of Options.Sharing, if that is set and
	// tells notes; there are none otherwise.
	Peers autoscale.Peers
	// VariantLabel is the label of servers whose values tell kinds of replicas apart. Empty: all are of one kind.
	VariantLabel string
	// Every is how often a recommendation is made. Default 1s.
	Every time.Duration
}

// PickerPort is the Autoscale.KEDAAddr of who wants the scaler at Options.GRPCAddr.
const PickerPort = "grpc"

// checkAutoscale returns what is wrong with Autoscale.
func (o *Options) checkAutoscale() error {
	a := o.Autoscale
	switch {
	case a == nil:
		return nil
	case a.ExternalMetricsAddr != "" && o.Kubernetes == nil:
		return errors.New("epp: Options.Autoscale.ExternalMetricsAddr needs Options.Kubernetes, which says who may ask")
	case a.ExternalMetricsTLS.Off || a.ExternalMetricsTLS.ClientCAFile != "":
		return errors.New("epp: Options.Autoscale.ExternalMetricsTLS is off, or has a ClientCAFile: " +
			"API servers speak TLS, and their cluster says by which certificate they are known")
	}
	return nil
}

// scaling is what an App has of autoscaling.
type scaling struct {
	o      *Autoscale
	fleet  *fleet
	scaler *autoscale.Autoscaler
	calls  scalingCalls
	notes  *autoscale.NotePeers // nil: pickers do not tell each other by Options.Sharing

	keda     *keda.Server // nil: none
	grpc     *grpc.Server // for keda alone; nil: there is none, or it is at the picker's port
	external *http.Server // nil: none
	kedaAt   net.Listener
	extAt    net.Listener
	stopping sync.WaitGroup // of grpc
}

// newScaling returns that of a fleet, nil if there is to be none.
func newScaling(f *fleet, o Options) (*scaling, error) {
	if o.Autoscale == nil {
		return nil, nil
	}
	s := &scaling{o: o.Autoscale, fleet: f}
	peers, err := s.o.Peers, error(nil)
	if peers == nil && o.Sharing != nil && !o.Sharing.Without.Notes {
		if s.notes, err = autoscale.NewNotePeers(autoscale.NotePeersOptions{Every: s.o.Every}); err != nil {
			return nil, err
		}
		peers = s.notes
	}
	s.scaler, err = autoscale.New(autoscale.Options{
		Collector: f.collector, Policy: f.scaled, Peers: peers, Every: s.o.Every, Logger: o.Logger,
	})
	if err != nil || s.o.KEDAAddr == "" {
		return s, err
	}
	s.keda, err = keda.New(keda.Options{Source: s.scaler, Models: f.serves, Called: s.calls.keda})
	return s, err
}

// listen begins to listen at what has an address of its own, and puts the scaler at the picker's port if it is to be
// there.
func (s *scaling) listen(o Options, atPicker grpc.ServiceRegistrar) (err error) {
	switch s.o.KEDAAddr {
	case "":
	case PickerPort:
		s.keda.Register(atPicker)
	default:
		if err = s.listenKEDA(o); err != nil {
			return err
		}
	}
	if s.o.ExternalMetricsAddr != "" {
		return s.listenExternal(o)
	}
	return nil
}

func (s *scaling) listenKEDA(o Options) error {
	encryption := s.o.KEDATLS
	encryption.Off = encryption.CertFile == "" && encryption.KeyFile == ""
	c, err := encryption.config(o.Logger, "h2")
	if err != nil {
		return err
	}
	options := append(keepalives(),
		grpc.UnaryInterceptor(recoveringCall(o.Logger)), grpc.StreamInterceptor(recovering(o.Logger)))
	if c != nil {
		options = append(options, grpc.Creds(newCreds(c, o.Logger)))
	}
	s.grpc = grpc.NewServer(options...)
	s.keda.Register(s.grpc)
	s.kedaAt, err = listen("KEDA", s.o.KEDAAddr)
	return err
}

func (s *scaling) listenExternal(o Options) error {
	api, err := externalmetrics.New(externalmetrics.Options{
		Asker: metric.Asker{Source: s.scaler, Models: s.fleet.serves}, API: o.Kubernetes.API,
		Answered: s.calls.external, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	c, err := s.o.ExternalMetricsTLS.config(o.Logger, "http/1.1")
	if err != nil {
		return err
	}
	c.ClientAuth = tls.RequestClientCert // the API knows which are good
	ln, err := listen("external metrics", s.o.ExternalMetricsAddr)
	if err != nil {
		return err
	}
	s.extAt = tls.NewListener(ln, c)
	s.external = &http.Server{
		Handler: api, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug), // of everybody who knocks
	}
	return nil
}

// scopes are what is shared of it.
func (s *scaling) scopes() []sharing.Scope {
	if s == nil || s.notes == nil {
		return nil
	}
	return []sharing.Scope{{Name: "autoscale", Parts: s.notes.Parts()}}
}

// serve calls fn with each server that there is beside the picker's.
func (s *scaling) serve(fn func(what string, serve func() error)) {
	if s != nil && s.grpc != nil {
		fn("KEDA", func() error { return s.grpc.Serve(s.kedaAt) })
	}
	if s != nil && s.external != nil {
		fn("external metrics", func() error { return s.external.Serve(s.extAt) })
	}
}

// leave ends streams, so that KEDA opens them at another picker, and takes no more calls.
func (s *scaling) leave() {
	if s == nil || s.keda == nil {
		return
	}
	s.keda.Close()
	if s.grpc != nil {
		s.stopping.Go(s.grpc.GracefulStop) // close puts an end to it
	}
}

// close ends what newScaling and listen began.
func (s *scaling) close() {
	if s == nil {
		return
	}
	for _, ln := range []net.Listener{s.kedaAt, s.extAt} {
		if ln != nil {
			ln.Close()
		}
	}
	if s.keda != nil {
		s.keda.Close()
	}
	if s.grpc != nil {
		s.grpc.Stop()
		s.stopping.Wait()
	}
	if s.external != nil {
		s.external.Close()
	}
}

// page serves /autoscale.
func (s *scaling) page() http.Handler {
	if s == nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "epp: autoscaling is off: Options.Autoscale, or -autoscale, turns it on", http.StatusNotFound)
		})
	}
	return s.scaler.Handler()
}

// KEDAAddress returns where KEDA's external scaler is served, empty if nowhere.
func (a *App) KEDAAddress() string {
	switch {
	case a.scaling == nil || a.scaling.keda == nil:
		return ""
	case a.scaling.kedaAt == nil:
		return a.Address()
	}
	return addressOf(a.scaling.kedaAt)
}

// ExternalMetricsAddress returns where external.metrics.k8s.io is served, empty if nowhere.
func (a *App) ExternalMetricsAddress() string {
	if a.scaling == nil {
		return ""
	}
	return addressOf(a.scaling.extAt)
}

// Autoscaler returns the one that recommends, nil if autoscaling is off.
func (a *App) Autoscaler() *autoscale.Autoscaler {
	if a.scaling == nil {
		return nil
	}
	return a.scaling.scaler
}

// newCollector returns what makes signals of a fleet's pools, nil if autoscaling is off.
func (f *fleet) newCollector(o Options) (*autoscale.Collector, error) {
	if o.Autoscale == nil {
		return nil, nil
	}
	return autoscale.NewCollector(autoscale.CollectorOptions{
		Pools: eachPool(f.store), Admissions: f.admissions, Speeds: speeds{f}, Starting: o.startingOf(f),
		VariantLabel: o.Autoscale.VariantLabel, Policy: f.scaled, MetricsTTL: o.MetricsTTL,
	})
}

// scaled returns by which policy a pool is scaled.
func (f *fleet) scaled(pool types.NamespacedName) (autoscale.Policy, bool) {
	m := (*f.members.Load())[pool]
	if m == nil {
		return autoscale.Policy{}, false
	}
	return m.policy.Autoscale(), true
}

// serves reports whether a pool is known to serve a model: by its manifests, by what its servers say, or because
// requests for it have come.
func (f *fleet) serves(pool types.NamespacedName, model string) bool {
	if _, ok := f.store.Snapshot().Model(pool, model); ok {
		return true
	}
	s, err := f.collector.Signals(pool, model)
	return err == nil && (s.Arrivals > 0 || s.Running > 0 || s.Queued > 0)
}

// speeds asks the plugins of all pools, of which one knows an endpoint.
type speeds struct{ f *fleet }

// Speed implements autoscale.Speeds.
func (s speeds) Speed(ep *types.Endpoint) (types.Speed, bool) {
	for _, m := range *s.f.members.Load() {
		if m.speeds == nil {
			continue
		}
		if v, ok := m.speeds.Speed(ep); ok {
			return v, true
		}
	}
	return types.Speed{}, false
}

// startingOf returns who knows which replicas do not serve yet; nil: nobody does.
func (o *Options) startingOf(f *fleet) func(types.NamespacedName, string) (int, bool) {
	if o.Kubernetes == nil {
		return nil
	}
	label := o.Autoscale.VariantLabel
	return func(pool types.NamespacedName, variant string) (int, bool) {
		source := f.source.Load()
		if source == nil {
			return 0, false
		}
		if variant == "" {
			return source.Starting(pool, "", "")
		}
		return source.Starting(pool, label, variant)
	}
}
