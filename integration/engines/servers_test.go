package engines_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/vllm"
)

var starting = flag.Duration("starting", 15*time.Minute, "how long servers that the tests start may take")

// queueLimit is above the fair share of a burst of burstSize, and below that of
// beyondLimit, over three servers.
const queueLimit = 18

// fleet are the real servers of all tests, started when the first test asks.
var fleet struct {
	once    sync.Once
	servers []*vllm.Server
	skip    string // why there are none
	err     error
}

func TestMain(m *testing.M) {
	flag.Parse()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		stopFleet()
		os.Exit(1)
	}()
	code := m.Run()
	stopFleet()
	os.Exit(code)
}

func stopFleet() {
	var all sync.WaitGroup
	defer all.Wait()
	stopRuntime(&all)
	stopKinds(&all)
	for _, s := range fleet.servers {
		all.Go(func() { _ = s.Close() })
	}
}

// servers returns the real servers, all of them awake. Without any the test is skipped.
func servers(t *testing.T) []*vllm.Server {
	t.Helper()
	fleet.once.Do(func() { startFleet(t) })
	if fleet.skip != "" {
		t.Skip(fleet.skip)
	}
	if fleet.err != nil {
		t.Fatal(fleet.err)
	}
	return fleet.servers
}

func startFleet(t *testing.T) {
	most := *starting
	if end, ok := t.Deadline(); ok {
		most = min(most, time.Until(end)-time.Minute)
	}
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	if fleet.servers = vllm.Running(os.Getenv); fleet.servers == nil {
		in, err := vllm.Find(os.Getenv)
		if errors.Is(err, vllm.ErrNone) {
			fleet.skip = err.Error()
			return
		}
		if err != nil {
			fleet.err = err
			return
		}
		logs, err := os.MkdirTemp("", "vllm-logs")
		if err != nil {
			fleet.err = err
			return
		}
		t.Logf("starting three servers, for at most %s; logs in %s", most, logs)
		for i, o := range []vllm.Options{{}, {Adapter: in.Adapter != ""}, {QueueLimit: queueLimit}} {
			s, err := in.Start(filepath.Join(logs, fmt.Sprintf("%d.log", i)), o)
			if err != nil {
				fleet.err = err
				return
			}
			fleet.servers = append(fleet.servers, s)
		}
	}
	for _, s := range fleet.servers {
		err := s.Ready(ctx, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
		if err == nil {
			err = s.Wake(ctx) // an earlier run may have been killed
		}
		if err != nil {
			fleet.err = fmt.Errorf("%w\n%s", err, s.Tail(40))
			return
		}
	}
}

// several returns the real servers if there are as many as the test needs.
func several(t *testing.T, n int) []*vllm.Server {
	t.Helper()
	all := servers(t)
	if len(all) < n {
		t.Skipf("%d servers are needed, there are %d", n, len(all))
	}
	return all
}

// with returns the servers that list a model, and those that do not.
func with(t *testing.T, all []*vllm.Server, model string) (have, lack []*vllm.Server) {
	t.Helper()
	for _, s := range all {
		models, err := s.Models(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(models, model) {
			have = append(have, s)
		} else {
			lack = append(lack, s)
		}
	}
	return have, lack
}

// before starts a gateway before servers, and waits until it has read them all.
func before(t *testing.T, servers []*vllm.Server) *gateway {
	t.Helper()
	g := newGateway(t, addresses(servers)...)
	ready(t, g)
	return g
}

// ready waits until a gateway has read all its servers.
func ready(t *testing.T, g *gateway) {
	t.Helper()
	if !within(t, 20*time.Second, "the servers' metrics", func() bool {
		for _, ep := range g.endpoints() {
			if !ep.Metrics.Running.IsKnown() {
				return false
			}
		}
		return true
	}) {
		t.FailNow()
	}
}

func addresses(servers []*vllm.Server) []string {
	var all []string
	for _, s := range servers {
		all = append(all, s.Address)
	}
	return all
}

// metric is Server.Metric, which must be there.
func metric(t *testing.T, s *vllm.Server, name string, labels ...string) float64 {
	t.Helper()
	v, err := s.Metric(context.Background(), name, labels...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// quiet waits until servers have nothing to do any more.
func quiet(t *testing.T, servers []*vllm.Server) {
	t.Helper()
	within(t, 2*time.Minute, "the servers to have nothing to do", func() bool {
		for _, s := range servers {
			if metric(t, s, "vllm:num_requests_running")+metric(t, s, "vllm:num_requests_waiting") > 0 {
				return false
			}
		}
		return true
	})
}
