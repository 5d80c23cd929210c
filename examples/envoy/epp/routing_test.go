package epp_test

import (
	"strings"
	"sync"
	"testing"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
	"github.com/inferpick/inferpick/scheduling/director"
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
		o.OnRoute = func(r *director.Route) { note("route " + r.Request.Model + " as " + r.Request.TargetModel) }
		o.OnServed = func(_ *director.Route, address string) { note("served by " + address) }
	})
	exchanged(t, r.client(), "chat")
	mu.Lock()
	defer mu.Unlock()
	if want := "route chat as llama-8b, served by " + addressA; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLargeMessages: a body that is buffered comes in one message, which may be larger
// than gRPC takes by default, and not larger than what MaxBody needs.
func TestLargeMessages(t *testing.T) {
	r := start(t, base, func(o *epp.Options) { o.MaxBody = 8 << 20 })
	for _, tt := range []struct {
		size int
		want codes.Code
	}{{7 << 20, codes.OK}, {20 << 20, codes.ResourceExhausted}} {
		x := open(t, r.client())
		m := requestHeaders()
		m.ProtocolConfig.RequestBodyMode = modev3.ProcessingMode_BUFFERED
		x.send(m)
		x.recv()
		x.send(envoyside.RequestBody(`{"model": "chat", "messages": [{"role": "user", "content": "`+strings.Repeat("x", tt.size)+`"}]}`, true))
		if _, err := x.s.Recv(); status.Code(err) != tt.want {
			t.Errorf("a body of %d bytes: %v, want %v", tt.size, err, tt.want)
		}
	}
}

// TestAllowPaths: clients may ask for what an operator allows, and for nothing beside it.
func TestAllowPaths(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		allowed []string
		path    string
		want    int
	}{
		{nil, "/primary-gateway-test", 403},
		{[]string{"/other", "/Primary-gateway-test/"}, "/primary-gateway-test", 200},
		{[]string{"/primary"}, "/primary-gateway-test", 403},
		{[]string{"/primary"}, "/primary/x?y", 200},
		{[]string{"/"}, "/anything", 200},
		{[]string{"/v1"}, "/metrics", 403},
	} {
		r := start(t, base+roundRobin, func(o *epp.Options) { o.AllowPaths = tt.allowed })
		c := r.client()
		if tt.want == 200 {
			exchanged(t, c, "chat", ":path", tt.path)
			continue
		}
		if status, _ := refused(t, c, "chat", ":path", tt.path); status != tt.want {
			t.Errorf("%v: %s: status %d, want %d", tt.allowed, tt.path, status, tt.want)
		}
	}
}
