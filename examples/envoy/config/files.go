package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// DefaultMaxBytes is the most that is read of all files of a configuration.
const DefaultMaxBytes = 16 << 20

// file is one that was read.
type file struct {
	name string // as in errors
	data []byte
	err  error // why it cannot be read; nil: it was
}

func (f *file) isJSON() bool { return filepath.Ext(f.name) == ".json" }

// digest is by what two versions are told apart: names and contents.
type digest [sha256.Size]byte

func digestOf(files []file) digest {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d %v\n", f.name, len(f.data), f.err)
		h.Write(f.data)
	}
	return digest(h.Sum(nil))
}

// readFiles reads the file at path, or those of the directory at path.
func readFiles(path string, maxBytes int64) ([]file, error) {
	if maxBytes <= 0 {
		maxBytes = DefaultMaxBytes
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		left := maxBytes
		data, err := readFile(path, maxBytes, &left)
		if err != nil {
			return nil, err
		}
		return []file{{name: path, data: data}}, nil
	}
	return readDir(path, maxBytes)
}

// readAll reads the files at several paths, each once: a file that is named may be in a
// directory that is named, too.
func readAll(paths []string, maxBytes int64) ([]file, error) {
	var files []file
	for _, path := range paths {
		more, err := readFiles(path, maxBytes)
		if err != nil {
			return nil, err
		}
		before := files
		for _, f := range more {
			if !slices.ContainsFunc(before, f.same) {
				files = append(files, f)
			}
		}
	}
	return files, nil
}

// same reports whether two names are of one file.
func (f file) same(g file) bool {
	a, errA := os.Stat(f.name)
	b, errB := os.Stat(g.name)
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// readDir reads a directory. Where a link named ..data says which version of the
// directory is in force, as in a volume made of a ConfigMap, all files are of one
// version.
func readDir(path string, maxBytes int64) ([]file, error) {
	const tries = 10
	for range tries {
		before, _ := os.Readlink(filepath.Join(path, "..data"))
		files, err := readVersion(path, maxBytes)
		if after, _ := os.Readlink(filepath.Join(path, "..data")); after == before {
			return files, err
		}
	}
	return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("..data changed during each of %d attempts", tries)}
}

func readVersion(path string, maxBytes int64) ([]file, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []file
	left := maxBytes
	for _, entry := range entries { // by name
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name)) {
			continue
		}
		f := file{name: filepath.Join(path, name)}
		info, err := os.Stat(f.name) // what a link leads to
		if err == nil && info.IsDir() {
			continue
		}
		f.data, f.err = readFile(f.name, maxBytes, &left)
		if errors.Is(f.err, errTooLarge) { // what is left out would be chance
			return nil, f.err
		}
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("directory has no file *.yaml, *.yml or *.json")}
	}
	return files, nil
}

var errTooLarge = errors.New("the configuration has more than")

// readFile reads what is at most left, and takes it off that.
func readFile(path string, maxBytes int64, left *int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would block
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("is neither a regular file nor a directory")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(f, *left+1))
	if err != nil {
		return nil, err
	}
	if n > *left {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%w %d bytes (MaxBytes)", errTooLarge, maxBytes)}
	}
	*left -= n
	return b.Bytes(), nil
}
