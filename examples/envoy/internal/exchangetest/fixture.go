// Package exchangetest is what the tests of the adapters for Envoy have in common: a pool to choose from, and
// what is asked and expected of either of them.
package exchangetest

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Keys of the protocol, written out once more so that a typing error in what is tested cannot hide.
const (
	DestinationKey = "x-gateway-destination-endpoint"
	SubsetKey      = "x-gateway-destination-endpoint-subset"
	ServedKey      = "x-gateway-destination-endpoint-served"
	FallbackKey    = "x-gateway-destination-endpoint-fallback"
)

// Addresses of a, b and c; the last one is IPv6.
var Addresses = []string{"10.0.0.1:8000", "10.0.0.2:8000", "[fd00::3]:8000"}

// AllThree is the destination of a request that may go anywhere.
const AllThree = "10.0.0.1:8000,10.0.0.2:8000,[fd00::3]:8000"

// Patience is how long a test waits for what is to happen soon, on a busy machine.
const Patience = 10 * time.Second

// ByName picks the first endpoint by name, then the next: decisions are known beforehand.
type ByName struct{}

// Pick implements scheduling.Picker.
func (ByName) Pick(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
	first := 0
	for i, ep := range eps {
		if ep.ID < eps[first].ID {
			first = i
		}
	}
	return first, nil
}

// Fixture is what an adapter is made with, for endpoints a, b and c of the pool llama, whose model
// "chat" is served as "llama-8b".
type Fixture struct {
	Store    *datastore.Store
	Director *director.Director
	Sched    *scheduling.Scheduler
	Options  exchange.Options
	Routes   []*director.Route // that were made, unless Options.OnRoute was set
	Served   []string          // by whom
	Outcomes chan types.Outcome
}

// Manifests are those of the pool and its models.
const Manifests = `[
 {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": {"name": "llama"},
  "spec": {"selector": {"matchLabels": {"app": "llama"}}, "targetPorts": [{"number": 8000}]}},
 {"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "chat"},
  "spec": {"modelName": "chat", "criticality": "Critical", "poolRef": {"name": "llama"}, "targetModels": [{"name": "llama-8b"}]}},
 {"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "batch"},
  "spec": {"modelName": "batch", "criticality": "Sheddable", "poolRef": {"name": "llama"}}},
 {"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceObjective", "metadata": {"name": "urgent"},
  "spec": {"priority": 7, "poolRef": {"name": "llama"}}}
]`

// Change changes what a Fixture is made with.
type Change = func(*exchange.Options, *director.Options, *scheduling.Profile)

// New returns a Fixture. change may be nil.
func New(t testing.TB, change Change) *Fixture {
	t.Helper()
	f := &Fixture{Store: datastore.New(datastore.Options{}), Outcomes: make(chan types.Outcome, 10_000)}
	f.Sets(t, Manifests, Addresses)
	profile := scheduling.Profile{Picker: ByName{}, Fallbacks: 2}
	profile.Hooks.Finished = func(e scheduling.Event) {
		select {
		case f.Outcomes <- e.Outcome:
		default:
		}
	}
	f.Options = exchange.Options{MaxDestinations: 9}
	do := director.Options{Store: f.Store, RestoreModel: true, TrustRequestHeaders: true}
	if change != nil {
		change(&f.Options, &do, &profile)
	}
	var err error
	f.Sched, err = scheduling.New(profile)
	require.NoError(t, err)
	do.Scheduler = f.Sched
	f.Director, err = director.New(do)
	require.NoError(t, err)
	t.Cleanup(f.Director.Close)
	f.Options.Director = f.Director
	if f.Options.OnRoute == nil {
		f.Options.OnRoute = func(r *director.Route) { f.Routes = append(f.Routes, r) }
		f.Options.OnServed = func(_ *director.Route, address string) { f.Served = append(f.Served, address) }
	}
	return f
}

// Sets has the store hold manifests, and endpoints at addresses, by the names a, b, and so on.
func (f *Fixture) Sets(t testing.TB, manifests string, addresses []string) {
	t.Helper()
	objects, err := types.DecodeManifests([]byte(`{"kind": "List", "apiVersion": "v1", "items": ` + manifests + `}`))
	require.NoError(t, err)
	var specs []datastore.EndpointSpec
	for i, a := range addresses {
		specs = append(specs, datastore.EndpointSpec{ID: string(rune('a' + i)), Address: a, Labels: map[string]string{"app": "llama"}})
	}
	require.NoError(t, f.Store.Apply(objects...))
	require.NoError(t, f.Store.SetEndpoints(types.NamespacedName{Name: "llama"}, specs))
}

// NewApart is New with endpoints that have roles: a, b and c of "pdb" compute prompts, answer, and do both.
func NewApart(t testing.TB, roles string, change Change) *Fixture {
	t.Helper()
	staged, err := plugins.NewStaged(plugins.StagedOptions{Always: true, Picker: ByName{}}, nil)
	require.NoError(t, err)
	f := New(t, func(o *exchange.Options, do *director.Options, p *scheduling.Profile) {
		p.Splitter = staged
		if change != nil {
			change(o, do, p)
		}
	})
	var specs []datastore.EndpointSpec
	for i, r := range roles {
		specs = append(specs, datastore.EndpointSpec{ID: string(rune('a' + i)), Address: Addresses[i], Labels: map[string]string{"app": "llama"},
			Roles: map[rune]types.Roles{'p': types.RolePrefill, 'd': types.RoleDecode, 'b': types.RolePrefill | types.RoleDecode, 'e': types.RoleEncode, 'o': types.RoleDecode | types.RoleNotAlone}[r]})
	}
	require.NoError(t, f.Store.SetEndpoints(types.NamespacedName{Name: "llama"}, specs))
	return f
}

// Ranks gives endpoint a two data-parallel ranks, and b none; c is no more.
func (f *Fixture) Ranks(t testing.TB) {
	t.Helper()
	specs := datastore.EndpointSpec{ID: "a", Address: Addresses[0], Labels: map[string]string{"app": "llama"}}.PerRank(2)
	specs = append(specs, datastore.EndpointSpec{ID: "b", Address: Addresses[1], Labels: map[string]string{"app": "llama"}})
	require.NoError(t, f.Store.SetEndpoints(types.NamespacedName{Name: "llama"}, specs))
}

// Load returns what is booked at endpoint id.
func (f *Fixture) Load(id string) int64 {
	for _, ep := range f.Store.Snapshot().Pool(types.NamespacedName{Name: "llama"}).Endpoints() {
		if ep.ID == id {
			return ep.Load.Requests()
		}
	}
	return 0
}

// Free fails the test unless everything that was booked is released.
func (f *Fixture) Free(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(Patience); ; time.Sleep(time.Millisecond) {
		if f.Sched.Open() == 0 && f.Load("a") == 0 && f.Load("b") == 0 && f.Load("c") == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d decisions are open; booked are a: %d, b: %d, c: %d", f.Sched.Open(), f.Load("a"), f.Load("b"), f.Load("c"))
		}
	}
}

// Outcome returns how the next request ended.
func (f *Fixture) Outcome(t testing.TB) types.Outcome {
	t.Helper()
	select {
	case out := <-f.Outcomes:
		return out
	case <-time.After(Patience):
		t.Fatal("the request was never done")
		panic("unreachable")
	}
}

// Waits waits until n requests wait to be let in.
func (f *Fixture) Waits(t testing.TB, n int) {
	t.Helper()
	queued := func() (n int) {
		for _, c := range f.Director.Admissions() {
			n += c.Stats().Queued
		}
		return n
	}
	for deadline := time.Now().Add(Patience); queued() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests wait, want %d", queued(), n)
		}
	}
}

// NoMoreGoroutines fails the test unless there are at most as many as before, within a few seconds.
func NoMoreGoroutines(t testing.TB, before int) {
	t.Helper()
	for deadline := time.Now().Add(Patience); runtime.NumGoroutine() > before+2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// ChatBody is a request for the model chat with a prompt of n words.
func ChatBody(n int) string {
	return `{"model": "chat", "messages": [{"role": "user", "content": "` + strings.Repeat("word ", n) + `"}], "seed": 12345678901234567890}`
}

// RoutedBody is what the server gets of it.
func RoutedBody(n int) string { return strings.Replace(ChatBody(n), `"chat"`, `"llama-8b"`, 1) }

// Answers of servers: a stream of events, and one that comes in one piece. 11 tokens, of which 5 were cached, and 2.
const (
	Events = "data: {\"id\":\"1\",\"model\":\"llama-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n" +
		"data: {\"id\":\"1\",\"model\":\"llama-8b\",\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":5}}}\n\n" +
		"data: [DONE]\n\n"
	Whole = `{"id": "1", "model": "llama-8b", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 5}}}`
)

// Restored is what the client gets of such an answer.
func Restored(answer string) string { return strings.ReplaceAll(answer, "llama-8b", "chat") }
