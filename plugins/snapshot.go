package plugins

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/inferpick/inferpick/internal/figures"
)

// This file is the form of what Ejection and the stick tables keep over a restart: figures, and a checksum over them
// and the name of the snapshot, which includes its version.

// sumBytes is the size of the checksum.
const sumBytes = 4

// maxSnapshotText bounds names of endpoints and other texts.
const maxSnapshotText = 1 << 10

func snapshotSum(name string, content []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum([]byte(name), table), table, content)
}

// sealSnapshot appends the checksum of what was appended to dst after the first n bytes.
func sealSnapshot(dst []byte, n int, name string) []byte {
	return binary.BigEndian.AppendUint32(dst, snapshotSum(name, dst[n:]))
}

func appendText(dst []byte, s string) []byte {
	return figures.AppendString(dst, s[:min(len(s), maxSnapshotText)])
}

func appendSpan(dst []byte, d time.Duration) []byte {
	return binary.AppendUvarint(dst, uint64(max(d, 0)/time.Microsecond))
}

// snapshotReader reads a snapshot.
type snapshotReader struct {
	*figures.Reader
	name string
}

// openSnapshot begins to read a snapshot of that name.
func openSnapshot(name string, b []byte) snapshotReader {
	n := max(len(b)-sumBytes, 0)
	r := snapshotReader{figures.NewReader(b[:n]), name}
	if len(b) < sumBytes || snapshotSum(name, b[:n]) != binary.BigEndian.Uint32(b[n:]) {
		r.Failf("has %d bytes with another checksum", len(b))
	}
	return r
}

// span reads a duration of at most a year.
func (r snapshotReader) span(what string) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(r.Count(what, uint64(year/time.Microsecond))) * time.Microsecond
}

// text reads a text.
func (r snapshotReader) text(what string) string { return r.String(what, maxSnapshotText) }

// end returns the first error. Anything left is one.
func (r snapshotReader) end() error {
	if err := r.End(); err != nil {
		return fmt.Errorf("plugins: snapshot %s: %w", r.name, err)
	}
	return nil
}
