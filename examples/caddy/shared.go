package inferpick

import (
	"context"
	"log/slog"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// gateways has those of all configurations: two of them are there while Caddy reloads.
var gateways = caddy.NewUsagePool()

// shared is a gateway that outlives a reload.
type shared struct {
	*gateway.Gateway
	metrics *telemetry.Metrics

	mu      sync.Mutex
	inForce int64 // the number of the handler whose servers these are; guarded by mu
}

func newShared(h *Handler, logger *slog.Logger) (_ caddy.Destructor, err error) {
	s := &shared{inForce: h.number}
	o := gateway.Options{
		Profile: h.policy.Profile, Admission: h.policy.Admission, Logger: logger,
		Pool: types.NamespacedName{Name: h.Pool}, Servers: gateway.Addresses(h.Servers...), Config: h.Config,
		Director: director.Options{RestoreModel: h.RestoreModel},
		Metrics: func(g *gateway.Gateway) (_ gateway.Metrics, err error) {
			s.metrics, err = telemetry.New(telemetry.Options{Pools: g.Pools, Admissions: g.Admissions})
			return s.metrics, err
		},
	}
	if h.RefuseUnknown {
		o.Store.UnknownModels = datastore.Refuse
	}
	if o.Admission == nil && h.Admission {
		o.Admission = func() *admission.Options { return new(admission.Options) }
	}
	if s.Gateway, err = gateway.New(o); err != nil {
		return nil, err
	}
	go s.Run(context.Background()) // until Destruct
	return s, nil
}

// apply puts the servers of a handler in force, if no newer one's are.
func (s *shared) apply(h *Handler) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.number <= s.inForce || len(h.Servers) == 0 { // all are in Config, then: see identity
		return nil
	}
	s.inForce = h.number
	return s.SetServers(gateway.Addresses(h.Servers...))
}

// Destruct implements caddy.Destructor. Requests under way go on.
func (s *shared) Destruct() error {
	s.Close()
	return nil
}
