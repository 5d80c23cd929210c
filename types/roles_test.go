package types_test

import (
	"testing"

	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func TestParseRoles(t *testing.T) {
	for s, want := range map[string]types.Roles{
		"": 0, "encode": types.RoleEncode, "prefill": types.RolePrefill, "decode": types.RoleDecode,
		"both": types.RolePrefill | types.RoleDecode, "prefill-decode": types.RolePrefill | types.RoleDecode,
		"encode-prefill": types.RoleEncode | types.RolePrefill, "encode-decode": types.RoleEncode | types.RoleDecode,
		"decode-only":           types.RoleDecode | types.RoleNotAlone,
		"encode-prefill-decode": types.RoleEncode | types.RolePrefill | types.RoleDecode,
	} {
		got, err := types.ParseRoles(s)
		require.NoError(t, err)
		require.Equal(t, want, got, s)
		if s != "both" {
			require.Equal(t, s, got.String())
		}
	}
	for _, s := range []string{"Prefill", "prefill-", "-", "router", "prefill,decode", " decode", "only", "prefill-only"} {
		_, err := types.ParseRoles(s)
		require.ErrorContains(t, err, "want encode, prefill, decode", s)
	}
}

func TestRoles(t *testing.T) {
	require.True(t, types.Roles(0).Answers(), "nothing is said")
	require.True(t, (types.RolePrefill | types.RoleDecode).Answers())
	require.False(t, types.RolePrefill.Answers())
	require.False(t, types.RoleEncode.Answers())
	require.True(t, (types.RolePrefill | types.RoleDecode).Has(types.RolePrefill))
	require.False(t, types.Roles(0).Has(types.RolePrefill))
}
