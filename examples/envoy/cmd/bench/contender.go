package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
)

// contender is one way to choose a server.
type contender struct {
	name    string
	envoy   *envoyproxy.Process
	picker  *child // nil: there is none beside Envoy
	metrics string // where profiles are; empty: nowhere
}

// Names of contenders that others are compared with.
const (
	roundRobin = "round robin"
	extProc    = "ext_proc: inferpick"
)

// kinds are all contenders, in the order of their turns, and how the others than Envoy come in.
var kinds = []struct {
	name   string
	file   string // of Envoy's configuration
	role   string // of the picker's process
	module string // folder of the module
}{
	{name: roundRobin, file: "envoy.yaml"},
	{name: "ext_proc: empty", file: "envoy.yaml", role: "empty"},
	{name: extProc, file: "envoy.yaml", role: "picker"},
	{name: "module: empty", file: "envoy-module.yaml", module: "cmd/bench/emptymodule"},
	{name: "module: inferpick", file: "envoy-module.yaml", module: "module"},
}

// setup is what contenders are started with.
type setup struct {
	home, bin      string
	only           *regexp.Regexp
	workers        int // of Envoy
	pickerProcs    int
	moduleProcs    int      // 0: Go's default
	folder, config string   // of this run, and the picker's file in it
	addresses      []string // of the servers
	started        []*contender
}

// start starts all contenders that are wanted.
func (s *setup) start(ctx context.Context) error {
	for _, kind := range kinds {
		if !s.only.MatchString(kind.name) {
			continue
		}
		boot, err := s.bootstrap(kind.file)
		if err != nil {
			return err
		}
		c := &contender{name: kind.name}
		s.started = append(s.started, c)
		o := envoyproxy.StartOptions{Bin: s.bin, Bootstrap: boot, Concurrency: s.workers}
		switch {
		case kind.role != "":
			if c.picker, err = startChild(ctx, kind.role, s.config, s.pickerProcs); err != nil {
				return err
			}
			c.metrics = c.picker.metrics
			err = boot.Picker(c.picker.address)
		case kind.module != "":
			if o.Modules, err = s.build(ctx, kind.module); err != nil {
				return err
			}
			if s.moduleProcs > 0 {
				o.Env = []string{fmt.Sprintf("GOMAXPROCS=%d", s.moduleProcs)}
			}
			c.metrics, err = s.configure(boot, kind.module)
		default:
			cluster := boot.Cluster("model_servers")
			cluster.LoadBalancingPolicy, cluster.LbPolicy = nil, clusterv3.Cluster_ROUND_ROBIN
			err = boot.WithoutPicker()
		}
		if err != nil {
			return err
		}
		if c.envoy, err = envoyproxy.Start(ctx, o); err != nil {
			return err
		}
	}
	if len(s.started) == 0 {
		return errors.New("-only matches no contender")
	}
	return nil
}

// bootstrap reads a configuration of Envoy's and gives it free ports and the servers. Picker and Envoy talk in
// plain, the empty picker too: what is measured is what a picker costs, and not what TLS does.
func (s *setup) bootstrap(file string) (*envoyproxy.Bootstrap, error) {
	b, err := envoyproxy.ReadBootstrap(filepath.Join(s.home, file))
	if err != nil {
		return nil, err
	}
	if picker := b.Cluster("endpoint_picker"); picker != nil {
		picker.TransportSocket = nil
	}
	return b, errors.Join(b.Listen("127.0.0.1:0", "127.0.0.1:0"), b.Servers(s.addresses...))
}

// build builds a module into a folder of its own, which it returns.
func (s *setup) build(ctx context.Context, module string) (folder string, err error) {
	fmt.Fprintf(os.Stderr, "building %s as a shared library: minutes, the first time\n", module)
	folder, err = os.MkdirTemp(s.folder, "module")
	if err != nil {
		return "", err
	}
	return folder, envoyproxy.BuildModule(ctx, filepath.Join(s.home, module), folder)
}

// configure says to a module what it needs.
func (s *setup) configure(b *envoyproxy.Bootstrap, module string) (metrics string, err error) {
	if module != "module" {
		var servers []any
		for _, a := range s.addresses {
			servers = append(servers, a)
		}
		return "", b.Module(map[string]any{"servers": servers})
	}
	// Which port it has it would tell nobody.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	metrics = ln.Addr().String()
	ln.Close()
	return metrics, b.Module(map[string]any{"config": s.config, "metrics-addr": metrics, "pprof": true, "explain": nil})
}
