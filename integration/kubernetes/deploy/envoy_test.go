package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestEnvoyOfTheExample: the Envoy of the standalone mode is that of the example for an Envoy
// that knows no endpoint, which all tests of the picker go through; but for where it listens,
// what it asks the picker's health, and a port for the kubelet.
func TestEnvoyOfTheExample(t *testing.T) {
	bootstrap := func(path ...string) object {
		var o object
		require.NoError(t, yaml.UnmarshalStrict([]byte(read(t, filepath.Join(path...))), &o))
		return o
	}
	example := bootstrap(root, "examples", "envoy", "envoy-original-dst.yaml")
	ours := bootstrap(deployed("chart", "files", "envoy.yaml"))

	statics := func(o object, kind string) []any { return o.at("static_resources", kind).([]any) }
	listener := object(statics(example, "listeners")[0].(map[string]any))
	listener.at("address", "socket_address").(map[string]any)["address"] = "0.0.0.0"
	picker := object(statics(example, "clusters")[0].(map[string]any))
	check := picker["health_checks"].([]any)[0].(map[string]any)
	check["grpc_health_check"] = map[string]any{"service_name": "liveness"}
	check["no_traffic_interval"] = "1s"
	more := ours.at("static_resources").(map[string]any)
	require.Equal(t, "ready", object(statics(ours, "listeners")[1].(map[string]any))["name"])
	require.Equal(t, "admin", object(statics(ours, "clusters")[0].(map[string]any))["name"])
	more["listeners"], more["clusters"] = statics(ours, "listeners")[:1], statics(ours, "clusters")[1:]
	if diff := cmp.Diff(example, ours); diff != "" {
		t.Errorf("(-example +standalone)\n%s", diff)
	}
}

// TestEnvoyVersion: the image is of the version that the tests of the picker use.
func TestEnvoyVersion(t *testing.T) {
	version := regexp.MustCompile(`(?m)^version=(\S+)$`).FindStringSubmatch(read(t, filepath.Join(root, "examples", "envoy", "install-envoy.sh")))
	require.Len(t, version, 2)
	deployment := find(t, render(t, needed, `{proxy: {enabled: true}}`), "Deployment")
	sidecar := deployment.at("spec", "template", "spec", "initContainers").([]any)[0].(map[string]any)
	require.Equal(t, "envoyproxy/envoy:distroless-v"+version[1], sidecar["image"])
}

// TestEnvoyTakesIt: Envoy would start with the bootstrap.
func TestEnvoyTakesIt(t *testing.T) {
	out, err := exec.Command(envoy(t), "--mode", "validate", "-c", deployed("chart", "files", "envoy.yaml")).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// envoy returns the path of the program, where there is one: as examples/envoy finds it.
func envoy(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("ENVOY_BIN"), "envoy", filepath.Join(root, "examples", "envoy", ".venv", "bin", "envoy")} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("there is no envoy: examples/envoy/install-envoy.sh installs it")
	return ""
}
