package rollout

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/internal/guard"
)

// errHangs is the error of a call that has not returned when its time was over, and a little more.
var errHangs = errors.New("rollout: it does not return, although its time is over")

// slack is how long after its time a call may return.
const slack = time.Second

// contain calls user code: a panic is an error, and so is that it does not return in time. Then it goes
// on by itself, and hangs is closed when it has returned; else hangs is nil.
func contain(ctx context.Context, f func(context.Context) error) (hangs <-chan struct{}, err error) {
	done := make(chan error, 1)
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		done <- recovered(func() error { return f(ctx) })
	}()
	select {
	case err := <-done:
		return nil, err
	case <-ctx.Done():
	}
	wait := time.NewTimer(slack)
	defer wait.Stop()
	select {
	case err := <-done:
		return nil, err
	case <-wait.C:
		return returned, errHangs
	}
}

// recovered calls user code, of which a panic is an error.
func recovered(f func() error) (err error) {
	if p := guard.Call("", func() { err = f() }); p != nil {
		return fmt.Errorf("rollout: it panicked: %v", p.Value)
	}
	return err
}
