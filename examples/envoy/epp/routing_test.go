package epp_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

const selectionHeader = "test-epp-endpoint-selection"

// TestHeaderBasedTestingFilter: a client may choose its server where that was declared.
func TestHeaderBasedTestingFilter(t *testing.T) {
	t.Parallel()
	r := start(t, base+pickerHead+"plugins: [{type: header-based-testing-filter}, {type: round-robin-picker}]\n", nil)
	c := r.client()
	for range 2 {
		for _, tt := range []struct{ value, want string }{
			{addressC, addressC}, {"10.0.0.2", addressB}, {addressA, addressA}, {" 10.9.9.9:1 , " + addressB, addressB},
		} {
			if got := exchanged(t, c, "chat", selectionHeader, tt.value); got != tt.want {
				t.Errorf("%s: goes to %s, want %s", tt.value, got, tt.want)
			}
		}
	}
	if status, _ := refused(t, c, "chat", selectionHeader, "10.9.9.9:1"); status != 503 {
		t.Errorf("a server that is not there: status %d", status)
	}
	seen := make(map[string]bool)
	for range 6 {
		seen[exchanged(t, c, "chat")] = true
	}
	if len(seen) != 3 {
		t.Errorf("without the header requests go to %v, want all", seen)
	}
}

func TestTrapSelectionHeaderUndeclared(t *testing.T) {
	t.Parallel()
	r := start(t, base+roundRobin, nil)
	c := r.client()
	for _, want := range []string{addressA, addressB, addressC} {
		if got := exchanged(t, c, "chat", selectionHeader, addressC); got != want {
			t.Errorf("goes to %s, want %s: the header must have no effect", got, want)
		}
	}
}

// TestPoolOfAPort: Options.Pool is the pool of every request.
func TestPoolOfAPort(t *testing.T) {
	t.Parallel()
	text := base + poolYAML("qwen") + endpointsYAML("qwen", "10.0.1.1:8000")
	r := start(t, text, func(o *epp.Options) { o.Pool.Namespace, o.Pool.Name = "default", "qwen" })
	if got := exchanged(t, r.client(), "anything"); got != "10.0.1.1:8000" {
		t.Errorf("goes to %s", got)
	}
}

func TestCallbacks(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, s)
	}
	r := start(t, base+roundRobin, func(o *epp.Options) {
		o.OnRoute = func(r epp.Routed) { note("route " + r.Request.Model + " as " + r.Request.TargetModel) }
		o.OnServed = func(_ epp.Routed, address string) { note("served by " + address) }
	})
	exchanged(t, r.client(), "chat")
	mu.Lock()
	defer mu.Unlock()
	if want := "route chat as llama-8b, served by " + addressA; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
