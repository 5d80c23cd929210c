package accounts

import "time"

// Fresh is what was charged here of late, so that peers may not know it yet. The zero value is nothing.
type Fresh struct {
	parts [epochs + 1]float64 // by Epochs
	epoch uint64
}

// epochs is how many of Epochs pass until peers have heard of what was charged in one.
const epochs = 4

// Age goes on to an epoch, and returns what peers know by now.
func (f *Fresh) Age(epoch uint64) (known float64) {
	for range min(epoch-f.epoch, uint64(len(f.parts))) {
		f.epoch++
		part := &f.parts[f.epoch%uint64(len(f.parts))]
		known += *part
		*part = 0
	}
	f.epoch = epoch
	return known
}

// Add adds to it, or takes off.
func (f *Fresh) Add(v float64) { f.parts[f.epoch%uint64(len(f.parts))] += v }

// Sum is all of it.
func (f *Fresh) Sum() (sum float64) {
	for _, v := range f.parts {
		sum += v
	}
	return sum
}

// Epochs counts the time in which peers come to know what was taken here, in parts. The zero value begins.
type Epochs struct {
	n    uint64
	next time.Duration // when the next begins
	told time.Duration // when peers were told last; 0: never
	// every is how often they are told: the longest of late.
	every time.Duration
}

// usually is how often peers are told, until that is known.
const usually = 100 * time.Millisecond

// Tell notes that peers are told at an instant, and returns how long ago they were before.
func (e *Epochs) Tell(now time.Duration) (passed time.Duration) {
	if e.told > 0 {
		passed = min(now-e.told, time.Minute)
		e.every = max(passed, e.every-(e.every-passed)/8)
	}
	e.told = now
	return passed
}

// Unknown is for how long peers do not know what was taken, if a message takes so long.
func (e *Epochs) Unknown(delay time.Duration) time.Duration {
	if e.every == 0 {
		return usually + delay
	}
	return e.every + delay
}

// At returns the number of the present one.
func (e *Epochs) At(now, delay time.Duration) uint64 {
	if each := max(e.Unknown(delay)/epochs, 1); now >= e.next {
		e.n += 1 + uint64(now-e.next)/uint64(each)
		e.next = now + each
	}
	return e.n
}
