package modelserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// ErrClosed is returned by Restart once the server was closed or shut down.
var ErrClosed = errors.New("modelserver: server is closed")

// Server is one simulated model server. Its methods may be called from any
// goroutine.
type Server struct {
	opts    Options
	address net.Addr

	// Faults. They outlive a restart.
	hang, garbage atomic.Bool
	failures      atomic.Int64
	faults        faults // of adapters

	mu     sync.Mutex
	detach func() bool // from the context given to Start
	proc   *process    // nil while the server is down
	closed bool
}

// Start starts a server and returns when it accepts connections. It runs until
// Close or Shutdown, or until ctx is done.
func Start(ctx context.Context, opts Options) (*Server, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("modelserver: not started: %w", err)
	}
	listener := opts.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, fmt.Errorf("modelserver: %w", err)
		}
	}
	s := &Server{opts: opts, address: listener.Addr()}
	s.mu.Lock() // ctx may be done already, and Close running
	defer s.mu.Unlock()
	if err := s.serveLocked(listener); err != nil {
		return nil, err
	}
	s.detach = context.AfterFunc(ctx, s.Close)
	return s, nil
}

// serveLocked starts a process on the listener. Caller must hold s.mu.
func (s *Server) serveLocked(listener net.Listener) (err error) {
	if s.proc, err = newProcess(s, listener); err != nil {
		listener.Close()
	}
	return err
}

// Name returns Options.Name.
func (s *Server) Name() string { return s.opts.Name }

// Address returns the host:port the server listens on. It stays the same when
// the server is killed and restarted.
func (s *Server) Address() string { return s.address.String() }

// URL returns the address as a base URL, without a slash at the end.
func (s *Server) URL() string { return "http://" + s.Address() }

// Close ends the server and all its connections at once, as Kill does, for
// good. It returns when every goroutine of the server has ended. Closing twice
// is fine.
func (s *Server) Close() {
	if proc := s.retire(); proc != nil {
		proc.kill()
	}
}

// Shutdown stops accepting, lets the requests in flight finish, and ends the
// server for good. When ctx is done first it aborts what is left and returns
// the context's error. It returns when every goroutine of the server has ended.
func (s *Server) Shutdown(ctx context.Context) error {
	if proc := s.retire(); proc != nil {
		return proc.shutdown(ctx)
	}
	return nil
}

// retire marks the server closed and returns what is left to end.
func (s *Server) retire() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detach()
	proc := s.proc
	s.proc, s.closed = nil, true
	return proc
}

// Kill crashes the server: the listener and all connections close at once, in
// the middle of whatever they were sending. Restart brings it back.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.killLocked()
}

func (s *Server) killLocked() {
	if s.proc != nil {
		s.proc.kill()
		s.proc = nil
	}
}

// Restart starts a server that was killed, or kills and starts one that runs.
// It comes back on the same address with an empty cache, counters at zero, a
// new start time and the adapters of Options.
func (s *Server) Restart() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.killLocked()
	listener, err := net.Listen(s.address.Network(), s.address.String())
	if err != nil {
		return fmt.Errorf("modelserver: restart: %w", err)
	}
	return s.serveLocked(listener)
}

// HangMetrics makes requests for /metrics wait, until it is called with false,
// the client gives up or the server ends.
func (s *Server) HangMetrics(on bool) { s.hang.Store(on) }

// GarbageMetrics makes /metrics answer 200 with something that is not a page of
// metrics.
func (s *Server) GarbageMetrics(on bool) { s.garbage.Store(on) }

// FailNext makes the next n inference requests fail with status 500. It
// replaces what an earlier call left; 0 ends it.
func (s *Server) FailNext(n int) { s.failures.Store(int64(n)) }

// Stats are the figures of a server since it was started last.
type Stats struct {
	Name    string
	Address string
	Up      bool      // false: killed or closed; all figures are zero then
	Started time.Time // when it was started last

	Running, Waiting int     // requests in the batch and in the queue, as last published
	KVUsage          float64 // 0..1
	RunningAdapters  []string
	WaitingAdapters  []string

	// Counters.
	Requests        uint64 // accepted by the engine
	Finished        uint64 // ended with all of their output
	Cancelled       uint64 // ended by the client or by the server
	QueriedTokens   uint64 // prompt tokens looked up in the prefix cache
	HitTokens       uint64 // those found
	PromptTokens    uint64
	GeneratedTokens uint64
	Preemptions     uint64
}

// Stats returns the figures that /metrics would show, for a program that runs
// the server itself.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	proc := s.proc
	s.mu.Unlock()
	if proc == nil {
		return Stats{Name: s.Name(), Address: s.Address()}
	}
	page := proc.published()
	m := &page.metrics
	return Stats{
		Name: s.Name(), Address: s.Address(), Up: true, Started: proc.started,
		Running: m.Running, Waiting: m.Waiting, KVUsage: m.KVUsage(),
		RunningAdapters: page.runningAdapters, WaitingAdapters: page.waitingAdapters,
		Requests: page.requests, Finished: m.Finished, Cancelled: m.Cancelled,
		QueriedTokens: m.QueriedTokens, HitTokens: m.HitTokens,
		PromptTokens: m.PromptTokens, GeneratedTokens: m.GeneratedTokens, Preemptions: m.Preemptions,
	}
}
