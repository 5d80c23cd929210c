package mesh_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
)

func TestReadKeyFile(t *testing.T) {
	for _, tt := range []struct {
		name, text, key string
		more            []string
		wrong           string
	}{
		{"one", "the key of all\n", "the key of all", nil, ""},
		{"without a line end", "the key of all", "the key of all", nil, ""},
		{"several", "\n  new \r\n\nold\nolder", "new", []string{"old", "older"}, ""},
		{"empty", " \n\t\n", "", nil, "is empty"},
		{"long", strings.Repeat("x", 64<<10+1), "", nil, "more than 65536 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			require.NoError(t, os.WriteFile(path, []byte(tt.text), 0o600))
			key, more, err := mesh.ReadKeyFile(path)
			if tt.wrong != "" {
				require.ErrorContains(t, err, tt.wrong)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.key, string(key))
			var got []string
			for _, k := range more {
				got = append(got, string(k))
			}
			require.Equal(t, tt.more, got)
		})
	}
	_, _, err := mesh.ReadKeyFile(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
