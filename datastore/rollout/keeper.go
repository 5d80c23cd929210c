package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// homeTime is how long a call of a Home may take.
	homeTime = 5 * time.Second
	// mostPause is how long a Home that fails is left alone, at most.
	mostPause = 30 * time.Second
)

// keeper is how a rollout calls the Home: it is not called while it hangs, nor again and again while it fails.
type keeper struct {
	r       *rollout
	record  *Record // as it is now, as far as one knows; nil: not known
	pause   time.Duration
	until   time.Time       // no reading before that
	err     error           // of the last reading
	hanging <-chan struct{} // a call has not returned; nil: all have
}

// hangs reports whether a call has not returned.
func (h *keeper) hangs() bool {
	if h.hanging == nil {
		return false
	}
	select {
	case <-h.hanging:
		h.hanging = nil
		return false
	default:
		return true
	}
}

// read returns what the Home has, nil if that is not known.
func (h *keeper) read(ctx context.Context, now time.Time) (*Record, error) {
	switch wait := h.until.Sub(now); {
	case h.hangs():
		return nil, errors.New("the home does not answer")
	case h.err != nil && wait > 0 && wait <= mostPause: // else the clock was set
		return nil, h.err
	}
	var record Record
	err := h.call(ctx, func(ctx context.Context) (err error) {
		record, err = h.r.c.o.Home.Read(ctx, h.r.object)
		return err
	})
	if err != nil {
		h.pause = min(max(2*h.pause, h.r.c.o.Interval), mostPause)
		h.until = now.Add(h.pause)
		h.record, h.err = nil, fmt.Errorf("the home cannot be read: %w", err)
		return nil, h.err
	}
	h.record, h.err, h.pause = &record, nil, 0
	return &record, nil
}

// write has the Home keep a record.
func (h *keeper) write(ctx context.Context, record Record) (string, error) {
	if h.hangs() {
		return "", errors.New("the home does not answer")
	}
	var revision string
	err := h.call(ctx, func(ctx context.Context) (err error) {
		revision, err = h.r.c.o.Home.Write(ctx, h.r.object, record)
		return err
	})
	if err != nil {
		return "", err
	}
	return revision, nil
}

// forget has the Home forget it, if it can.
func (h *keeper) forget(ctx context.Context) {
	f, ok := h.r.c.o.Home.(forgetter)
	if !ok || h.hangs() {
		return
	}
	_ = h.call(ctx, func(context.Context) error {
		f.Forget(h.r.object)
		return nil
	})
}

// call calls the Home.
func (h *keeper) call(ctx context.Context, f func(context.Context) error) error {
	ctx, stop := context.WithTimeout(ctx, homeTime)
	defer stop()
	hangs, err := contain(ctx, f)
	h.hanging = hangs
	return err
}
