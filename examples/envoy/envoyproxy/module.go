package envoyproxy

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ModuleName is what a bootstrap file calls the module.
const ModuleName = "inferpick"

// BuildModule builds a module for Envoy, a Go package in a folder, into another folder, where
// StartOptions.Modules finds it. It takes cgo and a C compiler; the first time it takes minutes, for all that it
// needs is compiled for a shared library.
func BuildModule(ctx context.Context, folder, into string) error {
	path, err := filepath.Abs(filepath.Join(into, "lib"+ModuleName+".so"))
	if err != nil {
		return fmt.Errorf("envoyproxy: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-ldflags=-s -w", "-o", path, ".")
	cmd.Dir, cmd.Env = folder, append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("envoyproxy: the module could not be built: %w\n%s", err, out)
	}
	return nil
}
