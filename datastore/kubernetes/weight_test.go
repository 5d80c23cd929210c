package kubernetes_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The package links a small part of client-go: not the typed clients, nor what pulls them in.
func TestWeight(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	t.Logf("%d packages", len(deps))
	require.LessOrEqual(t, len(deps), 340)
	for _, dep := range deps {
		for _, heavy := range []string{"k8s.io/client-go/kubernetes", "k8s.io/client-go/informers", "k8s.io/api/", "sigs.k8s.io/controller-runtime"} {
			require.False(t, strings.HasPrefix(dep, heavy), dep)
		}
	}
}
