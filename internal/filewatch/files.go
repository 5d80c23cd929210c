package filewatch

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stamp is by what a new version of a file is noticed without reading it.
type stamp struct {
	name   string
	info   fs.FileInfo // of what a link leads to; nil: there is none
	err    error       // why it is not to be read
	inDir  bool
	link   bool   // not a file: the link that says which version of a directory is in force
	target string // of that link
}

func (s stamp) equal(t stamp) bool {
	if s.name != t.name || s.target != t.target || (s.info == nil) != (t.info == nil) {
		return false
	}
	return s.info == nil || s.info.Size() == t.info.Size() && s.info.ModTime().Equal(t.info.ModTime()) &&
		s.info.Mode() == t.info.Mode() && os.SameFile(s.info, t.info)
}

// after reports whether the file was modified later than so long after now.
func (s stamp) after(d time.Duration) bool {
	return s.info != nil && !s.link && s.info.ModTime().After(time.Now().Add(d))
}

// within reports whether the file was modified less than d ago; in the future it was not.
func (s stamp) within(d time.Duration) bool { return d > 0 && s.after(-d) && !s.after(0) }

// list returns what is to be read.
func (o *Options) list() ([]stamp, error) {
	var all []stamp
	for _, path := range o.Paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		found := []stamp{{name: path, info: info}}
		if info.IsDir() && len(o.Extensions) > 0 {
			if found, err = o.listDir(path); err != nil {
				return nil, err
			}
		} else if err := regular(path, info); err != nil {
			return nil, err
		}
		before := all
		for _, s := range found {
			if s.link || !slices.ContainsFunc(before, func(t stamp) bool { return s.info != nil && t.info != nil && os.SameFile(s.info, t.info) }) {
				all = append(all, s)
			}
		}
	}
	return all, nil
}

// listDir lists a directory. Where a link named ..data says which version of it is in force,
// that is part of the list.
func (o *Options) listDir(path string) ([]stamp, error) {
	link := filepath.Join(path, "..data")
	target, _ := os.Readlink(link)
	list := []stamp{{name: link, link: true, target: target}}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries { // by name
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains(o.Extensions, filepath.Ext(name)) {
			continue
		}
		s := stamp{name: filepath.Join(path, name), inDir: true}
		s.info, s.err = os.Stat(s.name)
		if s.err == nil {
			if s.info.IsDir() {
				continue
			}
			s.err = regular(s.name, s.info)
		} else {
			s.info = nil
		}
		list = append(list, s)
	}
	if len(list) == 1 {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("directory has no file *%s", strings.Join(o.Extensions, ", *"))}
	}
	return list, nil
}

// ErrTooLarge is the error of files that have more than Options.MaxBytes.
var ErrTooLarge = errors.New("more than")

// file reads what is at most left, and takes it off that. The file may be another by now, so
// it must not be waited for.
func (o *Options) file(path string, left *int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, *left+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > *left {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w %d bytes (%s)", ErrTooLarge, o.MaxBytes, o.Bound)}
	}
	*left -= int64(len(data))
	return data, nil
}

// regular returns what is wrong with a path that is not of a regular file: to read one of
// another kind may take for ever.
func regular(path string, info fs.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("want a regular file, this is one of type %s", kindOf(info.Mode()))}
}

func kindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	case m&fs.ModeSocket != 0:
		return "socket"
	case m&fs.ModeDevice != 0:
		return "device"
	}
	return m.Type().String()
}
