package config

import (
	"path/filepath"
	"time"

	"github.com/inferpick/inferpick/internal/filewatch"
)

// DefaultMaxBytes is the most that is read of all files of a configuration.
const DefaultMaxBytes = filewatch.DefaultMaxBytes

// file is one that was read.
type file struct {
	name string // as in errors
	data []byte
	err  error // why it cannot be read; nil: it was
}

func (f *file) isJSON() bool { return filepath.Ext(f.name) == ".json" }

// watch returns what tells versions of files and directories apart.
func watch(paths []string, maxBytes int64) *filewatch.Watch {
	return filewatch.New(filewatch.Options{
		Paths: paths, Extensions: []string{".yaml", ".yml", ".json"},
		MaxBytes: maxBytes, Bound: "MaxBytes", Quiet: 50 * time.Millisecond,
	})
}

// filesOf returns the files of a version.
func filesOf(v *filewatch.Version) []file {
	files := make([]file, 0, len(v.Files))
	for _, f := range v.Files {
		files = append(files, file{f.Name, f.Data, f.Err})
	}
	return files
}

// readFiles reads the file at path, or those of the directory at path.
func readFiles(path string, maxBytes int64) ([]file, error) {
	v, err := watch([]string{path}, maxBytes).Read()
	if err != nil {
		return nil, err
	}
	return filesOf(v), nil
}
