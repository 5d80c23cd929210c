//go:build unix

package datastore_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
)

// A path of what may never end is refused, and does not hold Run up; when it becomes a
// file that one is taken over.
func TestFileOfAnotherKind(t *testing.T) {
	for _, tt := range []struct {
		want string
		make func(t *testing.T, path string)
	}{
		{"named pipe", func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o600)) }},
		{"named pipe", func(t *testing.T, path string) {
			must(t, syscall.Mkfifo(path+".pipe", 0o600))
			must(t, os.Symlink(path+".pipe", path))
		}},
		{"device", func(t *testing.T, path string) { must(t, os.Symlink("/dev/zero", path)) }},
		{"directory", func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }},
		{"socket", func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			must(t, err)
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			t.Cleanup(func() { l.Close() })
		}},
	} {
		t.Run(tt.want, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "f") // a short one: a socket's path may have 100 bytes
			must(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			path := filepath.Join(dir, "f")
			tt.make(t, path)
			s := datastore.New(datastore.Options{})
			loads := make(chan error, 100)
			f := datastore.NewFileSource(s, path, datastore.FileOptions{Interval: 10 * time.Millisecond, OnLoad: func(err error) { loads <- err }})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.Run(ctx) }()
			next := func() error {
				select {
				case err := <-loads:
					return err
				case <-time.After(5 * time.Second):
					t.Fatal("Run hangs")
					return nil
				}
			}
			if err := next(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Run told %v, want %q", err, tt.want)
			}
			must(t, os.Rename(path, path+".old"))
			write(t, path+".new", `{"endpoints": [{"pool": "llama", "address": "a:1"}]}`)
			must(t, os.Rename(path+".new", path))
			for err := next(); err != nil; err = next() {
				if !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			if got := endpoints(t, s, llama); len(got) != 1 {
				t.Errorf("%d endpoints, want 1", len(got))
			}
			cancel()
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(5 * time.Second):
				t.Fatal("Run does not end")
			}
		})
	}
}
