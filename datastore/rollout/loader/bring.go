package loader

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/types"
)

// job is an adapter that is to be served by an endpoint.
type job struct {
	ep     *types.Endpoint
	name   string // in requests
	listed string // in the list of models
	source string // empty: any
	// put makes the server load it, if it does not list it. nil: it is there, or a request brings it.
	put func(context.Context) error
	// wait looks again so often until it is listed, before it is probed. 0: it is looked once.
	wait time.Duration
}

// bring does what Load says.
func (c *Client) bring(ctx context.Context, j job) error {
	if err := j.valid(); err != nil {
		return named(err, j.name)
	}
	if j.wait > 0 { // nothing is changed, and others need not wait for it
		return named(c.bringNow(ctx, j), j.name)
	}
	return named(c.inTurn(ctx, j.ep, "load", func() error { return c.bringNow(ctx, j) }), j.name)
}

func (j *job) valid() error {
	bad := func(format string, args ...any) error {
		return &Error{Op: "load", What: fmt.Sprintf(format, args...), Err: ErrName}
	}
	switch {
	case j.name == "" || j.listed == "":
		return bad("the adapter has no name")
	case len(j.name) > maxName:
		return bad("the name has %d bytes, want at most %d", len(j.name), maxName)
	case len(j.source) > maxPath:
		return bad("the source has %d bytes, want at most %d", len(j.source), maxPath)
	}
	return nil
}

func (c *Client) bringNow(ctx context.Context, j job) error {
	there, err := c.look(ctx, j)
	if err != nil {
		return err
	}
	if !there && j.put != nil {
		if err := j.put(ctx); err != nil {
			return err
		}
	}
	if err := c.probe(ctx, j.ep, j.name); err != nil {
		return j.advise(err, there)
	}
	if there {
		return nil
	}
	// A request that was answered does not say by which weights.
	cards, a, err := c.list(ctx, j.ep)
	if err != nil {
		return err
	}
	m := find(cards, j.listed)
	if m == nil {
		return a.fail("it answers, but is not listed",
			"the server may have several processes that do not know of each other's adapters", ErrNotServed)
	}
	return j.own(m, a)
}

// look reports whether the adapter is listed. It waits for it if the job says so. That another one has the name is an
// error.
func (c *Client) look(ctx context.Context, j job) (bool, error) {
	for {
		cards, a, err := c.list(ctx, j.ep)
		if err == nil {
			if m := find(cards, j.listed); m != nil {
				return true, j.own(m, a)
			}
		}
		if j.wait == 0 {
			return false, err
		}
		if err == nil {
			err = a.fail("nobody has loaded it", "load it, or give it more time", ErrNotServed)
			err.(*Error).Words = ""
		}
		if !sleep(ctx, j.wait) {
			return false, err
		}
	}
}

// sleep reports whether it was not cut short.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// own returns an error if an entry is not of the wanted source.
func (j *job) own(m *card, a answer) error {
	if m.from(j.source) {
		return nil
	}
	what := fmt.Sprintf("it has %q from %q, not from %q", j.listed, shorten(m.Root), j.source)
	const do = "give the new version another name, or unload the old one first"
	return &Error{Op: "load", URL: a.url, What: what, Do: do, Err: ErrTaken}
}

// advise says what can be done about a failed probe.
func (j *job) advise(err error, listed bool) error {
	e := (*Error)(nil)
	if !errors.As(err, &e) || e.Do != "" || e.Status == 0 {
		return err
	}
	switch {
	case listed:
		e.Do = "the server lists it, but does not serve it: unload and load it, or start the server anew"
	case j.put == nil && e.Status == http.StatusNotFound:
		e.Do = "the server has no such adapter, and found none by its name: give the plan a source, or a place to find it in"
	}
	return err
}

// drop does what Unload says, by one request.
func (c *Client) drop(ctx context.Context, ep *types.Endpoint, name string, take func(context.Context) error) error {
	return named(c.inTurn(ctx, ep, "unload", func() error { return take(ctx) }), name)
}

// inTurn calls fn when no other call is made for the same server.
func (c *Client) inTurn(ctx context.Context, ep *types.Endpoint, op string, fn func() error) error {
	done, err := c.turns.take(ctx, c.o.URL(ep))
	if err != nil {
		return &Error{Op: op, URL: c.o.URL(ep), What: "another call for the same server was under way", Err: err}
	}
	defer done()
	return fn()
}
