package modelserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// process is a server from its start to its end. A restarted server is another
// process.
type process struct {
	server  *Server
	opts    *Options
	started time.Time
	models  *models
	events  Publisher // nil: nobody publishes
	loop    *loop
	slot    *slot
	stores
	ids atomic.Uint64 // of replies

	http    http.Server
	mux     *http.ServeMux
	ctx     context.Context    // of the engine, of every handler and every job
	cancel  context.CancelFunc // ends it
	ending  atomic.Bool        // the server has begun to end
	running sync.WaitGroup     // the engine, the listener and each connection
}

// newProcess starts serving on the listener.
func newProcess(s *Server, listener net.Listener) (*process, error) {
	opts := &s.opts
	e, err := engine.New(engine.Config{Calibration: opts.Calibration, Blocks: opts.KVBlocks, MaxSeqs: opts.MaxSeqs, MaxLoRAs: opts.MaxLoRAs, Changes: opts.Events != nil})
	if err != nil {
		return nil, err
	}
	var events Publisher
	if opts.Events != nil {
		if events, err = opts.Events(); err != nil {
			return nil, fmt.Errorf("modelserver: events: %w", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{server: s, opts: opts, started: time.Now(), models: newModels(opts.Models, opts.Adapters), events: events, ctx: ctx, cancel: cancel}
	p.slot, p.stores = newSlot(opts.TimeScale, opts.Denoise), newStores()
	p.loop = newLoop(e, opts.TimeScale, p.models, events)
	p.http = http.Server{
		Handler:           p.handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         p.countConnection,
		ErrorLog:          slog.NewLogLogger(opts.Logger.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 30 * time.Second,
	}
	p.running.Go(func() { p.loop.run(ctx) })
	p.running.Go(func() {
		if err := p.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			opts.Logger.Error("simulated model server stopped accepting", "err", err)
		}
	})
	opts.Logger.Info("simulated model server started", "address", listener.Addr().String())
	return p, nil
}

// kill ends the process as a crash would, and returns when it has ended.
func (p *process) kill() {
	p.ending.Store(true)
	// Connections first: a handler that sees its context done could otherwise
	// end its reply in good order.
	p.http.Close()
	p.cancel()
	p.ended()
	p.opts.Logger.Info("simulated model server killed")
}

// shutdown lets the requests in flight finish, until ctx is done at most.
func (p *process) shutdown(ctx context.Context) error {
	p.ending.Store(true)
	err := p.http.Shutdown(ctx)
	if err != nil {
		p.http.Close()
	}
	p.cancel()
	p.ended()
	p.opts.Logger.Info("simulated model server shut down", "err", err)
	return err
}

// ended returns when all goroutines of the process have ended.
func (p *process) ended() {
	p.running.Wait()
	if p.events != nil {
		p.events.Close()
	}
}

// countConnection counts connections in running. There is no new one once the listener's
// goroutine has ended.
func (p *process) countConnection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.running.Add(1)
	case http.StateClosed, http.StateHijacked:
		p.running.Done()
	}
}

// handler routes the requests of a process.
func (p *process) handler() http.Handler {
	mux := http.NewServeMux()
	p.mux = mux
	p.handle(mux)
	mux.HandleFunc("GET /v1/models", p.serveModels)
	if !p.opts.FixedAdapters {
		mux.HandleFunc("POST /v1/load_lora_adapter", p.serveLoadAdapter)
		mux.HandleFunc("POST /v1/unload_lora_adapter", p.serveUnloadAdapter)
	}
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /metrics", p.serveMetrics)
	if p.events != nil {
		mux.Handle("GET /kv_event_sources", p.events)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "simulated-model-server")
		w.Header().Set("X-Sim-Server", p.opts.Name)
		mux.ServeHTTP(w, r)
	})
}

// fails reports whether the request at hand is one that FailNext asks to fail.
func (p *process) fails() bool {
	failures := &p.server.failures
	for n := failures.Load(); n > 0; n = failures.Load() {
		if failures.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

// hangMetrics waits while metrics hang, and until the client or the server ends at most.
func (p *process) hangMetrics(ctx context.Context) {
	for p.server.hang.Load() && !p.ending.Load() && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}
