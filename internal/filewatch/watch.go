package filewatch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// DefaultMaxBytes is the most that is read of all files together.
const DefaultMaxBytes = 16 << 20

// Options of a Watch.
type Options struct {
	// Paths of the files, which are read as one. A file that is named twice, or is in a
	// directory that is named, is read once.
	Paths []string
	// Extensions are those of the files that are read of a directory, with their points;
	// hidden files are not. Default: a path must not be that of a directory.
	Extensions []string
	// MaxBytes is the most that is read of all files together, and Bound what that is called
	// in errors. Default DefaultMaxBytes.
	MaxBytes int64
	Bound    string
	// Quiet is how long a file must not have been modified for Look to read it: one that is
	// being written is left for the next look, and read then in any case. Default 0: files
	// are read at once.
	Quiet time.Duration
}

// Version is what the files held at one moment.
type Version struct {
	Files []File // in the order of the paths; of a directory in that of their names
	Sum   [sha256.Size]byte
}

// File is a file of a Version.
type File struct {
	Name string
	Data []byte
	Err  error // why it could not be read; only of a file in a directory
}

// Watch tells versions of files apart. Make one with New. It must not be used by several
// goroutines at once.
type Watch struct {
	o Options

	seen    []stamp // of the version that was read last; nil: none
	settled bool    // another version has other stamps for certain
	sum     [sha256.Size]byte
	waited  bool // for the files to be quiet
}

// New returns a Watch that has seen no version yet.
func New(o Options) *Watch {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	return &Watch{o: o}
}

// Look returns the files if they are another version than the one that was returned last,
// and nil if not. With an error, of a file that is named and cannot be read, the version
// from before is forgotten: the next one is returned, be it the same. An error is an
// *fs.PathError.
func (w *Watch) Look() (*Version, error) {
	now, err := w.o.list()
	if err != nil {
		w.Forget()
		return nil, err
	}
	if w.settled && slices.EqualFunc(now, w.seen, stamp.equal) {
		return nil, nil
	}
	if w.seen != nil && !w.waited && slices.ContainsFunc(now, func(s stamp) bool { return s.within(w.o.Quiet) }) {
		w.waited = true
		return nil, nil
	}
	return w.Read()
}

// Read is Look that reads the files even if nothing says that they have changed.
func (w *Watch) Read() (*Version, error) {
	v, seen, err := w.o.read()
	if err != nil {
		w.Forget()
		return nil, err
	}
	same := w.seen != nil && v.Sum == w.sum
	w.seen, w.sum, w.waited = seen, v.Sum, false
	// A file system may give two versions the same time, and what could not be read may be
	// readable without another time.
	w.settled = !slices.ContainsFunc(seen, func(s stamp) bool { return s.after(-resolution) }) &&
		!slices.ContainsFunc(v.Files, func(f File) bool { return f.Err != nil })
	if same {
		return nil, nil
	}
	return v, nil
}

// Forget makes the next version be returned, be it the same.
func (w *Watch) Forget() { w.seen, w.settled, w.waited = nil, false, false }

// resolution is that of the times of modification, with room to spare.
const resolution = 2 * time.Second

// tries bounds how often files are read that change meanwhile.
const tries = 10

// read returns the files and what they were like before and after they were read.
func (o *Options) read() (*Version, []stamp, error) {
	for range tries {
		before, err := o.list()
		if err != nil {
			return nil, nil, err
		}
		v, err := o.contents(before)
		if after, again := o.list(); again != nil || !slices.EqualFunc(before, after, stamp.equal) {
			continue
		}
		return v, before, err
	}
	return nil, nil, &fs.PathError{Op: "read", Path: o.Paths[0], Err: fmt.Errorf("changed during each of %d attempts", tries)}
}

// contents reads what was listed.
func (o *Options) contents(list []stamp) (*Version, error) {
	v := new(Version)
	h := sha256.New()
	left := o.MaxBytes
	for _, s := range list {
		if s.link {
			continue
		}
		f := File{Name: s.name, Err: s.err}
		if f.Err == nil {
			f.Data, f.Err = o.file(s.name, &left)
		}
		if f.Err != nil && (!s.inDir || errors.Is(f.Err, ErrTooLarge)) { // what is left out of a directory would be chance
			return nil, f.Err
		}
		fmt.Fprintf(h, "%q %d %v\n", f.Name, len(f.Data), f.Err)
		h.Write(f.Data)
		v.Files = append(v.Files, f)
	}
	h.Sum(v.Sum[:0])
	return v, nil
}

// Every calls look at once, at every interval and when there is something in wake, which may
// be nil, until ctx is done.
func Every(ctx context.Context, interval time.Duration, wake <-chan struct{}, look func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		look()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-wake:
		}
	}
}
