package main

import (
	"os"
	"path/filepath"
	"testing"
)

// TestGenerated: the Go files beside the .proto file are those that are made of it.
func TestGenerated(t *testing.T) {
	source, dir := filepath.Join("..", "externalscaler"), t.TempDir()
	proto, err := os.ReadFile(filepath.Join(source, "externalscaler.proto"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "externalscaler.proto"), proto, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := generate(dir, "externalscaler.proto"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"externalscaler.pb.go", "externalscaler_grpc.pb.go"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(source, name)); err != nil || string(got) != string(want) {
			t.Errorf("%s is another than is made of the .proto file: run generate.sh (%v)", name, err)
		}
	}
}
