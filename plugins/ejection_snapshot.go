package plugins

import (
	"encoding/binary"
	"time"

	"github.com/inferpick/inferpick/internal/ejection"
)

// This file is what Ejection keeps over a restart: it is a sharing.SnapshotPart.

// ejectionKept is an endpoint that is out, by its ID.
type ejectionKept struct {
	id string
	ejection.Record
}

// SnapshotName returns the name of the snapshot.
func (f *Ejection) SnapshotName() string { return "ejection/1" }

// AppendSnapshot appends which endpoints are ejected, for how much longer, and the usual response times,
// in at most room bytes: the endpoints first.
func (f *Ejection) AppendSnapshot(dst []byte, room int, now time.Time) []byte {
	const counts = 2 * binary.MaxVarintLen32
	if room < counts+sumBytes {
		return dst
	}
	n := len(dst)
	room -= counts + sumBytes
	var servers []byte
	kept := 0
	for _, k := range f.records(now) {
		next := appendEjection(servers, k)
		if len(next) > room {
			break
		}
		servers, kept = next, kept+1
	}
	all := f.baseline.samples()
	samples := appendSamples(nil, all)
	if len(servers)+len(samples) > room {
		all, samples = nil, nil
	}
	dst = append(binary.AppendUvarint(dst, uint64(kept)), servers...)
	dst = append(binary.AppendUvarint(dst, uint64(len(all))), samples...)
	return sealSnapshot(dst, n, f.SnapshotName())
}

// records returns the endpoints that are out because requests of this gateway failed there.
func (f *Ejection) records(now time.Time) (all []ejectionKept) {
	f.table.mu.RLock()
	defer f.table.mu.RUnlock()
	for _, s := range f.table.all() {
		if s == nil || len(all) >= LimitUnmet {
			continue
		}
		if r, out := s.Record(now); out {
			all = append(all, ejectionKept{s.id, r})
		}
	}
	return all
}

func appendEjection(dst []byte, k ejectionKept) []byte {
	dst = appendText(dst, k.id)
	dst = appendSpan(dst, k.Left)
	dst = appendSpan(dst, max(k.Lasted, time.Microsecond))
	dst = binary.AppendUvarint(dst, uint64(k.Doublings))
	refused := uint64(0)
	if k.Refused {
		refused = 1
	}
	return appendText(binary.AppendUvarint(dst, refused), k.Cause)
}

func appendSamples(dst []byte, all []ejection.Sample) []byte {
	for _, m := range all {
		for _, v := range [...]int{m.Class, m.Bucket, m.Count} {
			dst = binary.AppendUvarint(dst, uint64(v))
		}
	}
	return dst
}

// Restore takes over a snapshot. Endpoints that were out are out for what is left of that time, or on
// probation; those not met yet, if they are met within ten minutes of the snapshot. What is known better
// already stays.
func (f *Ejection) Restore(snapshot []byte, age time.Duration, now time.Time) error {
	kept, samples, err := readEjections(openSnapshot(f.SnapshotName(), snapshot))
	if err != nil {
		return err
	}
	f.baseline.learn(samples)
	if age > unmetFor {
		return nil
	}
	for _, k := range kept {
		k.Left = max(k.Left-max(age, 0), 0)
		f.resume(k, now)
	}
	return nil
}

func readEjections(r snapshotReader) (kept []ejectionKept, samples []ejection.Sample, err error) {
	for range r.Count("number of endpoints", LimitUnmet) {
		k := ejectionKept{id: r.text("ID"), Record: ejection.Record{
			Left: r.span("rest"), Lasted: r.span("duration"), Doublings: int(r.Count("doublings", 1<<10)),
			Refused: r.Count("refused", 1) == 1, Cause: r.text("cause"),
		}}
		if r.Err() == nil && k.Check() != nil {
			r.Failf("endpoint %q: %w", k.id, k.Check())
		}
		if r.Err() != nil {
			return nil, nil, r.end()
		}
		kept = append(kept, k)
	}
	for range r.Count("number of samples", 1<<16) {
		m := ejection.Sample{Class: int(r.Count("class", 1<<10)), Bucket: int(r.Count("bucket", 1<<10)), Count: int(r.Count("count", 1<<16))}
		if r.Err() == nil && m.Check() != nil {
			r.Failf("%w", m.Check())
		}
		if r.Err() != nil {
			return nil, nil, r.end()
		}
		samples = append(samples, m)
	}
	return kept, samples, r.end()
}

// resume has the endpoint of a record out again.
func (f *Ejection) resume(k ejectionKept, now time.Time) {
	server := ejection.Resume(f.rules, k.Record, now)
	f.names.mu.Lock()
	defer f.names.mu.Unlock()
	switch p := f.names.named(k.id, now); {
	case p == nil:
	case p.ep != nil:
		f.takeOver(p.ep, server)
	case p.value == nil:
		p.value = &server
		f.unmet.Store(int64(f.names.unmet))
	}
}

// samples is Samples.
func (b *baseline) samples() []ejection.Sample {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Samples()
}

// learn is Learn.
func (b *baseline) learn(samples []ejection.Sample) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Learn(samples)
}
