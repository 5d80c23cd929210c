package rollout

import "time"

// Window is what one gateway saw of both targets since an epoch began. Gateways that do not write keep one of their
// own, tell it as a whole to the one that writes (AppendBinary), which replaces what it had from them (Machine.Hear).
// It is for one goroutine.
type Window struct {
	Epoch  uint64    // State.Epoch
	Began  time.Time // on the clock of this gateway
	Stable Counts
	Canary Counts

	stable, canary string
}

// Counts are those of one target.
type Counts struct {
	Requests int
	Errors   int
}

// NewWindow returns an empty window of a plan, for the epoch of a state that was seen at now.
func NewWindow(p *Plan, epoch uint64, now time.Time) *Window { panic("soon") }

// Observe counts a sample, if it is of one of both targets. It allocates nothing once each kind was seen.
func (w *Window) Observe(s Sample) { panic("soon") }

// AppendBinary appends the window to b for DecodeWindow: a few KiB.
func (w *Window) AppendBinary(b []byte) ([]byte, error) { panic("soon") }

// DecodeWindow reads what AppendBinary has written. It believes nothing: data may come from anywhere.
func DecodeWindow(p *Plan, data []byte) (*Window, error) { panic("soon") }
