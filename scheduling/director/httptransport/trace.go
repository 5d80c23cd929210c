package httptransport

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
)

// trace is how far a request has come, as far as the RoundTripper tells.
type trace struct {
	asked     atomic.Bool // a connection was asked for
	connected atomic.Bool // there is one
	reused    atomic.Bool // which had been used before
}

// with returns ctx with the trace in it.
func (t *trace) with(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { t.asked.Store(true) },
		GotConn: func(i httptrace.GotConnInfo) {
			t.connected.Store(true)
			t.reused.Store(i.Reused)
		},
	})
}

// unsent reports whether an attempt failed before anything was sent, and not for want of a server
// that listens: by a fault of this machine or of the request.
func (t *trace) unsent(base http.RoundTripper, err error) bool {
	if t.connected.Load() {
		return false
	}
	for _, fault := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM, syscall.EACCES, syscall.EPERM,
	} {
		if errors.Is(err, fault) {
			return true
		}
	}
	if _, traces := base.(*http.Transport); traces {
		return !t.asked.Load() // a header, a URL that cannot be sent
	}
	var address *net.AddrError
	return errors.As(err, &address)
}
