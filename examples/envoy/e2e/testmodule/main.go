// Testmodule is the module that tests load into Envoy: the one that is shipped, which tells what it knows and panics
// where it is told to. See package control.
package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/e2e/testmodule/control"
	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/module/hooks"
	"github.com/inferpick/inferpick/examples/envoy/module/instance"
)

func init() {
	m := new(testModule)
	m.all = instance.New(instance.Options{
		NewLogger: func() *slog.Logger { return slog.New(panickingHandler{hooks.NewLogger().Handler()}) },
		Change:    m.change,
	})
	if path := os.Getenv(control.Env); path != "" {
		server := control.Server{State: m.state, Views: &m.views, Arm: armed.set}
		go func() { fmt.Fprintln(os.Stderr, "control:", server.Serve(path)) }()
	}
	hooks.Register(faultyModule{m.all})
}

func main() {} // Envoy's is the one that counts

// testModule is what there is once in a process.
type testModule struct {
	all     *instance.Instances
	views   control.Views
	tracer  countingTracer
	started startCounts
}

// change is how pickers of tests differ: they tell of themselves, and read their files again without waiting.
func (m *testModule) change(name string, o *epp.Options) {
	m.started.add(name)
	o.ReloadInterval, o.DrainTimeout = 20*time.Millisecond, time.Second
	m.views.Watch(o)
	onRoute, onServed := o.OnRoute, o.OnServed
	o.OnRoute = panickingRoute(onRoute)
	o.OnServed = panickingServed(onServed)
	o.Tracer = &m.tracer
}

func (m *testModule) state(name string) (s control.State) {
	if app := m.all.App(name); app != nil {
		s = control.StateOf(app)
	}
	s.Started, s.Exchanges, s.Panics = m.started.of(name), int(m.tracer.open.Load()), armed.count()
	return s
}
