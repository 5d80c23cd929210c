package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

// addresses are where the parts listen.
type addresses struct{ picker, health, metrics, admin string }

// defaultAddresses are the picker's own defaults, on loopback, and what envoy.yaml says.
var defaultAddresses = addresses{picker: "127.0.0.1:9002", health: "127.0.0.1:9003", metrics: "127.0.0.1:9090", admin: "127.0.0.1:19000"}

// run starts everything, waits until ctx is done, and ends everything.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	bin, err := envoyproxy.Find(home(), ".")
	if err != nil {
		return err
	}
	level := slog.LevelInfo
	if s.debug {
		level = slog.LevelDebug
	}
	bootstrap, err := envoyproxy.ReadBootstrap(s.bootstrap)
	if err != nil {
		return err
	}
	app, err := epp.New(epp.Options{
		Config: s.config, GRPCAddr: s.at.picker, HealthAddr: s.at.health, MetricsAddr: s.at.metrics,
		MaxDestinations: bootstrap.MaxDestinations(),
		Explain:         true, // on loopback, of made-up servers
		Logger:          slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	defer app.Close()

	servers, servedAt, err := startServers(ctx, app)
	defer func() {
		for _, server := range servers {
			server.Close()
		}
	}()
	if err != nil {
		return err
	}
	for _, err := range []error{
		bootstrap.Listen(s.listen, s.at.admin), bootstrap.Picker(app.Address()),
		bootstrap.Servers(servedAt...), bootstrap.FailOpen(failsOpen(app)),
	} {
		if err != nil {
			return err
		}
	}

	// The picker outlives Envoy, so that what is under way ends well.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- app.Run(serving) }()
	defer func() {
		stop()
		<-ended
	}()
	envoy, err := envoyproxy.Start(ctx, envoyproxy.StartOptions{Bin: bin, Bootstrap: bootstrap, Log: stderr})
	if err != nil {
		return err
	}
	defer envoy.Stop()
	greet(stdout, s, envoy.URL(), app.MetricsAddress(), len(servers))

	select {
	case <-ctx.Done():
		return nil
	case <-envoy.Done():
		return errors.New("envoy has ended")
	case err := <-ended:
		ended <- err
		return fmt.Errorf("the picker has ended: %w", err)
	}
}

// startServers simulates a model server at each address in the configuration.
func startServers(ctx context.Context, app *epp.App) (servers []*modelserver.Server, at []string, err error) {
	for _, pool := range app.Store().Snapshot().Pools() {
		for _, ep := range pool.Endpoints() {
			ln, err := net.Listen("tcp", ep.Address)
			if err != nil {
				return servers, nil, fmt.Errorf("model server %s: %w", ep.ID, err)
			}
			server, err := modelserver.Start(ctx, modelserver.Options{
				Name: ep.ID, Models: []string{"llama-8b"}, Adapters: []string{"chat-canary"}, MaxOutput: 256, Listener: ln,
			})
			if err != nil {
				ln.Close()
				return servers, nil, fmt.Errorf("model server %s: %w", ep.ID, err)
			}
			servers, at = append(servers, server), append(at, ep.Address)
		}
	}
	return servers, at, nil
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

func greet(w io.Writer, s settings, url, metrics string, servers int) {
	fmt.Fprintf(w, `%d simulated model servers, the picker, and Envoy with %s

  Try it      curl -i %s/v1/chat/completions \
                -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
  Why there?  curl http://%s/explain \
                -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
  Metrics     http://%s/metrics        Envoy's own: http://%s
  Change it   %s, while it runs
  Stop        Ctrl-C

`, servers, s.bootstrap, url, metrics, metrics, s.at.admin, s.config)
}
