package config_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/config"
	"github.com/inferpick/inferpick/plugins"
)

// put makes a file as an editor or mv does: in the place of the old one.
func put(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path+".new", []byte(text), 0o600))
	must(t, os.Rename(path+".new", path))
}

// recorder is what a Watcher does.
type recorder struct {
	log     bytes.Buffer
	applied []*config.Config
	reloads []error
	refuse  error
}

func (r *recorder) options() config.WatchOptions {
	return config.WatchOptions{
		Logger: slog.New(slog.NewTextHandler(&r.log, nil)),
		Apply: func(c *config.Config) error {
			if r.refuse != nil {
				return r.refuse
			}
			r.applied = append(r.applied, c)
			return nil
		},
		OnReload: func(err error) { r.reloads = append(r.reloads, err) },
	}
}

func (r *recorder) pools() int {
	if len(r.applied) == 0 {
		return 0
	}
	return len(r.applied[len(r.applied)-1].Pools())
}

func TestWatcherLoad(t *testing.T) {
	dir := t.TempDir()
	var r recorder
	w := config.NewWatcher(dir, r.options())
	if err := w.Load(); err == nil || w.Err() == nil {
		t.Error("Load of an empty directory: no error")
	}
	put(t, filepath.Join(dir, "a.yaml"), poolYAML+pickerHead+"plugins: [{type: prefix-cache-scorer, parameters: {autoTune: true}}]\n")
	for range 2 { // the second time, too, as nobody says that it need not be
		must(t, w.Load())
	}
	if len(r.applied) != 2 || w.Err() != nil || !strings.Contains(r.log.String(), "autoTune has no effect here") {
		t.Errorf("applied %d times, Err %v, log\n%s", len(r.applied), w.Err(), r.log.String())
	}
	must(t, os.Remove(filepath.Join(dir, "a.yaml")))
	put(t, filepath.Join(dir, "b.yaml"), "kind: Pod\n")
	for range 3 {
		if err := w.Load(); err == nil || err != w.Err() || !strings.Contains(err.Error(), "b.yaml:1") {
			t.Errorf("Load of a bad version = %v, Err %v", err, w.Err())
		}
	}
	if n := strings.Count(r.log.String(), "level=ERROR"); n != 2 || len(r.applied) != 2 {
		t.Errorf("%d errors in the log, applied %d times; want 2 and 2\n%s", n, len(r.applied), r.log.String())
	}
	if len(r.reloads) != 6 {
		t.Errorf("OnReload %d times, want 6", len(r.reloads))
	}
}

func TestWatcherRun(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	second := filepath.Join(dir, "b.yaml")
	lab := strings.Replace(poolYAML, "llama}", "lab}", 1)
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		w := config.NewWatcher(dir, r.options())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Run(ctx) }()
		expect := func(what string, applied, pools, reloads int, bad string) {
			t.Helper()
			time.Sleep(3500 * time.Millisecond)
			synctest.Wait()
			if len(r.applied) != applied || r.pools() != pools || len(r.reloads) != reloads {
				t.Errorf("%s: applied %d times, %d pools, %d reloads; want %d, %d, %d", what, len(r.applied), r.pools(), len(r.reloads), applied, pools, reloads)
			}
			if err := w.Err(); (err == nil) != (bad == "") || err != nil && !strings.Contains(err.Error(), bad) {
				t.Errorf("%s: Err = %v, want %q", what, err, bad)
			}
		}
		expect("nothing there", 0, 0, 1, "has no file")
		put(t, path, poolYAML)
		expect("one pool", 1, 1, 2, "")
		put(t, second, lab)
		expect("a second file", 2, 2, 3, "")
		put(t, second, "kind: [\n")
		expect("a document that is bad", 3, 2, 4, "")
		put(t, second, lab)
		expect("good again", 4, 2, 5, "")
		must(t, os.Remove(second))
		expect("a file has gone", 5, 1, 6, "")
		must(t, os.Rename(path, path+".away"))
		expect("all have gone", 5, 1, 7, "has no file")
		must(t, os.Rename(path+".away", path))
		expect("back", 6, 1, 8, "")

		r.refuse = errors.New("the store is full")
		put(t, path, lab)
		expect("refused", 6, 1, 9, "cannot be applied: the store is full")
		r.refuse = nil
		expect("not tried again", 6, 1, 9, "the store is full")
		put(t, path, lab+"# again\n")
		expect("changed", 7, 1, 10, "")

		put(t, path, "# no pool\n")
		expect("bad as a whole", 7, 1, 11, "there is no InferencePool")
		if n := strings.Count(r.log.String(), "there is no InferencePool"); n != 1 {
			t.Errorf("a bad version is logged %d times", n)
		}
		cancel()
		must(t, <-done)
	}) // which fails if a goroutine is left
}

// A volume made of a ConfigMap: files are links through ..data, which is swapped.
func TestWatcherConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, pool string) {
		t.Helper()
		must(t, os.Mkdir(filepath.Join(dir, "..v"+name), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "..v"+name, "pools.yaml"), []byte(strings.Replace(poolYAML, "llama", pool, 1)), 0o600))
		must(t, os.Symlink("..v"+name, filepath.Join(dir, "..tmp")))
		must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	version("1", "one")
	must(t, os.Symlink("..data/pools.yaml", filepath.Join(dir, "pools.yaml")))
	must(t, os.Mkdir(filepath.Join(dir, "more.yaml"), 0o700)) // a directory, not read

	for _, path := range []string{dir, filepath.Join(dir, "pools.yaml")} {
		var r recorder
		w := config.NewWatcher(path, r.options())
		must(t, w.Load())
		before := r.applied[0].Pools()[0].Name
		version(before+"-2", before+"-next")
		must(t, w.Load())
		if got := r.applied[1].Pools()[0].Name; got != before+"-next" {
			t.Errorf("%s: pool %s, want %s", path, got, before+"-next")
		}
	}
}

// Without the fake clock: the smallest interval, and an end while it waits.
func TestWatcherInterval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	applied := make(chan struct{}, 8)
	w := config.NewWatcher(path, config.WatchOptions{
		Interval: time.Nanosecond,
		Apply:    func(*config.Config) error { applied <- struct{}{}; return nil },
	})
	if err := w.Load(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	put(t, path, poolYAML)
	<-applied
	cancel()
	must(t, <-done)
}

func TestNewWatcherPanics(t *testing.T) {
	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "Apply") {
			t.Errorf("recovered %q", s)
		}
	}()
	config.NewWatcher("x", config.WatchOptions{})
}

// TestPanicsOfUserCode: a plugin that cannot even be made, and an Apply that panics, are errors with a stack, after
// which a good version is read as ever.
func TestPanicsOfUserCode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	var r recorder
	o := r.options()
	o.Registry = plugins.NewRegistry()
	o.Registry.Register("bad-scorer", func(json.RawMessage) (any, error) { panic("oops") })
	apply := o.Apply
	o.Apply = func(c *config.Config) error {
		if len(c.Pools()) == 2 {
			panic("two")
		}
		return apply(c)
	}
	put(t, path, poolYAML)
	w := config.NewWatcher(path, o)
	must(t, w.Load())
	for _, bad := range []struct{ text, want string }{
		{poolYAML + pickerHead + "plugins: [{type: bad-scorer}]\n", "cannot be read: panic: oops"},
		{poolYAML + "---\n" + strings.ReplaceAll(poolYAML, "llama", "qwen"), "cannot be applied: panic: two"},
	} {
		put(t, path, bad.text)
		require.ErrorContains(t, w.Load(), bad.want, bad.text)
		require.ErrorContains(t, w.Err(), bad.want)
		require.Contains(t, r.log.String(), "watcher_test.go", "the stack is told")
		r.log.Reset()
		put(t, path, poolYAML+"# good\n")
		must(t, w.Load())
		must(t, w.Err())
	}
	require.Len(t, r.applied, 3)
}
