package mesh

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// maxKeyFile bounds a file of keys, in bytes.
const maxKeyFile = 64 << 10

// ReadKeyFile returns what Options.Key and MoreKeys are to be by a file: the key is its first line, and those that are
// taken, too, are the others. Blanks around them are cut off, and empty lines passed over.
func ReadKeyFile(path string) (key []byte, more [][]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("mesh: key file: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("mesh: key file: %w", err)
	case len(text) > maxKeyFile:
		return nil, nil, fmt.Errorf("mesh: key file: %s has more than %d bytes", path, maxKeyFile)
	}
	var keys [][]byte
	for line := range bytes.Lines(text) {
		if k := bytes.TrimSpace(line); len(k) > 0 {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, nil, fmt.Errorf("mesh: key file: %s is empty", path)
	}
	return keys[0], keys[1:], nil
}
