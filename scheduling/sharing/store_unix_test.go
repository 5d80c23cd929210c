//go:build unix

package sharing

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// What lies at the path, or beside it, is neither waited for nor written through.
func TestFileHostile(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	_, err := File(fifo).Load(ctx, "")
	require.ErrorContains(t, err, "regular file")
	_, err = File(dir).Load(ctx, "")
	require.ErrorContains(t, err, "regular file")

	large := filepath.Join(dir, "large")
	require.NoError(t, os.Truncate(touch(t, large), LimitMaxSnapshot+1))
	_, err = File(large).Load(ctx, "")
	require.ErrorContains(t, err, "LimitMaxSnapshot")

	other, path := touch(t, filepath.Join(dir, "other")), filepath.Join(dir, "snapshot")
	require.NoError(t, os.Symlink(other, path+".new"))
	require.NoError(t, File(path).Save(ctx, "", []byte("data")))
	got, err := os.ReadFile(other)
	require.NoError(t, err)
	require.Empty(t, got)
}

func touch(t *testing.T, path string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	return path
}
