// Package inferpick is a Caddy module: a handler that sends each request for a language
// model to the model server that can serve it best. Build a Caddy with it by
//
//	xcaddy build --with github.com/inferpick/inferpick/examples/caddy
package inferpick

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/types"
)

func init() {
	caddy.RegisterModule((*Handler)(nil))
	httpcaddyfile.RegisterHandlerDirective("inferpick", func(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h := new(Handler)
		return h, h.UnmarshalCaddyfile(helper.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("inferpick", httpcaddyfile.Before, "reverse_proxy")
}

// Handler is the module http.handlers.inferpick, a gateway to the model servers of a pool.
//
// What a gateway has learned of its servers, and the requests it has under way, outlive a
// reload: handlers that differ in no more than Servers, Tenant, Metrics and NameEndpoint share
// one. Its servers are those of the newest configuration, from the first request on; one that
// Caddy rejects changes nothing.
type Handler struct {
	// Pool is the name of the pool that Servers are in. Default "default".
	Pool string `json:"pool,omitempty"`
	// Servers are addresses of model servers, host:port.
	Servers []string `json:"servers,omitempty"`
	// Config is a file with manifests, and with endpoints of which more is to be said than
	// their address, in the form of a datastore.FileSource. Changes of the file are taken
	// over without a reload. Pools in it share the policy below.
	Config string `json:"config,omitempty"`
	// Profile is FILE or FILE#NAME, as plugins.LoadProfile has it: the policy, and admission
	// control if there is any in it. Default: plugins.Default.
	Profile string `json:"profile,omitempty"`
	// Admission turns admission control on, with its defaults where Profile says nothing of it.
	Admission bool `json:"admission,omitempty"`
	// Tenant says whose a request is, for fair sharing, by Caddy's placeholders, such as
	// {http.auth.user.id}. Default: nobody's.
	Tenant string `json:"tenant,omitempty"`
	// Metrics is a path that serves Prometheus metrics to whoever reaches it. Default: none.
	Metrics string `json:"metrics,omitempty"`
	// RefuseUnknown answers 404 to models that no manifest names. By default they are sent
	// to a server as they are.
	RefuseUnknown bool `json:"refuse_unknown_models,omitempty"`
	// RestoreModel puts the public model name back into responses.
	RestoreModel bool `json:"restore_model,omitempty"`
	// NameEndpoint adds the header X-Inferpick-Endpoint to responses.
	NameEndpoint bool `json:"name_endpoint,omitempty"`

	policy  plugins.Policy
	number  int64 // of handlers in the order of their configurations
	gateway *shared
	proxy   *httputil.ReverseProxy
}

// CaddyModule implements caddy.Module.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.inferpick", New: func() caddy.Module { return new(Handler) }}
}

var handlers atomic.Int64 // that were provisioned

// Provision implements caddy.Provisioner. What can be wrong is found here.
func (h *Handler) Provision(ctx caddy.Context) (err error) {
	h.number, h.policy.Profile = handlers.Add(1), plugins.Default()
	if err := h.checkServers(); err != nil {
		return err
	}
	if h.Profile != "" {
		if h.policy, err = plugins.LoadProfile(h.Profile); err != nil {
			return err
		}
	}
	value, _, err := gateways.LoadOrNew(h.identity(), func() (caddy.Destructor, error) { return newShared(h, ctx.Slogger()) })
	if err != nil {
		return err
	}
	h.gateway = value.(*shared)
	h.proxy = h.gateway.Proxy()
	h.proxy.Transport = &httptransport.Transport{
		Director: h.gateway.Director, Base: h.gateway.Transport.Base, NameEndpoint: h.NameEndpoint, Incoming: h.identify,
	}
	return nil
}

// Cleanup implements caddy.CleanerUpper.
func (h *Handler) Cleanup() error {
	if h.gateway == nil {
		return nil // Provision failed
	}
	_, err := gateways.Delete(h.identity())
	return err
}

// ServeHTTP implements caddyhttp.MiddlewareHandler. A configuration that has a request is in
// force, which one that Caddy rejects never is.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if err := h.gateway.apply(h); err != nil {
		return err
	}
	if h.Metrics != "" && r.URL.Path == h.Metrics {
		h.gateway.metrics.Handler().ServeHTTP(w, r)
		return nil
	}
	h.proxy.ServeHTTP(w, r)
	return nil
}

// UnmarshalCaddyfile implements caddyfile.Unmarshaler:
//
//	inferpick [<address>...] {
//		pool      <name>
//		server    <address>...
//		config    <file>
//		profile   <file>[#<name>]
//		admission
//		tenant    <placeholder>
//		metrics   <path>
//		refuse_unknown_models
//		restore_model
//		name_endpoint
//	}
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive
	h.Servers = d.RemainingArgs()
	texts := map[string]*string{"pool": &h.Pool, "config": &h.Config, "profile": &h.Profile, "tenant": &h.Tenant, "metrics": &h.Metrics}
	flags := map[string]*bool{"admission": &h.Admission, "refuse_unknown_models": &h.RefuseUnknown, "restore_model": &h.RestoreModel, "name_endpoint": &h.NameEndpoint}
	for d.NextBlock(0) {
		option, args := d.Val(), d.RemainingArgs()
		text, flag := texts[option], flags[option]
		switch {
		case text != nil && len(args) == 1:
			*text = args[0]
		case flag != nil && len(args) == 0:
			*flag = true
		case option == "server" && len(args) > 0:
			h.Servers = append(h.Servers, args...)
			if err := h.checkServers(); err != nil {
				return d.WrapErr(err)
			}
		case text != nil || flag != nil || option == "server":
			return d.Errf("option %s cannot have the arguments %q", option, args)
		default:
			known := slices.Concat(slices.Sorted(maps.Keys(texts)), []string{"server"}, slices.Sorted(maps.Keys(flags)))
			return d.Errf("unknown option %q, want one of %s", option, strings.Join(known, ", "))
		}
	}
	return nil
}

// identity is what cannot change without a new gateway.
func (h *Handler) identity() string {
	return fmt.Sprintf("%q", []any{cmp.Or(h.Pool, "default"), len(h.Servers) > 0, h.Config, h.Profile, h.policy.Source, h.Admission, h.RefuseUnknown, h.RestoreModel})
}

// identify says of whom a request is.
func (h *Handler) identify(r *http.Request, in *director.Incoming) {
	in.FairnessID = r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer).ReplaceAll(h.Tenant, "")
}

// checkServers finds addresses that are none, or there twice.
func (h *Handler) checkServers() error {
	return datastore.New(datastore.Options{}).SetEndpoints(types.NamespacedName{Name: "servers"}, gateway.Addresses(h.Servers...))
}

var _, _ = caddy.Provisioner((*Handler)(nil)), caddy.CleanerUpper((*Handler)(nil))
