package modelserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// process is a server from its start to its end. A restarted server is another
// process.
type process struct {
	opts    *Options
	faults  *faults
	started time.Time
	models  *models
	loop    *loop
	ids     atomic.Uint64 // of replies

	http   http.Server
	cancel context.CancelFunc // ends the engine and every handler
	ending chan struct{}      // closed when the server begins to end
	served chan struct{}      // closed when no more connections are accepted
	ran    chan struct{}      // closed when the engine's goroutine ended
	conns  sync.WaitGroup
}

// newProcess starts serving on the listener.
func newProcess(opts *Options, faults *faults, listener net.Listener) (*process, error) {
	e, err := opts.engine()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		opts:    opts,
		faults:  faults,
		started: time.Now(),
		models:  newModels(opts.Models, opts.Adapters),
		cancel:  cancel,
		ending:  make(chan struct{}),
		served:  make(chan struct{}),
		ran:     make(chan struct{}),
	}
	p.loop = newLoop(e, opts.TimeScale, p.models)
	p.http = http.Server{
		Handler:           p.handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         p.countConnection,
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 30 * time.Second,
	}
	go func() {
		defer close(p.ran)
		p.loop.run(ctx)
	}()
	go func() {
		defer close(p.served)
		if err := p.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			opts.Logger.Error("simulated model server stopped accepting", "err", err)
		}
	}()
	opts.Logger.Info("simulated model server started", "address", listener.Addr().String())
	return p, nil
}

// kill ends the process as a crash would, and returns when it has ended.
func (p *process) kill() {
	close(p.ending)
	// Connections first: a handler that sees its context done could otherwise
	// end its reply in good order.
	p.http.Close()
	p.wait()
	p.opts.Logger.Info("simulated model server killed")
}

// shutdown lets the requests in flight finish, until ctx is done at most.
func (p *process) shutdown(ctx context.Context) error {
	close(p.ending)
	err := p.http.Shutdown(ctx)
	if err != nil {
		p.http.Close()
	}
	p.wait()
	p.opts.Logger.Info("simulated model server shut down", "err", err)
	return err
}

// wait returns when every goroutine of the process has ended.
func (p *process) wait() {
	p.cancel()
	<-p.served // no connection is added from here on
	p.conns.Wait()
	<-p.ran
}

func (p *process) countConnection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		p.conns.Done()
	}
}
