package datastore_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// Roles come from the spec, or else from a label, which may change; SGLang's engines do not answer alone.
func TestRoles(t *testing.T) {
	pool := types.NamespacedName{Name: "p"}
	const own = "example.com/does"
	for name, tt := range map[string]struct {
		label string // Options.RoleLabel
		spec  datastore.EndpointSpec
		want  types.Roles
	}{
		"none":                 {"", datastore.EndpointSpec{}, 0},
		"llm-d's label":        {"", datastore.EndpointSpec{Labels: map[string]string{types.RoleLabel: "prefill-decode"}}, types.RolePrefill | types.RoleDecode},
		"a label of one's own": {own, datastore.EndpointSpec{Labels: map[string]string{own: "prefill", types.RoleLabel: "decode"}}, types.RolePrefill},
		"said":                 {"", datastore.EndpointSpec{Roles: types.RoleDecode, Labels: map[string]string{types.RoleLabel: "prefill"}}, types.RoleDecode},
		"sglang":               {"", datastore.EndpointSpec{Engine: "sglang", Labels: map[string]string{types.RoleLabel: "decode"}}, types.RoleDecode | types.RoleNotAlone},
		"sglang by label":      {"", datastore.EndpointSpec{Labels: map[string]string{types.RoleLabel: "decode", datastore.EngineLabel: "sglang"}}, types.RoleDecode | types.RoleNotAlone},
		"sglang does both":     {"", datastore.EndpointSpec{Engine: "sglang", Labels: map[string]string{types.RoleLabel: "both"}}, types.RolePrefill | types.RoleDecode},
		"no role":              {"", datastore.EndpointSpec{Labels: map[string]string{types.RoleLabel: "router"}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := datastore.New(datastore.Options{RoleLabel: tt.label})
			tt.spec.Address = "10.0.0.1:80"
			require.NoError(t, s.UpsertEndpoint(pool, tt.spec))
			ep := s.Snapshot().Pool(types.NamespacedName{Namespace: "default", Name: "p"}).Endpoints()[0]
			require.Equal(t, tt.want, ep.Roles)

			tt.spec.Roles, tt.spec.Labels = 0, map[string]string{types.RoleLabel: "encode", own: "encode"}
			require.NoError(t, s.UpsertEndpoint(pool, tt.spec))
			again := s.Snapshot().Pool(types.NamespacedName{Namespace: "default", Name: "p"}).Endpoints()[0]
			require.Equal(t, types.RoleEncode, again.Roles)
			require.Equal(t, ep.Load, again.Load, "it is the same endpoint")
		})
	}
	require.ErrorContains(t, datastore.New(datastore.Options{}).UpsertEndpoint(pool, datastore.EndpointSpec{Address: "10.0.0.1:80", Roles: 1 << 7}), "roles")
}

// A role that is misspelt makes a server serve whole requests, and is told of once.
func TestMisspeltRole(t *testing.T) {
	var log bytes.Buffer
	s := datastore.New(datastore.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	specs := []datastore.EndpointSpec{
		{Address: "10.0.0.1:80", Labels: map[string]string{types.RoleLabel: "prefil"}},
		{Address: "10.0.0.2:80", Labels: map[string]string{types.RoleLabel: "prefil"}},
		{Address: "10.0.0.3:80", Labels: map[string]string{types.RoleLabel: "prefill"}},
	}
	for range 2 {
		require.NoError(t, s.SetEndpoints(types.NamespacedName{Name: "p"}, specs))
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
	for _, part := range []string{"pool=default/p", "endpoint=10.0.0.1:80", types.RoleLabel, "prefil", "want encode, prefill, decode"} {
		require.Contains(t, log.String(), part)
	}
}
