package directortest

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// New creates a gateway in front of model servers, given as host:port. It must stop what it started
// with t.Cleanup.
type New func(t *testing.T, endpoints []string) http.Handler

// Options say what to expect of a gateway. The zero value expects everything.
type Options struct {
	// Skip lists groups and subtests of Run to leave out, such as "hangs" or "endings/gzip".
	Skip []string
	// NoRetries declares that the gateway does not retry on another server: a request that meets a
	// failing server may be answered with a status of 500 or above.
	NoRetries bool
	// Admin lists the paths by which no client may reach a server. Default AdminPaths.
	Admin []string
	// Skew is the largest part of a burst that a server may get, as a multiple of its share. Default
	// 1.5.
	Skew float64
	// Recovery is how long a recovered server may go unused. Default 10s.
	Recovery time.Duration
	// Patience is how long clients wait for a response. Default 5s.
	Patience time.Duration
	// HeapGrowth is how much the heap may grow during a thousand requests, in bytes. Default 8 MiB.
	HeapGrowth int64
	// Settle is the time between the start of a gateway and the first request. Default none.
	Settle time.Duration
}

// AdminPaths returns paths that administer model servers or return information not meant for
// clients.
func AdminPaths() []string {
	return []string{
		"/metrics", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/is_sleeping",
		"/reset_prefix_cache", "/reset_mm_cache", "/start_profile", "/stop_profile", "/collective_rpc", "/scale_elastic_ep",
		"/server_info", "/flush_cache", "/update_weights_from_disk", "/v2/repository/models/tiny/unload",
	}
}

// Run tests a gateway. Each subtest has its own fleet and gateway. It takes about a minute, or half
// of that with -short.
func Run(t *testing.T, gateway New) { RunWith(t, Options{}, gateway) }

// RunWith is Run with options.
func RunWith(t *testing.T, o Options, gateway New) { newRunner(t, o, gateway).run(t) }

func newRunner(t *testing.T, o Options, gateway New) *runner {
	return &runner{o: o, gateway: gateway, root: t.Name(), report: func(t *testing.T, message string) {
		t.Helper()
		t.Error(message)
	}}
}

// runner is one call of Run.
type runner struct {
	o       Options
	gateway New
	root    string
	report  func(t *testing.T, message string) // safe for concurrent use
	only    []string                           // subtests to run; nil: all
}

func (r *runner) run(t *testing.T) {
	r.defaults()
	before := runtime.NumGoroutine()
	for _, g := range []struct {
		name string
		run  func(*runner, *testing.T)
	}{
		{"healthy", (*runner).healthy},
		{"endings", (*runner).endings},
		{"faults", (*runner).faults},
		{"poison", (*runner).poison},
		{"clients", (*runner).clients},
		{"requests", (*runner).requests},
		{"trust", (*runner).trust},
		{"readings", (*runner).readings},
		{"connections", (*runner).connections},
		{"hangs", (*runner).hangs},
		{"recovery", (*runner).recovery},
		{"leaks", (*runner).leaks},
	} {
		r.sub(t, g.name, func(t *testing.T) { g.run(r, t) })
	}
	r.sub(t, "goroutines", func(t *testing.T) {
		r.leftGoroutines(t, before+1) // with this subtest's own
	})
}

// leftGoroutines reports goroutines that are left when everything is closed.
func (r *runner) leftGoroutines(t *testing.T, before int) {
	if left := settled(before, r.o.Patience); left > before {
		buf := make([]byte, 1<<16)
		r.report(t, fmt.Sprintf("%d goroutines are left of %d when all is closed:\n%s", left, before, buf[:runtime.Stack(buf, true)]))
	}
}

func (r *runner) defaults() {
	o := &r.o
	if o.Admin == nil {
		o.Admin = AdminPaths()
	}
	setDefault(&o.Skew, 1.5)
	setDefault(&o.Recovery, 10*time.Second)
	setDefault(&o.Patience, 5*time.Second)
	setDefault(&o.HeapGrowth, 8<<20)
}

// setDefault sets *v to def unless it is positive.
func setDefault[T int | int64 | uint64 | float64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// sub runs a subtest, unless it is left out.
func (r *runner) sub(t *testing.T, name string, f func(*testing.T)) {
	whole := strings.TrimPrefix(t.Name()+"/"+name, r.root+"/")
	if slices.Contains(r.o.Skip, whole) || r.only != nil && !slices.ContainsFunc(r.only, func(one string) bool {
		return within(one, whole) || within(whole, one)
	}) {
		return
	}
	t.Run(name, f)
}

// within reports whether a subtest is group or in it.
func within(name, group string) bool { return name == group || strings.HasPrefix(name, group+"/") }

// settled waits until there are no more goroutines than before, and returns their number.
func settled(before int, patience time.Duration) int {
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if n := runtime.NumGoroutine(); n <= before || time.Now().After(until) {
			return n
		}
	}
}
