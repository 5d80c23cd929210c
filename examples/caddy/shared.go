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
	"github.com/inferpick/inferpick/types"
)

// gateways has those of all configurations: two of them are there while Caddy reloads.
var gateways = caddy.NewUsagePool()

// shared is a gateway that outlives a reload.
type shared struct {
	*gateway.Gateway

	mu      sync.Mutex
	inForce int64 // the number of the handler whose servers these are; guarded by mu
}

func newShared(h *Handler, logger *slog.Logger) (caddy.Destructor, error) {
	o := gateway.Options{
		Profile: h.policy.Profile, Admission: h.policy.Admission, Logger: logger,
		Pool: types.NamespacedName{Name: h.Pool}, Servers: gateway.Addresses(h.Servers...), Config: h.Config,
		Director: director.Options{RestoreModel: h.RestoreModel},
	}
	if h.RefuseUnknown {
		o.Store.UnknownModels = datastore.Refuse
	}
	if o.Admission == nil && h.Admission {
		o.Admission = func() *admission.Options { return new(admission.Options) }
	}
	g, err := gateway.New(o)
	if err != nil {
		return nil, err
	}
	go g.Run(context.Background()) // until Destruct
	return &shared{Gateway: g, inForce: h.number}, nil
}

// apply puts the servers of a handler in force, if no newer one's are.
func (s *shared) apply(h *Handler) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.number <= s.inForce {
		return nil
	}
	s.inForce = h.number
	if len(h.Servers) == 0 {
		return nil // they are in Config
	}
	return s.SetServers(gateway.Addresses(h.Servers...))
}

// Destruct implements caddy.Destructor. Requests under way go on.
func (s *shared) Destruct() error {
	s.Close()
	return nil
}
