package plugins

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"
)

// This file is the form of what plugins keep over a restart: numbers and texts with their lengths, and a
// checksum over them and the name of the snapshot, which includes its version.

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
	return binary.LittleEndian.AppendUint32(dst, snapshotSum(name, dst[n:]))
}

func appendText(dst []byte, s string) []byte {
	s = s[:min(len(s), maxSnapshotText)]
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendSpan(dst []byte, d time.Duration) []byte {
	return binary.AppendUvarint(dst, uint64(max(d, 0)/time.Microsecond))
}

// snapshotReader reads a snapshot. After an error it reads zeros.
type snapshotReader struct {
	name string
	all  []byte
	rest []byte
	err  error
}

// openSnapshot begins to read a snapshot of that name.
func openSnapshot(name string, b []byte) *snapshotReader {
	r := &snapshotReader{name: name, all: b}
	n := len(b) - sumBytes
	if n < 0 || snapshotSum(name, b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		r.err = fmt.Errorf("plugins: snapshot %s: %d bytes have another checksum", name, len(b))
		return r
	}
	r.rest = b[:n]
	return r
}

// failf makes the first error.
func (r *snapshotReader) failf(format string, args ...any) {
	if r.err == nil {
		at := len(r.all) - sumBytes - len(r.rest)
		r.err = fmt.Errorf("plugins: snapshot %s: before byte %d: %w", r.name, at, fmt.Errorf(format, args...))
	}
}

// number reads a number of at most most.
func (r *snapshotReader) number(what string, most uint64) uint64 {
	if r.err != nil {
		return 0
	}
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.failf("no %s", what)
		return 0
	}
	r.rest = r.rest[n:]
	if v > most {
		r.failf("%s is %d, at most %d", what, v, most)
		return 0
	}
	return v
}

// fixed reads 8 bytes.
func (r *snapshotReader) fixed(what string) uint64 {
	if r.err != nil {
		return 0
	}
	if len(r.rest) < 8 {
		r.failf("no %s", what)
		return 0
	}
	v := binary.LittleEndian.Uint64(r.rest)
	r.rest = r.rest[8:]
	return v
}

// span reads a duration of at most a year.
func (r *snapshotReader) span(what string) time.Duration {
	const year = 365 * 24 * time.Hour
	return time.Duration(r.number(what, uint64(year/time.Microsecond))) * time.Microsecond
}

// text reads a text.
func (r *snapshotReader) text(what string) string {
	n := int(r.number("length of "+what, maxSnapshotText))
	if r.err != nil {
		return ""
	}
	if n > len(r.rest) {
		r.failf("%s has %d of %d bytes", what, len(r.rest), n)
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

// end returns the first error. Anything left is one.
func (r *snapshotReader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		r.failf("%d bytes too many", len(r.rest))
	}
	return r.err
}
