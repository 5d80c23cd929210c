package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/filewatch"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
)

// Defaults and limits of WatchOptions.
const (
	DefaultInterval = time.Second
	MinInterval     = 10 * time.Millisecond
)

// WatchOptions configure a Watcher. Only Apply is required.
type WatchOptions struct {
	// Interval between two looks at the files. Default DefaultInterval; a shorter
	// one than MinInterval becomes that.
	Interval time.Duration

	// More are further files or directories, read after the Watcher's own as if they were
	// in it.
	More []string

	// Registry and MaxBytes are those of Loader.
	Registry *plugins.Registry
	MaxBytes int64

	// Strict, PoolsElsewhere, RoleLabel and CheckEndpoint are those of Loader.
	Strict, PoolsElsewhere bool
	RoleLabel              string
	CheckEndpoint          func(datastore.EndpointSpec) error

	// Logger hears of new versions with their warnings, of what was left out of one
	// because it is bad, and of what is wrong with one that is not in force, once each.
	// Nil: silence.
	Logger *slog.Logger

	// Apply puts a version in force, whole or not at all: with an error it must
	// have changed nothing. A panic is an error, too. It is called by the goroutine in Load
	// or Run, never twice at a time, and must not call Load.
	Apply func(*Config) error

	// OnReload is called after each attempt to put a version in force, with nil if
	// it is now, and when files cannot be read, once. It may be nil. It is called
	// as Apply is.
	OnReload func(error)
}

// Watcher keeps something in step with configuration files: it applies each new
// version, and leaves what is in force while one is bad as a whole. Of an object that
// is bad, what was in force before stays so. Make one with NewWatcher; its methods may be
// called from any goroutine.
//
// It notices every change as package filewatch does: also that of the link in a volume made
// of a ConfigMap. A file that is written in place may be read half written if it takes long;
// put a new one in the place of the old one (mv) instead.
type Watcher struct {
	path   string
	opt    WatchOptions
	panics *guard.Teller

	// attempt is held for one and guards these.
	attempt sync.Mutex
	watch   *filewatch.Watch
	sum     [sha256.Size]byte // of the version that was tried last
	unread  string            // the error of reading that was told last; "": files could be read
	inForce *Config
	told    map[string]bool // what was said of the version in force: not said again of the next

	mu  sync.Mutex // held for a moment only
	err error      // of the last attempt
}

// NewWatcher returns a Watcher of the file or directory at path, as Loader.Load
// reads it. It does nothing until Load or Run is called. It panics without Apply:
// that is a mistake in the wiring of the program.
func NewWatcher(path string, o WatchOptions) *Watcher {
	if o.Apply == nil {
		panic("config: NewWatcher without WatchOptions.Apply")
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	o.Interval = max(o.Interval, MinInterval)
	if o.Registry == nil {
		o.Registry = plugins.NewRegistry()
	}
	o.Logger = guardlog.Logger(o.Logger)
	return &Watcher{path: path, opt: o, panics: guardlog.Teller(o.Logger, "config"), watch: watch(append([]string{path}, o.More...), o.MaxBytes)}
}

// Load reads the files and applies them now, whether or not they have changed, and
// returns what is wrong with them. What was in force stays then.
func (w *Watcher) Load() error {
	w.attempt.Lock()
	defer w.attempt.Unlock()
	w.watch.Forget()
	return w.look(w.watch.Read)
}

// Run looks at the files at once and at every interval, and applies each new
// version, until ctx is done; then it returns nil. Files that are not there or not
// good are no reason to stop: who wants to know before it starts calls Load first.
// A version that is not good, or that Apply refuses, is not tried again until the
// files change or Load is called.
func (w *Watcher) Run(ctx context.Context) error {
	filewatch.Every(ctx, w.opt.Interval, nil, func() {
		w.attempt.Lock()
		defer w.attempt.Unlock()
		w.panics.Call("Run", func() { _ = w.look(w.watch.Look) }) // told by it
	})
	return nil
}

// Err returns what is wrong with the files as they were read last, nil if that
// version is in force. It does not wait for an attempt under way.
func (w *Watcher) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// look applies the files if read returns another version than was tried last. Caller must
// hold w.attempt.
func (w *Watcher) look(read func() (*filewatch.Version, error)) error {
	version, err := read()
	if err != nil {
		err = fmt.Errorf("config: %w", err)
		again := w.unread == err.Error()
		w.unread = err.Error()
		w.set(err)
		if !again {
			w.refused(err)
		}
		return err
	}
	w.unread = ""
	if version == nil {
		return w.Err()
	}
	same := version.Sum == w.sum
	before := w.Err()
	w.sum = version.Sum

	loader := Loader{
		Registry: w.opt.Registry, MaxBytes: w.opt.MaxBytes, Strict: w.opt.Strict, PoolsElsewhere: w.opt.PoolsElsewhere,
		RoleLabel: w.opt.RoleLabel, CheckEndpoint: w.opt.CheckEndpoint,
	}
	var c *Config
	err = w.guarded("cannot be read", func() (err error) {
		c, err = loader.parse(w.path, filesOf(version), w.inForce)
		return err
	})
	if err == nil {
		err = w.guarded("cannot be applied", func() error {
			if err := w.opt.Apply(c); err != nil {
				return fmt.Errorf("config: %s: cannot be applied: %w", w.path, err)
			}
			return nil
		})
	}
	w.set(err)
	switch {
	case err == nil:
		w.accepted(c)
	case same && before != nil && before.Error() == err.Error():
		// Load of a version of which all was told.
		if w.opt.OnReload != nil {
			w.panics.Call("OnReload", func() { w.opt.OnReload(err) })
		}
	default:
		w.refused(err)
	}
	return err
}

// guarded returns what f does, of which a panic is an error: plugins are made here, and they may be the user's.
func (w *Watcher) guarded(what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("config: %s: %s: %w", w.path, what, &scheduling.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	return f()
}

func (w *Watcher) set(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// accepted tells of a version that is in force now. Caller must hold w.attempt.
func (w *Watcher) accepted(c *Config) {
	w.inForce = c
	ctx := context.Background()
	said := make(map[string]bool)
	tell := func(level slog.Level, msg, text string, attrs ...slog.Attr) {
		if key := msg + text; !said[key] && len(said) < maxErrors {
			said[key] = true
			if !w.told[key] {
				w.opt.Logger.LogAttrs(ctx, level, msg, append([]slog.Attr{slog.String("path", w.path)}, attrs...)...)
			}
		}
	}
	for _, r := range c.Rejected {
		msg := "object is left out of the configuration"
		if r.Kept {
			msg = "object is not in force, what was before in its place stays"
		}
		tell(slog.LevelError, msg, r.Err.Error(), slog.String("kind", r.Kind), slog.String("name", r.Name.String()), slog.Any("error", r.Err))
	}
	for _, text := range c.Warnings {
		tell(slog.LevelWarn, "configuration", text, slog.String("warning", text))
	}
	for _, kind := range slices.Sorted(maps.Keys(c.Skipped)) {
		tell(slog.LevelInfo, "objects of this kind are not for the picker", kind, slog.String("kind", kind), slog.Int("objects", c.Skipped[kind]))
	}
	w.told = said
	w.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "configuration is in force", slog.String("path", w.path),
		slog.Int("pools", len(c.pools)), slog.Int("manifests", len(c.Change.Objects)), slog.Int("rejected", len(c.Rejected)))
	if w.opt.OnReload != nil {
		w.panics.Call("OnReload", func() { w.opt.OnReload(nil) })
	}
}

func (w *Watcher) refused(err error) {
	attrs := []slog.Attr{slog.String("path", w.path), slog.Any("error", err)}
	if p, ok := errors.AsType[*scheduling.PanicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	w.opt.Logger.LogAttrs(context.Background(), slog.LevelError, "configuration is not in force, what was before stays", attrs...)
	if w.opt.OnReload != nil {
		w.panics.Call("OnReload", func() { w.opt.OnReload(err) })
	}
}
