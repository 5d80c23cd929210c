package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// addresses are where the parts listen.
type addresses struct{ picker, health, metrics, admin string }

// defaultAddresses are the picker's own defaults, on loopback, and what the bootstrap files say.
var defaultAddresses = addresses{picker: "127.0.0.1:9002", health: "127.0.0.1:9003", metrics: "127.0.0.1:9090", admin: "127.0.0.1:19000"}

// run starts everything, waits until ctx is done, and ends everything.
func run(ctx context.Context, s settings, stdout, stderr io.Writer) error {
	bin, err := envoyproxy.Find(home(), ".")
	if err != nil {
		return err
	}
	bootstrap, err := envoyproxy.ReadBootstrap(s.bootstrap)
	if err != nil {
		return err
	}
	if err := s.fits(bootstrap); err != nil {
		return err
	}
	servers, err := startServers(ctx, s.config)
	defer servers.close()
	if err != nil {
		return err
	}
	if err := errors.Join(bootstrap.Listen(s.listen, s.at.admin), bootstrap.Servers(servers.at...)); err != nil {
		return err
	}
	start := startPicker
	if s.module {
		start = buildModule
	}
	picker, err := start(ctx, s, bootstrap, stdout, stderr)
	if err != nil {
		return err
	}
	defer picker.stop() // after Envoy, so that what is under way ends well
	envoy, err := envoyproxy.Start(ctx, envoyproxy.StartOptions{
		Bin: bin, Bootstrap: bootstrap, Modules: picker.modules, ModulesLogLevel: s.logLevel().String(), Log: stderr,
	})
	if err != nil {
		return err
	}
	defer envoy.Stop()
	greet(stdout, s, envoy.URL(), picker.metrics, len(servers.at))

	select {
	case <-ctx.Done():
		return nil
	case <-envoy.Done():
		return errors.New("envoy has ended")
	case err := <-picker.ended:
		return fmt.Errorf("the picker has ended: %w", err)
	}
}

// fits says what is wrong with a bootstrap file for the way that Envoy is to ask the picker.
func (s *settings) fits(b *envoyproxy.Bootstrap) error {
	switch {
	case s.module && !b.HasModule():
		return fmt.Errorf("%s has no filter of a dynamic module, which -module is for", s.bootstrap)
	case !s.module && b.HasModule():
		return fmt.Errorf("%s has the picker as a dynamic module: want -module", s.bootstrap)
	}
	return nil
}

// servers are simulated model servers.
type servers struct {
	running []*modelserver.Server
	at      []string // their addresses
}

func (s *servers) close() {
	for _, server := range s.running {
		server.Close()
	}
}

// startServers simulates a model server at each address in a configuration. Those that it returns with an error
// are to be closed, too.
func startServers(ctx context.Context, path string) (s servers, err error) {
	c, err := epp.Loader(false).Load(path)
	if err != nil {
		return s, err
	}
	for _, pool := range c.Pools() {
		for _, spec := range c.Change.Endpoints[pool] {
			name := cmp.Or(spec.ID, spec.Address)
			ln, err := net.Listen("tcp", spec.Address)
			if err != nil {
				return s, fmt.Errorf("model server %s: %w", name, err)
			}
			server, err := modelserver.Start(ctx, modelserver.Options{
				Name: name, Models: []string{"llama-8b"}, Adapters: []string{"chat-canary"}, MaxOutput: 256, Listener: ln,
			})
			if err != nil {
				ln.Close()
				return s, fmt.Errorf("model server %s: %w", name, err)
			}
			s.running, s.at = append(s.running, server), append(s.at, spec.Address)
		}
	}
	return s, nil
}

func greet(w io.Writer, s settings, url, metrics string, servers int) {
	parts := "the picker, and Envoy"
	if s.module {
		parts = "and Envoy, which has the picker inside of it,"
	}
	fmt.Fprintf(w, `%d simulated model servers, %s with %s

  Try it      curl -i %s/v1/chat/completions \
                -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
  Why there?  curl http://%s/explain \
                -d '{"model":"chat","messages":[{"role":"user","content":"hi"}]}'
  Metrics     http://%s/metrics        Envoy's own: http://%s
  Change it   %s, while it runs
  Stop        Ctrl-C

`, servers, parts, s.bootstrap, url, metrics, metrics, s.at.admin, s.config)
}
