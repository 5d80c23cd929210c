package sharing

import (
	"context"
	"errors"
	"io/fs"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/atomicfile"
	"github.com/inferpick/inferpick/internal/filewatch"
)

// Store keeps snapshots by name. File is one; package redis has another. Its methods may be called from any goroutine.
type Store interface {
	// Save keeps a snapshot in place of the one before. Who loads meanwhile gets the one or the other. It does
	// not keep the slice.
	Save(ctx context.Context, name string, snapshot []byte) error
	// Load returns the snapshot that was saved last. If there is none the error is an fs.ErrNotExist.
	Load(ctx context.Context, name string) ([]byte, error)
}

// File returns a Store of one snapshot, whatever its name, in a file that only its owner may read. Its directory must
// be there. Beside it, while it is written, there is one of the same name with ".new" after it.
func File(path string) Store { return &file{path: path} }

type file struct {
	path string
	mu   sync.Mutex // held by Save
}

// Save implements Store. The file is the one before, or the new one as a whole, whatever happens.
func (f *file) Save(ctx context.Context, _ string, snapshot []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return atomicfile.Write(f.path, snapshot)
}

// Load implements Store.
func (f *file) Load(context.Context, string) ([]byte, error) {
	v, err := filewatch.New(filewatch.Options{Paths: []string{f.path}, MaxBytes: LimitMaxSnapshot, Bound: "sharing.LimitMaxSnapshot"}).Read()
	if err != nil {
		return nil, err
	}
	return v.Files[0].Data, nil
}

// mostLoad and mostSave are how long it may take to load a snapshot, and to save the last one.
const (
	mostLoad = 5 * time.Second
	mostSave = 2 * time.Second
)

// Warm takes over the snapshot of Options.Store, if there is one that fits: what the gateway before this one knew. It
// is to be called before Run, and before requests come. What is wrong is told to Options.Logger, too, and is no reason
// not to go on: a gateway without a snapshot learns. The error is an fs.ErrNotExist if there is none.
func (g *Group) Warm(ctx context.Context) (Restored, error) {
	if g.o.Store == nil {
		return Restored{}, fs.ErrNotExist
	}
	ctx, stop := context.WithTimeout(ctx, mostLoad)
	defer stop()
	var snapshot []byte
	err := g.panics.Try("Store.Load", func() (err error) {
		snapshot, err = g.o.Store.Load(ctx, g.o.SnapshotName)
		return err
	})
	var done Restored
	if err == nil {
		done, err = g.Restore(snapshot, time.Now())
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		g.o.Logger.Info("sharing: there is no snapshot", "name", g.o.SnapshotName)
	case err != nil:
		g.o.Logger.Warn("sharing: the snapshot was not restored", "name", g.o.SnapshotName, "error", err)
	default:
		g.tellRestored(&done, "a snapshot of before")
	}
	return done, err
}

// tellRestored tells the Logger what became of a snapshot.
func (g *Group) tellRestored(done *Restored, what string) {
	for _, p := range done.Parts {
		if p.Err != nil {
			g.o.Logger.Warn("sharing: a part was not restored", "scope", p.Scope, "part", p.Name, "bytes", p.Bytes, "error", p.Err)
		}
	}
	g.o.Logger.Info("sharing: restored "+what, "parts", done.Taken(), "of", len(done.Parts), "age", done.Age.Round(time.Millisecond))
}

// keep saves snapshots until ctx is done, and then the last one.
func (g *Group) keep(ctx context.Context) {
	var snapshot []byte
	for {
		wait := time.Duration(float64(g.o.SaveEvery) * (.9 + .2*mathrand.Float64())) // so that gateways do not all write at once
		select {
		case <-ctx.Done():
			last, stop := context.WithTimeout(context.WithoutCancel(ctx), mostSave)
			defer stop()
			g.save(last, snapshot)
			return
		case <-time.After(wait):
		}
		some, stop := context.WithTimeout(ctx, g.o.SaveEvery)
		snapshot = g.save(some, snapshot)
		stop()
	}
}

// save saves a snapshot, for which it uses the memory of the one before.
func (g *Group) save(ctx context.Context, room []byte) []byte {
	snapshot := g.AppendSnapshot(room[:0], time.Now())
	if len(snapshot) == 0 {
		return snapshot
	}
	err := g.panics.Try("Store.Save", func() error { return g.o.Store.Save(ctx, g.o.SnapshotName, snapshot) })
	if err != nil && ctx.Err() != context.Canceled {
		g.log("a snapshot could not be saved", "", "error", err)
	}
	return snapshot
}
