// Package control is what tests ask a picker: in their own process, and, by a server of its own, inside of Envoy's.
package control

import (
	"maps"
	"runtime"
	"sync"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/director"
)

// Env is the environment's variable that says at which path of a socket the module inside Envoy is asked.
const Env = "INFERPICK_TEST_CONTROL"

// State is what can be told of a picker at a time.
type State struct {
	Running bool
	Started int // how many pickers of the name there have been
	Booked  int // requests on endpoints
	Open    int // decisions that are booked and not done
	// Exchanges are those that have begun and were not closed. Of a picker in the test's process it is not known.
	Exchanges  int
	Panics     int    // of what is armed
	Metrics    string // address
	Goroutines int    // of the process
	Heap       uint64 // of the process, in bytes
}

// StateOf returns the state of a picker.
func StateOf(app *epp.App) State {
	s := State{Running: true, Open: app.Open(), Metrics: app.MetricsAddress(), Goroutines: runtime.NumGoroutine()}
	for _, p := range app.Store().Snapshot().Pools() {
		for _, ep := range p.Endpoints() {
			s.Booked += int(ep.Load.Requests())
		}
	}
	return s
}

// Heap returns what the process has in its heap, in bytes, when garbage was collected.
func Heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// View is what a picker saw of a request: addresses, empty for what it has not seen.
type View struct{ Chosen, Served string }

// Views are what a picker saw, by the session that a test gives each request: Envoy makes request ids of its own
// for clients from outside. Its zero value has none; its methods may be called from any goroutine.
type Views struct {
	mu sync.Mutex
	m  map[string]View // guarded by mu
}

// Watch has a picker tell what it sees.
func (v *Views) Watch(o *epp.Options) {
	o.OnRoute = func(route *director.Route) {
		v.change(route, func(one *View) { one.Chosen = route.Endpoint().Address })
	}
	o.OnServed = func(route *director.Route, address string) {
		v.change(route, func(one *View) { one.Served = address })
	}
}

func (v *Views) change(route *director.Route, change func(*View)) {
	session := route.Request.SessionID
	if session == "" {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.m[session]
	change(&one)
	if v.m == nil {
		v.m = map[string]View{}
	}
	v.m[session] = one
}

// Reset forgets all.
func (v *Views) Reset() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.m = nil
}

// All returns what was seen of each session.
func (v *Views) All() map[string]View {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.m)
}

// Of returns what was seen of one.
func (v *Views) Of(session string) View {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.m[session]
}
