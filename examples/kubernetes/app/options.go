package app

import (
	"cmp"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// DefaultController is the default of Options.Controller.
const DefaultController = "inferpick.io/gateway"

// Options of a Gateway.
type Options struct {
	// Config is that of the cluster. Required.
	Config *rest.Config
	// Controller is the name by which a GatewayClass asks for this gateway. Default
	// DefaultController.
	Controller string
	// Only are the Gateways that are served. Default: all of the class.
	Only []types.NamespacedName
	// Addresses are where clients reach the gateway, IP addresses and host names, for the status
	// of Gateways. Default: those of Service.
	Addresses []string
	// Service is the Service in front of the gateway, whose addresses are the gateway's.
	Service types.NamespacedName
	// Host is the address to listen at. Default: all.
	Host string
	// Admin is the address of /healthz, /readyz and /metrics, host:port. Empty: none.
	Admin string

	// Policy says how to decide, for all pools. Default plugins.Default, without admission
	// control.
	Policy plugins.Policy
	// OwnPicker picks endpoints here also where a pool names a picker.
	OwnPicker bool
	// TrustRequestHeaders lets clients say what matters: objective, tenant, target model.
	TrustRequestHeaders bool
	// Sharing makes the replicas act as one: see gateway.Options. Nil: nothing is shared.
	Sharing *sharing.Options
	// NameEndpoint adds the header X-Inferpick-Endpoint to responses.
	NameEndpoint bool
	// DrainDelay is how long requests are still taken when the gateway ends and /readyz says
	// so. Default 0.
	DrainDelay time.Duration
	// Drain is how long requests under way may take after that. Default 30 s.
	Drain time.Duration

	// Rollouts says how adapters get onto servers for rollouts, which the annotation rollout.Annotation of a model or
	// rewrite asks for: auto, vllm, sglang, resolver or manual. Empty: there are none.
	Rollouts string
	// RolloutCommands lets everybody pause, promote and abort them who reaches Admin.
	RolloutCommands bool

	// Lease is who writes statuses and rollouts, if there are several replicas: one holds the Lease of that
	// name. Zero: this one does.
	Lease types.NamespacedName
	// Logger is told what happens. Nil: silence.
	Logger *slog.Logger
}

func (o *Options) complete() error {
	o.Controller = cmp.Or(o.Controller, DefaultController)
	o.Drain = cmp.Or(o.Drain, 30*time.Second)
	if o.Policy.Profile.Picker == nil {
		o.Policy.Profile = plugins.Default()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Config == nil {
		return errors.New("app: Options.Config is required")
	}
	return nil
}

// statusAddresses makes addresses of the Gateway API of IP addresses and host names.
func statusAddresses(list []string) []gatewayv1.GatewayStatusAddress {
	var all []gatewayv1.GatewayStatusAddress
	for _, a := range list {
		kind := gatewayv1.HostnameAddressType
		if _, err := netip.ParseAddr(a); err == nil {
			kind = gatewayv1.IPAddressType
		}
		all = append(all, gatewayv1.GatewayStatusAddress{Type: &kind, Value: a})
	}
	return all
}
