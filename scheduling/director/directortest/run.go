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

// New makes a gateway in front of the model servers at the endpoints, each as host:port. What it
// starts must end with t.Cleanup.
type New func(t *testing.T, endpoints []string) http.Handler

// Options say what to expect of a gateway. The zero value is good: it expects all.
type Options struct {
	// Skip leaves out groups and subtests, by their names as Run has them: "hangs", or
	// "endings/gzip".
	Skip []string
	// NoRetries says that the gateway does not go on to another server: a request that meets a
	// server that fails may be answered with a status of 500 or above.
	NoRetries bool
	// Admin are the paths that no client may reach a server by. Default: AdminPaths.
	Admin []string
	// Skew is how many times its share of a burst a server may get. Default 1.5.
	Skew float64
	// Recovery is how long a server that is well again may go unused. Default 10 s.
	Recovery time.Duration
	// Patience is how long clients that stay wait for an answer. Default 5 s.
	Patience time.Duration
	// HeapGrowth is how much the heap may grow by a thousand requests, in bytes. Default 8 MiB.
	HeapGrowth int64
	// Settle is how long a new gateway is left to itself before the first request. Default: not
	// at all.
	Settle time.Duration
}

// AdminPaths are paths by which model servers are administered, or tell what is not for clients.
func AdminPaths() []string {
	return []string{
		"/metrics", "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/wake_up", "/is_sleeping",
		"/reset_prefix_cache", "/reset_mm_cache", "/start_profile", "/stop_profile", "/collective_rpc", "/scale_elastic_ep",
		"/server_info", "/flush_cache", "/update_weights_from_disk", "/v2/repository/models/tiny/unload",
	}
}

// Run tests a gateway. Each subtest has a fleet and a gateway of its own; it takes about a minute
// in all, half of that with -short.
func Run(t *testing.T, gateway New) { RunWith(t, Options{}, gateway) }

// RunWith is Run for a gateway of which not all is to be expected.
func RunWith(t *testing.T, o Options, gateway New) {
	(&runner{o: o, gateway: gateway, root: t.Name(), report: func(t *testing.T, message string) {
		t.Helper()
		t.Error(message)
	}}).run(t)
}

// runner is one call of Run.
type runner struct {
	o       Options
	gateway New
	root    string
	report  func(t *testing.T, message string) // from any goroutine
	only    []string                           // the subtests that are run; nil: all
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
		before++ // this subtest's own
		if left := settled(before, r.o.Patience); left > before {
			buf := make([]byte, 1<<16)
			r.report(t, fmt.Sprintf("%d goroutines are left of %d when all is closed:\n%s", left, before, buf[:runtime.Stack(buf, true)]))
		}
	})
}

func (r *runner) defaults() {
	o := &r.o
	if o.Admin == nil {
		o.Admin = AdminPaths()
	}
	if o.Skew == 0 {
		o.Skew = 1.5
	}
	if o.Recovery == 0 {
		o.Recovery = 10 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 5 * time.Second
	}
	if o.HeapGrowth == 0 {
		o.HeapGrowth = 8 << 20
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

// within reports whether a subtest is another one, or in its group.
func within(name, group string) bool { return name == group || strings.HasPrefix(name, group+"/") }

// settled waits until there are no more goroutines than there were, and returns how many there are.
func settled(before int, patience time.Duration) int {
	for until := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if n := runtime.NumGoroutine(); n <= before || time.Now().After(until) {
			return n
		}
	}
}
