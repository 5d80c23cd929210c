package telemetry

import "sync/atomic"

// room is what is left of a page that may have Options.MaxBytes. Series that events make
// take what they need of it before there is anything to export of them, so that a page
// never grows beyond it and a series that is there once stays.
type room struct {
	left   atomic.Int64
	spared int64 // what histograms leave to counters, which are small and say the most
}

// take takes bytes if there are so many and spared besides.
func (r *room) take(bytes, spared int64) bool {
	for {
		left := r.left.Load()
		if left-spared < bytes {
			return false
		}
		if r.left.CompareAndSwap(left, left-bytes) {
			return true
		}
	}
}

// spend takes bytes in any case: for what configuration bounds. Below 0 it gives them back.
func (r *room) spend(bytes int64) { r.left.Add(-bytes) }

// addWithin is add for a series that takes bytes of r. If there is no room it returns
// what is at k, as if the table were full.
func (t *table[K, V]) addWithin(r *room, bytes, spared int64, k K, most int, make func(K) (K, V)) (V, bool) {
	if len(t.all()) >= most || !r.take(bytes, spared) {
		return t.get(k)
	}
	made := false
	v, ok := t.add(k, most, func(k K) (K, V) {
		made = true
		return make(k)
	})
	if !made { // another goroutine did
		r.spend(-bytes)
	}
	return v, ok
}

// maxFigure is the most that a sample has beside names and the values of labels: braces, a
// blank, the figure and the end of the line.
const maxFigure = 28

// size returns the most bytes that a sample of f takes whose labels' values have so many.
func (f *family) size(values int) int64 { return f.sizeAs(f.name, values) }

func (f *family) sizeAs(name string, values int) int64 {
	n := len(name) + values + maxFigure
	for _, label := range f.labels {
		n += len(label) + len(`="",`)
	}
	return int64(n)
}

// size returns the most bytes that a histogram takes whose samples take so many without
// what buckets have more.
func (b *buckets) size(sample int64) int64 {
	lines := len(b.bounds) + 3 // one bucket more, sum and count
	more := lines*len("_bucket") + (lines-2)*len(`,le=""`) + len("+Inf") + b.digits
	return int64(lines)*sample + int64(more)
}

// escaped returns how many bytes of a page a label's value takes.
func escaped(value string) int {
	n := len(value)
	for i := range len(value) {
		switch value[i] {
		case '\\', '\n', '"':
			n++
		}
	}
	return n
}
