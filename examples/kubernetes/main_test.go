package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

const kubeconfig = `
apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: a, context: {cluster: a}}]
`

// TestCommand: what is wrong is said, with the way to find out more.
func TestCommand(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, []byte(kubeconfig), 0o600))
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-h"}, exitOK, "-kubeconfig"},
		{[]string{"--nothing"}, exitUsage, "unknown flag: --nothing"},
		{[]string{"extra"}, exitUsage, `unexpected argument "extra"`},
		{[]string{"-gateway", "a/b/c"}, exitUsage, `-gateway: "a/b/c" is not namespace/name`},
		{[]string{"-log-format=xml"}, exitUsage, `-log-format: "xml" is neither text nor json`},
		{[]string{"-profile", "/nowhere"}, exitUsage, "/nowhere"},
		{[]string{"-kubeconfig", "/nowhere"}, exitUsage, "/nowhere"},
		{[]string{"-kubeconfig", file, "-peers=a:1"}, exitUsage, "-peers: want -peers-key-file"},
		{[]string{"-kubeconfig", file, "-peers=a:1", "-peers-key-file=/nowhere"}, exitUsage, "/nowhere"},
		{[]string{"-kubeconfig", file, "-peers=a", "-peers-key-file", file}, exitUsage, "want host:port"},
		{[]string{"-kubeconfig", file, "-rollouts=tgi"}, exitError, `"tgi" is no loader: want auto, vllm`},
		{[]string{"-kubeconfig", file, "-admin", "127.0.0.1:99999"}, exitError, "invalid port"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, tt.code, command(t.Context(), tt.args, &stdout, &stderr), "%v", tt.args)
		require.Contains(t, stdout.String()+stderr.String(), tt.want, "%v", tt.args)
	}
}

// TestOptions: flags become options.
func TestOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, []byte(kubeconfig), 0o600))
	f, err := parseFlags([]string{"-kubeconfig", file, "--gateway=infra/a", "-gateway=b", "-service", "infra/gateway", "-lease=infra/lease", "-drain=5s", "-admission"}, nil)
	require.NoError(t, err)
	o, err := f.options(new(bytes.Buffer))
	require.NoError(t, err)
	require.Equal(t, []types.NamespacedName{{Namespace: "infra", Name: "a"}, {Namespace: "default", Name: "b"}}, o.Only)
	require.Equal(t, types.NamespacedName{Namespace: "infra", Name: "gateway"}, o.Service)
	require.Equal(t, types.NamespacedName{Namespace: "infra", Name: "lease"}, o.Lease)
	require.Equal(t, 5*time.Second, o.Drain)
	require.Equal(t, "http://127.0.0.1:1", o.Config.Host)
	require.NotNil(t, o.Policy.Admission())
	require.Nil(t, o.Sharing)

	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, []byte("the secret of all replicas"), 0o600))
	f, err = parseFlags([]string{"-kubeconfig", file, "-peers=127.0.0.1:1", "-peers-addr=127.0.0.1:0", "-peers-key-file", key}, nil)
	require.NoError(t, err)
	o, err = f.options(new(bytes.Buffer))
	require.NoError(t, err)
	require.NoError(t, o.Sharing.Transport.Close())
}

// TestEndsWithoutCluster: a cluster that does not answer does not keep the program from ending.
func TestEndsWithoutCluster(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, []byte(kubeconfig), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	require.Equal(t, exitOK, command(ctx, []string{"-kubeconfig", file, "-admin=", "-lease=a/b"}, &out, &out), out.String())
}
