package house_test

import (
	"bytes"
	"flag"
	"fmt"
	"github.com/stretchr/testify/require"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

const module = "github.com/inferpick/inferpick"

// run runs the go command at the root of the module, alone without a workspace.
func run(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(append(os.Environ(), "GOWORK=off"), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// Each package's line says which packages of ours and which modules of others it links,
// directly or not, and which of the heavy parts of the standard library.
func TestDependencies(t *testing.T) {
	heavy := []string{"net", "net/http", "encoding/json", "log/slog"}
	from, deps := map[string]string{}, map[string][]string{} // modules, and what is linked
	for line := range strings.Lines(run(t, nil, "list", "-deps", "-f", `{{.ImportPath}}|{{with .Module}}{{.Path}}{{end}}|{{join .Deps " "}}`, "./...")) {
		f := strings.Split(strings.TrimSpace(line), "|")
		from[f[0]], deps[f[0]] = f[1], strings.Fields(f[2])
	}
	var got strings.Builder
	for _, pkg := range strings.Fields(run(t, nil, "list", "./...")) {
		if pkg == module+"/internal/house" {
			continue
		}
		var ours, others []string
		for _, dep := range deps[pkg] {
			switch {
			case from[dep] == module:
				ours = append(ours, strings.TrimPrefix(dep, module+"/"))
			case from[dep] != "":
				others = append(others, from[dep])
			case slices.Contains(heavy, dep):
				others = append(others, "("+dep+")")
			}
		}
		slices.Sort(ours)
		slices.Sort(others)
		others = slices.Compact(others)
		fmt.Fprintf(&got, "%s: %s\n", strings.TrimPrefix(pkg, module+"/"), strings.Join(append(ours, others...), " "))
	}
	golden := filepath.Join("testdata", "dependencies.txt")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	if got.String() != string(want) {
		t.Errorf("dependencies changed; if that is meant, run: go test ./internal/house -update\ngot:\n%s\nwant:\n%s", got.String(), want)
	}
}

// What the golden file may never say, whoever updates it.
func TestLaws(t *testing.T) {
	for _, pkg := range []string{"types", "scheduling", "plugins", "openai"} {
		deps := strings.Fields(run(t, nil, "list", "-deps", "./"+pkg))
		for _, dep := range deps {
			first, _, _ := strings.Cut(dep, "/")
			if dep == "net/http" || dep == "net" || strings.Contains(first, ".") && !strings.HasPrefix(dep, module) {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
		if pkg != "plugins" && slices.Contains(deps, module+"/plugins") {
			t.Errorf("%s imports plugins", pkg)
		}
	}
	for line := range strings.Lines(run(t, nil, "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "./scheduling/...", "./datastore/...", "./openai/...", "./types/...")) {
		if pkg := strings.Fields(line); slices.Contains(pkg[1:], module+"/plugins") {
			t.Errorf("%s imports plugins: who wires a program hands them in", pkg[0])
		}
	}
}

// Gateways embed Wasm.
func TestBuildsForWasm(t *testing.T) {
	run(t, []string{"GOOS=wasip1", "GOARCH=wasm"}, "build", "./types", "./scheduling", "./plugins", "./openai")
}

// The root module requires what CONTRIBUTING.md lists and nothing else.
func TestRootRequirements(t *testing.T) {
	allowed := []string{
		"github.com/prometheus/common", "github.com/prometheus/client_model", "golang.org/x/sync",
		"github.com/stretchr/testify", "github.com/google/go-cmp",
	}
	for line := range strings.Lines(run(t, nil, "list", "-m", "-f", "{{if not (or .Indirect .Main)}}{{.Path}}{{end}}", "all")) {
		if path := strings.TrimSpace(line); path != "" && !slices.Contains(allowed, path) {
			t.Errorf("the root module requires %s", path)
		}
	}
}

// A program with a Scheduler and two scorers is hardly larger than one without,
// and holds no other module.
func TestBinarySize(t *testing.T) {
	dir := t.TempDir()
	size := func(program string) int64 {
		binary := filepath.Join(dir, program)
		run(t, nil, "build", "-ldflags=-s -w", "-o", binary, "./internal/house/testdata/"+program)
		info, err := os.Stat(binary)
		require.NoError(t, err)
		for line := range strings.Lines(run(t, nil, "version", "-m", binary)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "dep" {
				t.Errorf("%s links module %s", program, f[1])
			}
		}
		return info.Size()
	}
	hello, embed := size("hello"), size("embed")
	t.Logf("stripped: hello world %d bytes, with a Scheduler %d bytes more", hello, embed-hello)
	if more := embed - hello; more > 1_500_000 {
		t.Errorf("a Scheduler adds %d bytes to a stripped binary, want at most 1,500,000", more)
	}
}
