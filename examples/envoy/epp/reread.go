package epp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/inferpick/inferpick/internal/filewatch"
)

// reread is what files say, read anew when they have changed: that a certificate or a token
// is renewed must not need a restart. It is looked at whenever it is needed.
type reread[T any] struct {
	what   string // in errors
	parse  func(files []filewatch.File) (T, error)
	logger *slog.Logger

	mu    sync.Mutex
	watch *filewatch.Watch
	has   bool // last is what an earlier version said, or this one
	last  T
	err   error  // of this version
	told  string // the error that was told last
}

// newReread reads the files, which must be good.
func newReread[T any](what string, maxBytes int64, logger *slog.Logger, parse func([]filewatch.File) (T, error), paths ...string) (*reread[T], error) {
	r := &reread[T]{
		what: what, parse: parse, logger: logger,
		watch: filewatch.New(filewatch.Options{Paths: paths, MaxBytes: maxBytes, Bound: "at most"}),
	}
	_, err := r.get()
	return r, err
}

// get returns what the files say, and an error if that is bad.
func (r *reread[T]) get() (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	version, err := r.watch.Look()
	switch {
	case err != nil:
		r.err = fmt.Errorf("epp: %s: %w", r.what, err)
	case version != nil:
		v, err := r.parse(version.Files)
		if r.err = nil; err != nil {
			r.err = fmt.Errorf("epp: %s: %w", r.what, err)
			break
		}
		r.last, r.has, r.told = v, true, ""
	}
	return r.last, r.err
}

// latest returns what the files said when they were good last. It tells once of each reason
// why they are not: half written, perhaps; if not, it is known before what is in use expires.
func (r *reread[T]) latest() (T, error) {
	v, err := r.get()
	if err == nil || !r.has {
		return v, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told != err.Error() {
		r.told = err.Error()
		r.logger.LogAttrs(context.Background(), slog.LevelWarn, r.what+" cannot be read again, what was before is in use", slog.Any("error", err))
	}
	return v, nil
}
