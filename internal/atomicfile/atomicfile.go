// Package atomicfile writes files that are there as a whole: who reads one gets what was before, or
// what was written, whatever happens meanwhile.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts data, on the disk, in the place of what is at path, in a file that only its owner may
// read. Its directory must be there. Beside it, while it is written, there is one of the same name
// with ".new" after it: of one path there must be one Write at a time.
func Write(path string, data []byte) error {
	name := path + ".new"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that did not come to its end
		return err
	}
	if err := write(name, data); err != nil {
		return err
	}
	if err := os.Rename(name, path); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil { // where directories can be synced
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}

// write writes a file that is not there, to the disk.
func write(name string, data []byte) error {
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = to.Write(data)
	if err == nil {
		err = to.Sync()
	}
	if again := to.Close(); err == nil {
		err = again
	}
	return err
}
