package httptransport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"syscall"
)

// facts are how far a request came, as far as the RoundTripper tells.
type facts struct {
	traced     bool // it does tell
	seeking    bool // a connection was asked for
	connecting bool // one was being made
	connected  bool // there was one
	reused     bool // which was used before
	wrote      bool // the request's headers were written
	answered   bool // a byte of a response came
}

// stale reports whether a request that failed may have met a connection that the server
// was just closing because nobody used it.
func (f facts) stale() bool { return f.reused && !f.answered }

// unsent reports whether a request that failed did so by no fault of the server's, before
// anything was sent to it.
func unsent(err error, f facts) bool {
	switch {
	case f.stale():
		return true // there was no connection to be had that had not been used before
	case f.wrote:
		return false
	case isLocal(err):
		return true
	case errors.Is(err, context.Canceled):
		return !f.connecting && !f.connected
	case f.connecting, f.connected, f.seeking:
		return false // refused, timed out, TLS failed, closed at once
	case f.traced:
		return true // it was not even tried: the request cannot be sent
	}
	return !isRemote(err)
}

// localFaults are what is lacking here, not there.
var localFaults = [...]syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM, syscall.EACCES, syscall.EPERM,
}

// isLocal reports whether an error is one of this machine: no descriptors, ports or memory,
// no answer of the name server.
func isLocal(err error) bool {
	for _, fault := range localFaults {
		if errors.Is(err, fault) {
			return true
		}
	}
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && !dns.IsNotFound
}

// isRemote reports whether an error is one that only a server, or the way there, can cause.
func isRemote(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return !errors.Is(err, context.DeadlineExceeded)
	}
	if _, ok := errors.AsType[syscall.Errno](err); ok {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// trace learns the facts. Its hooks may be called by several goroutines, also after the
// request has failed.
type trace struct {
	seeking, connecting, connected, reused, wrote, answered atomic.Bool
}

func (t *trace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn:      func(string) { t.seeking.Store(true) },
		ConnectStart: func(string, string) { t.connecting.Store(true) },
		GotConn: func(c httptrace.GotConnInfo) {
			t.reused.Store(c.Reused)
			t.connected.Store(true)
		},
		WroteHeaders:         func() { t.wrote.Store(true) },
		GotFirstResponseByte: func() { t.answered.Store(true) },
	}
}

func (t *trace) facts(traced bool) facts {
	return facts{
		traced: traced || t.seeking.Load(), seeking: t.seeking.Load(), connecting: t.connecting.Load(),
		connected: t.connected.Load(), reused: t.reused.Load(), wrote: t.wrote.Load(), answered: t.answered.Load(),
	}
}
