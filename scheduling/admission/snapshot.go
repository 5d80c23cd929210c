package admission

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/scheduling/admission/internal/accounts"
	"github.com/inferpick/inferpick/scheduling/admission/internal/fair"
	"github.com/inferpick/inferpick/types"
)

// This file is what a restarted gateway is told of the one before, so that it need not learn it anew. A Controller is
// a sharing.SnapshotPart. Budgets, tenants and endpoints are named by hashes: what is restored makes none of them,
// but waits until they come.

// snapshotName has the version of the form.
const snapshotName = "admission/1"

// Bounds of what is kept.
const (
	keptFor     = time.Hour // until it is of use
	mostKept    = 50_000    // of a snapshot
	mostWritten = 4096      // budgets, and tenants, of one
)

// keptKind is what something that is kept is of. The numbers are of the form.
type keptKind uint8

const (
	keptMeter  keptKind = iota + 1 // requests and tokens that are left
	keptTenant                     // how far it is ahead, and its mean output
	keptOutput                     // the mean output of all
	keptPace                       // requests let in a second
	keptTTFT                       // mean and deviation of times to the first token, in seconds
	keptBacklogRate
	keptTTFTRate
	keptPlacesOf // of an endpoint, and seconds until more are tried
	keptWindowOf // of an endpoint
	keptKinds
)

// keptKey says what something is of: a budget, a tenant, an endpoint, or, if 0, the pool.
type keptKey struct {
	kind keptKind
	key  uint64
}

// remembered is two figures, as of an instant of the Controller's.
type remembered struct {
	a, b float64
	at   time.Duration
}

// keeper is a Detector of this package that knows what is of use after a restart: of an endpoint, or, where that is
// nil, of the pool.
type keeper interface {
	keep(ep *types.Endpoint, note func(k keptKind, a, b float64))
	recall(ep *types.Endpoint, k keptKind, a, b float64)
}

// SnapshotName names the form of snapshots.
func (c *Controller) SnapshotName() string { return snapshotName }

// AppendSnapshot appends to dst what Restore takes over, in at most room bytes: what is learned of the pool and of
// endpoints first, then budgets that are used and tenants, the last used first.
func (c *Controller) AppendSnapshot(dst []byte, room int, _ time.Time) []byte {
	d := c.lock()
	defer c.unlock()
	return d.appendSnapshot(dst, room)
}

// Restore takes over a snapshot that was made an age ago. What is known here already stays as it is; of budgets that
// are used, no more is left than was then. With an error nothing has changed.
func (c *Controller) Restore(snapshot []byte, age time.Duration, _ time.Time) error {
	records, err := readSnapshot(snapshot)
	if err != nil {
		return fmt.Errorf("admission: snapshot: %w", err)
	}
	d := c.lock()
	defer c.unlock()
	d.restore(records, max(age, 0))
	return nil
}

// The form: its version, records, and a checksum of all before it. Numbers are big-endian.
const (
	snapshotVersion = 1
	recordSize      = 1 + 8 + 8 + 8 + 4 // kind, key, two figures, age in seconds
	checksumSize    = 4
)

// snapshotWriter writes records for which there is room.
type snapshotWriter struct {
	buf  []byte
	from int
	room int
	now  time.Duration
}

func (w *snapshotWriter) full() bool { return len(w.buf)-w.from+recordSize+checksumSize > w.room }

func (w *snapshotWriter) write(k keptKey, v remembered) {
	if w.full() {
		return
	}
	b := append(w.buf, byte(k.kind))
	b = binary.BigEndian.AppendUint64(b, k.key)
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(v.a))
	b = binary.BigEndian.AppendUint64(b, math.Float64bits(v.b))
	w.buf = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(max(w.now-v.at, 0).Seconds())))
}

// of writes a figure of the pool, if something is known.
func (w *snapshotWriter) of(k keptKind, a, b float64) {
	if a > 0 {
		w.write(keptKey{kind: k}, remembered{a, b, w.now})
	}
}

func (d *desk) appendSnapshot(dst []byte, room int) []byte {
	if room < 1+checksumSize {
		return dst
	}
	w := &snapshotWriter{buf: append(dst, snapshotVersion), from: len(dst), room: room, now: d.now}
	w.of(keptOutput, d.queues.Output(), 0)
	w.of(keptPace, d.drained.Rate(d.now), 0)
	mean, dev := d.ttft.Keep()
	w.of(keptTTFT, mean, dev)
	d.writeDetector(w)
	written := map[keptKey]bool{}
	d.writeMeters(w, written)
	d.writeTenants(w, written)
	for k, v := range d.shared.kept { // what has not been of use yet
		if !written[k] && d.now-v.at <= keptFor {
			w.write(k, v)
		}
	}
	return binary.BigEndian.AppendUint32(w.buf, crc32.ChecksumIEEE(w.buf[w.from:]))
}

func (d *desk) writeDetector(w *snapshotWriter) {
	by, ok := d.detector.Detector.(keeper)
	if !ok {
		return
	}
	by.keep(nil, w.of)
	for x := range d.table.Endpoints() {
		ep, key := x.Of.(*cell).ep, uint64(0)
		by.keep(ep, func(k keptKind, a, b float64) {
			if key == 0 {
				key = keyOfEndpoint(ep)
			}
			w.write(keptKey{k, key}, remembered{a, b, d.now})
		})
	}
}

// writeMeters writes those budgets that are used, the last used first.
func (d *desk) writeMeters(w *snapshotWriter, written map[keptKey]bool) {
	n := 0
	for at := d.budgets.used.Tail; at != nil && n < mostWritten && !w.full(); at = at.Prev {
		m := at.Of
		if m.fill(d.now); m.full() {
			continue
		}
		n++
		requests, tokens := m.said(d.now)
		k := keptKey{keptMeter, keyOfMeter(m)}
		written[k] = true
		w.write(k, remembered{requests, tokens, d.now})
	}
}

// writeTenants writes tenants, those with something under way first.
func (d *desk) writeTenants(w *snapshotWriter, written map[keptKey]bool) {
	n := 0
	d.queues.Flows(func(f *fair.Flow) bool {
		n++
		ahead, output := f.Ahead()
		k := keptKey{keptTenant, keyOfFlow(f)}
		written[k] = true
		w.write(k, remembered{ahead, output, d.now})
		return n < mostWritten && !w.full()
	})
}

// keyOfFlow returns the key of a tenant's account.
func keyOfFlow(f *fair.Flow) uint64 {
	if a, ok := f.Of.(*accounts.Account); ok {
		return a.Key
	}
	return keyOfTenant(f.Band().Priority, f.Tenant())
}

func keyOfEndpoint(ep *types.Endpoint) uint64 {
	return accounts.Key("endpoint", ep.Address, strconv.Itoa(ep.Rank.Index), strconv.Itoa(ep.Rank.Of))
}

// record is what a snapshot says of one thing.
type record struct {
	keptKey
	remembered // at is its age
}

// readSnapshot reads a snapshot. The error says what is wrong with it.
func readSnapshot(b []byte) ([]record, error) {
	n := len(b) - 1 - checksumSize
	switch {
	case n < 0:
		return nil, fmt.Errorf("has %d bytes, want at least %d", len(b), 1+checksumSize)
	case b[0] != snapshotVersion:
		return nil, fmt.Errorf("has version %d, want %d", b[0], snapshotVersion)
	case n%recordSize != 0 || n/recordSize > mostKept:
		return nil, fmt.Errorf("has %d bytes of records, want a multiple of %d, and at most %d records", n, recordSize, mostKept)
	case crc32.ChecksumIEEE(b[:1+n]) != binary.BigEndian.Uint32(b[1+n:]):
		return nil, fmt.Errorf("has another checksum than it says")
	}
	records := make([]record, 0, n/recordSize)
	for b = b[1 : 1+n]; len(b) > 0; b = b[recordSize:] {
		r := readRecord(b)
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("record %d %w", len(records), err)
		}
		records = append(records, r)
	}
	return records, nil
}

func readRecord(b []byte) (r record) {
	r.kind, r.key = keptKind(b[0]), binary.BigEndian.Uint64(b[1:])
	r.a, r.b = math.Float64frombits(binary.BigEndian.Uint64(b[9:])), math.Float64frombits(binary.BigEndian.Uint64(b[17:]))
	age := float64(math.Float32frombits(binary.BigEndian.Uint32(b[25:])))
	if !(age >= 0 && age <= keptFor.Seconds()) {
		age = 2 * keptFor.Seconds() // too long ago
	}
	r.at = time.Duration(age * float64(time.Second))
	return r
}

// check says what is wrong with a record.
func (r *record) check() error {
	const most = 1 << 53
	least, high := 0.0, float64(most)
	switch r.kind {
	case keptMeter:
		for _, v := range []float64{r.a, r.b} { // NaN: there is no bound
			if math.Abs(v) > most {
				return fmt.Errorf("says that %g of a budget are left", v)
			}
		}
		return nil
	case keptTenant:
		least = -most
	case keptPlacesOf, keptWindowOf:
		least, high = 1, 1e6
	case keptOutput, keptPace, keptTTFT, keptBacklogRate, keptTTFTRate:
		high = 1e9
	default:
		return fmt.Errorf("is of kind %d, want 1 to %d", r.kind, keptKinds-1)
	}
	if !(r.a >= least && r.a <= high && r.b >= 0 && r.b <= 1e9) {
		return fmt.Errorf("of kind %d says %g and %g, want %g to %g and 0 to 1e9", r.kind, r.a, r.b, least, high)
	}
	return nil
}

// restore takes over records that were written an age ago.
func (d *desk) restore(records []record, age time.Duration) {
	s := d.shared
	s.kept, s.until = make(map[keptKey]remembered, len(records)), d.now+keptFor
	for _, r := range records {
		if past := r.at + min(age, 2*keptFor); past <= keptFor {
			s.kept[r.keptKey] = remembered{r.a, r.b, d.now - past}
		}
	}
	if v, ok := s.recall(keptKey{kind: keptOutput}, d.now); ok {
		d.queues.RecallOutput(v.a)
	}
	if v, ok := s.recall(keptKey{kind: keptPace}, d.now); ok {
		d.drained.Recall(v.a, d.now)
	}
	if v, ok := s.recall(keptKey{kind: keptTTFT}, d.now); ok {
		d.ttft.Recall(v.a, v.b)
	}
	d.recallDetector()
	for n := d.budgets.used.Head; n != nil; n = n.Next {
		n.Of.fill(d.now)
		s.recallMeter(n.Of, d.now)
	}
}

// recall returns something that was kept, once.
func (s *shared) recall(k keptKey, now time.Duration) (v remembered, ok bool) {
	v, ok = s.kept[k]
	if ok {
		delete(s.kept, k)
	}
	return v, ok && now-v.at <= keptFor
}

// recallMeter leaves no more in a meter that is filled up to now than was left by a snapshot, and has come since.
func (s *shared) recallMeter(m *meter, now time.Duration) {
	if len(s.kept) == 0 {
		return
	}
	if v, ok := s.recall(keptKey{keptMeter, keyOfMeter(m)}, now); ok {
		m.atMost(v.a, v.b, now-v.at)
	}
}

// recallTenant makes a new flow what it was.
func (d *desk) recallTenant(f *fair.Flow, key uint64) {
	if v, ok := d.shared.recall(keptKey{keptTenant, key}, d.now); ok {
		d.queues.Recall(f, min(v.a, mostHeard), v.b)
	}
}

// recallDetector tells the Detector what was kept of the pool and of endpoints.
func (d *desk) recallDetector() {
	by, ok := d.detector.Detector.(keeper)
	if !ok || len(d.shared.kept) == 0 {
		return
	}
	for _, k := range []keptKind{keptBacklogRate, keptTTFTRate} {
		if v, ok := d.shared.recall(keptKey{kind: k}, d.now); ok {
			by.recall(nil, k, v.a, v.b)
		}
	}
	for x := range d.table.Endpoints() {
		d.recallEndpoint(x.Of.(*cell).ep)
	}
}

// recallEndpoint tells the Detector what was kept of an endpoint.
func (d *desk) recallEndpoint(ep *types.Endpoint) {
	by, ok := d.detector.Detector.(keeper)
	if !ok || len(d.shared.kept) == 0 {
		return
	}
	key := keyOfEndpoint(ep)
	for _, k := range []keptKind{keptPlacesOf, keptWindowOf} {
		if v, ok := d.shared.recall(keptKey{k, key}, d.now); ok {
			by.recall(ep, k, v.a, v.b)
		}
	}
}

// hearReading is hear; what was kept of an endpoint that is new is recalled first.
func (d *desk) hearReading(ep *types.Endpoint) (x *cell, changed bool) {
	if d.byLoad[ep.Load] == nil {
		d.recallEndpoint(ep)
	}
	return d.hear(ep)
}
