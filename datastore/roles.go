package datastore

import (
	"cmp"
	"context"
	"log/slog"
	"sync"

	"github.com/inferpick/inferpick/types"
)

// prepare is prepareSpecs, and tells of labels that were to name roles, and do not.
func (s *Store) prepare(pool types.NamespacedName, specs []EndpointSpec) ([]EndpointSpec, error) {
	prepared, err := prepareSpecs(pool, specs)
	for i := range prepared {
		spec := &prepared[i]
		label := s.roleLabel()
		if spec.Roles != 0 || spec.Labels[label] == "" {
			continue
		}
		if _, bad := types.ParseRoles(spec.Labels[label]); bad != nil && s.misread.add(spec.Labels[label]) {
			s.opt.Logger.LogAttrs(context.Background(), slog.LevelWarn, "an endpoint serves whole requests, because its label names no role",
				slog.String("pool", withNamespace(pool).String()), slog.String("endpoint", spec.ID), slog.String("label", label), slog.Any("error", bad))
		}
	}
	return prepared, err
}

func (s *Store) roleLabel() string { return cmp.Or(s.opt.RoleLabel, types.RoleLabel) }

// rolesOf returns the roles that a spec says, or else its labels do.
func (s *Store) rolesOf(spec *EndpointSpec) types.Roles {
	if spec.Roles != 0 {
		return spec.Roles
	}
	roles, _ := types.ParseRoles(spec.Labels[s.roleLabel()])
	engine := cmp.Or(spec.Engine, spec.Labels[EngineLabel], spec.Labels["llm-d.ai/engine-type"])
	if engine == "sglang" && roles == types.RoleDecode {
		roles |= types.RoleNotAlone // in decode mode it refuses prompts that nobody has computed
	}
	return roles
}

// misread are the values of labels that name no role, each of which is told of once.
type misread struct {
	mu    sync.Mutex
	known map[string]bool
}

// mostMisread bounds them; of more nobody is told.
const mostMisread = 64

// add reports whether a value is new.
func (m *misread) add(value string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[value] || len(m.known) >= mostMisread {
		return false
	}
	if m.known == nil {
		m.known = map[string]bool{}
	}
	m.known[value] = true
	return true
}
