package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/types"
)

// part is the picker, as Envoy is to find it.
type part struct {
	metrics string       // its address
	modules string       // Envoy's folder of modules, empty if there is none
	ended   <-chan error // why it has ended; nil: it ends with Envoy
	stop    func()
}

func (s *settings) logLevel() slog.Level {
	if s.debug {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// startPicker runs the picker beside Envoy, which asks it by ext_proc.
func startPicker(ctx context.Context, s settings, bootstrap *envoyproxy.Bootstrap, _, stderr io.Writer) (*part, error) {
	app, err := epp.New(epp.Options{
		Config: s.config, GRPCAddr: s.at.picker, HealthAddr: s.at.health, MetricsAddr: s.at.metrics,
		MaxDestinations: bootstrap.MaxDestinations(),
		Explain:         true, // on loopback, of made-up servers
		Logger:          slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: s.logLevel()})),
	})
	if err != nil {
		return nil, err
	}
	for _, err := range []error{bootstrap.Picker(app.Address()), bootstrap.FailOpen(failsOpen(app))} {
		if err != nil {
			app.Close()
			return nil, err
		}
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		ended <- app.Run(running)
	}()
	return &part{metrics: app.MetricsAddress(), ended: ended, stop: func() {
		cancel()
		<-done
	}}, nil
}

// failsOpen reports whether Envoy is to go on without the picker, by the manifests.
func failsOpen(app *epp.App) bool {
	for _, pool := range app.Store().Snapshot().Pools() {
		if m := pool.Manifest(); m != nil && m.Spec.EndpointPickerRef != nil && m.Spec.EndpointPickerRef.FailureMode == types.FailOpen {
			return true
		}
	}
	return false
}

// buildModule builds the picker that Envoy is to load.
func buildModule(ctx context.Context, s settings, bootstrap *envoyproxy.Bootstrap, stdout, _ io.Writer) (*part, error) {
	err := bootstrap.Module(map[string]any{"config": s.config, "metrics-addr": s.at.metrics, "explain": true})
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "envoy-module")
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(stdout, "Building the picker as a module of Envoy's. The first time may take minutes: all that is in it is compiled once more, for a shared library.")
	if err := envoyproxy.BuildModule(ctx, filepath.Join(home(), "module"), folder); err != nil {
		os.RemoveAll(folder)
		return nil, err
	}
	return &part{metrics: s.at.metrics, modules: folder, stop: func() { os.RemoveAll(folder) }}, nil
}
