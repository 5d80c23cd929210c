package epp

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/picker"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// Options of an App. Config is required, unless Kubernetes is set; the rest has good defaults.
type Options struct {
	// Config is the file or folder of the configuration, see package config.
	Config string
	// Kubernetes, if set, is the cluster from which pools, models, objectives, rewrites and
	// endpoints come. Config has policies for them then, and may be left out.
	Kubernetes *Kubernetes
	// Strict makes fields of the configuration that are not known errors. Default: they
	// are logged.
	Strict bool
	// MoreConfig are further files or folders, read after it as if they were in it.
	MoreConfig []string
	// ReloadInterval is the time between two looks at it. Default 1s.
	ReloadInterval time.Duration

	// GRPCAddr is where Envoy finds the picker and its health: host:port, or unix:
	// and the path of a socket, which takes less time if both share a machine.
	// Default ":9002"; "-": nowhere, for an App whose requests come in this process (App.Exchanges).
	// TLS, IdleTimeout, RequestBody and ResponseBody are of no use then.
	GRPCAddr string
	// HealthAddr serves health alone, for probes. Default ":9003"; "-": nowhere.
	HealthAddr string
	// TLS of GRPCAddr. Default: a certificate that is made for it.
	TLS TLS

	// MetricsAddr serves /metrics. Default ":9090"; "-": nowhere.
	MetricsAddr string
	// Explain adds /explain there, Pprof /debug/pprof. Both tell whoever may ask more than
	// figures: Explain, for example, how much of a prompt of a tenant is cached, and what became of
	// the last requests of each session (package trail).
	Explain, Pprof bool
	// MetricsTokenFile is a file with the token that all that is asked for at MetricsAddr
	// has to show (Authorization: Bearer). What is put in its place counts at once. Default:
	// anybody may ask.
	MetricsTokenFile string
	// MetricsTLS is the TLS of MetricsAddr, if it has files. Default: none.
	MetricsTLS TLS
	// MetricNames are the names of metrics. Default: those of the Inference Extension.
	MetricNames telemetry.Names
	// Version and Commit say in the metrics which build of the program this is.
	Version, Commit string
	// MetricsTTL is the age beyond which what a server reported is left out of the metrics
	// of its pool. Default that of package telemetry.
	MetricsTTL time.Duration

	// Families say what media in prompts weigh: see director.Options.
	Families *openai.Families
	// Pool, MaxBody, MaxDestinations, MaxStreams, IdleTimeout, RequestBody and ResponseBody
	// are those of picker.Options and exchange.Options.
	Pool                      types.NamespacedName
	MaxBody                   int
	MaxDestinations           int
	MaxStreams                int
	IdleTimeout               time.Duration
	RequestBody, ResponseBody picker.BodyMode

	// RefuseUnknownModels answers 404 for a model that no manifest names. Default:
	// such a request is served as it is.
	RefuseUnknownModels bool
	// KeepTargetModel leaves the target model's name in responses. Default: the
	// public one is put back.
	KeepTargetModel bool
	// IgnoreRequestHeaders leaves the headers of objective, fairness, rewrite, SLO and
	// longest wait unread. Default: they are trusted, for Envoy can set them, and must strip
	// those of clients that are not to choose their priority, model and tenant.
	IgnoreRequestHeaders bool
	// AllowPaths are paths that clients may ask for, with all below them, beside those that
	// director.Options.AllowPath says are for clients anyway. "/" allows all: for an Envoy whose
	// routes are the only ones to say what is asked for.
	AllowPaths []string
	// RoleLabel is the label of servers that says which steps of a request they are for, see
	// types.ParseRoles. Default that of llm-d, types.RoleLabel.
	RoleLabel string
	// SessionHeader names the header that holds a session. Default that of package
	// director.
	SessionHeader string

	// Sharing makes this picker and its peers act as one: see package sharing. It needs a Transport, such as
	// NewMesh makes, which the App closes. Default of its Name is that of the host. Nil: nothing is shared.
	Sharing *sharing.Options

	// Rollouts move traffic from one target model to another where a manifest asks for it. Nil: they do not.
	Rollouts *Rollouts
	// Autoscale tells outside autoscalers how many replicas pools should have. Nil: nothing is recommended, and
	// /autoscale is not there.
	Autoscale *Autoscale

	// ScrapeInterval is the time between two readings of a server's metrics. Default
	// that of package scrape.
	ScrapeInterval time.Duration
	// ServerMetrics says where the metrics of servers are of which the configuration does
	// not say it.
	ServerMetrics ServerMetrics
	// DrainDelay is how long requests are still taken after the picker was asked to
	// end and says so by its health; DrainTimeout how long those under way may go on
	// after that. Requests that wait to be let in then are refused with 503. Defaults 0
	// and 30s.
	DrainDelay, DrainTimeout time.Duration

	// Tracer, OnRoute and OnServed are those of exchange.Options.
	Tracer   exchange.Tracer
	OnRoute  func(*director.Route)
	OnServed func(r *director.Route, address string)

	// Logger hears of everything. Nil: silence.
	Logger *slog.Logger
}

// allows reports whether a path, in lower case, is among AllowPaths or below one of them.
func (o *Options) allows(_, path string) bool {
	return slices.ContainsFunc(o.AllowPaths, func(allowed string) bool {
		allowed = strings.ToLower(strings.TrimRight(allowed, "/"))
		below, ok := strings.CutPrefix(path, allowed)
		return ok && (below == "" || below[0] == '/')
	})
}

// withDefaults returns o with its defaults, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	for _, s := range []struct {
		value *string
		def   string
	}{{&o.GRPCAddr, ":9002"}, {&o.HealthAddr, ":9003"}, {&o.MetricsAddr, ":9090"}} {
		if *s.value == "" {
			*s.value = s.def
		}
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 30 * time.Second
	}
	if o.MaxBody == 0 {
		o.MaxBody = exchange.DefaultMaxBody // one limit for all who have one
	}
	o.Logger = guardlog.Logger(o.Logger)
	if o.Kubernetes != nil {
		var err error
		if o.Kubernetes, err = o.Kubernetes.complete(o.Logger); err != nil {
			return o, err
		}
	}
	switch {
	case o.Config == "" && o.Kubernetes == nil:
		return o, errors.New("epp: Options.Config is required: a file or folder; or Options.Kubernetes")
	case slices.ContainsFunc(o.AllowPaths, func(p string) bool { return !strings.HasPrefix(p, "/") }):
		return o, fmt.Errorf("epp: Options.AllowPaths has %q, must begin with a slash", o.AllowPaths)
	case o.DrainDelay < 0:
		return o, fmt.Errorf("epp: Options.DrainDelay is %v, must not be negative", o.DrainDelay)
	case o.DrainTimeout < 0:
		return o, fmt.Errorf("epp: Options.DrainTimeout is %v, must not be negative", o.DrainTimeout)
	}
	if err := o.checkNowhere(); err != nil {
		return o, err
	}
	return o, o.checkAutoscale()
}

// checkNowhere says what needs a port that is not there.
func (o *Options) checkNowhere() error {
	switch {
	case o.GRPCAddr != nowhere:
		return nil
	case o.Autoscale != nil && o.Autoscale.KEDAAddr == PickerPort:
		return fmt.Errorf("epp: Options.Autoscale.KEDAAddr is %q, which is Options.GRPCAddr, and that is nowhere: want host:port", PickerPort)
	case o.TLS.CertFile != "" || o.TLS.KeyFile != "" || o.TLS.ClientCAFile != "":
		return errors.New("epp: Options.TLS has files, and is of Options.GRPCAddr, which is nowhere")
	}
	return nil
}
