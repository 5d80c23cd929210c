package envoyproxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ModuleName is what a bootstrap file calls the module.
const ModuleName = "inferpick"

// ErrNoCompiler is wrapped by the errors of FindCompiler, and of BuildModule where there is none.
var ErrNoCompiler = errors.New("there is no C compiler")

// FindCompiler returns the path of the C compiler that builds modules: what CC names, or that of the Go
// installation's default.
func FindCompiler(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "CC")
	cmd.Env = withCgo()
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("envoyproxy: go env CC: %w", err)
	}
	name, _, _ := strings.Cut(strings.TrimSpace(string(out)), " ") // arguments may follow
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("envoyproxy: %w, which a module of Envoy's takes: %w", ErrNoCompiler, err)
	}
	return path, nil
}

// withCgo is the environment with cgo, which Go leaves out by itself where it finds no compiler.
func withCgo() []string { return append(os.Environ(), "CGO_ENABLED=1") }

// BuildModule builds a module for Envoy, a Go package in a folder, into another folder, where
// StartOptions.Modules finds it. It takes cgo and a C compiler; the first time it takes minutes, for all that it
// needs is compiled for a shared library.
func BuildModule(ctx context.Context, folder, into string) error {
	if _, err := FindCompiler(ctx); err != nil {
		return err
	}
	path, err := filepath.Abs(filepath.Join(into, "lib"+ModuleName+".so"))
	if err != nil {
		return fmt.Errorf("envoyproxy: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", path, ".")
	cmd.Dir, cmd.Env = folder, withCgo()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("envoyproxy: the module could not be built: %w\n%s", err, out)
	}
	return nil
}
