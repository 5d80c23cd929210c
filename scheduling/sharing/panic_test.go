package sharing

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/types"
)

// wires returns two Transports that are joined.
func wires() (a, b *wire) {
	a, b = &wire{}, &wire{}
	a.to, b.to = b, a
	return a, b
}

type transportDouble struct {
	Transport
	at func(string)
}

func (d *transportDouble) Broadcast(ctx context.Context, msg []byte) error {
	d.at("Broadcast")
	return d.Transport.Broadcast(ctx, msg)
}
func (d *transportDouble) Receive(handle func(string, []byte)) {
	d.at("Receive")
	d.Transport.Receive(handle)
}

type storeDouble struct {
	Store
	at func(string)
}

func (d *storeDouble) Save(ctx context.Context, name string, data []byte) error {
	d.at("Save")
	return d.Store.Save(ctx, name, data)
}
func (d *storeDouble) Load(ctx context.Context, name string) ([]byte, error) {
	d.at("Load")
	return d.Store.Load(ctx, name)
}

// everyPart is a part of every kind.
type everyPart struct{ at func(string) }

func (p *everyPart) PeersChanged([]*types.Endpoint, time.Time) { p.at("PeersChanged") }
func (p *everyPart) SharePlacements(tell func(types.Placement)) {
	tell(types.Placement{Endpoint: "one", Anchors: []uint64{1}})
	p.at("SharePlacements")
}
func (p *everyPart) HearPlacement(types.Placement, time.Time) { p.at("HearPlacement") }
func (p *everyPart) ShareEjections(_ time.Time, tell func(types.Ejected)) {
	tell(types.Ejected{Endpoint: "one", Number: 1})
	p.at("ShareEjections")
}
func (p *everyPart) HearEjection(int, types.Ejected, time.Time) { p.at("HearEjection") }
func (p *everyPart) LosePeer(int)                               { p.at("LosePeer") }
func (p *everyPart) ShareBindings(_ time.Time, tell func(types.Binding)) {
	tell(types.Binding{Key: 1, Endpoint: "one"})
	p.at("ShareBindings")
}
func (p *everyPart) HearBinding(types.Binding, time.Time) { p.at("HearBinding") }
func (p *everyPart) ShareAccounts(_ bool, tell func(types.Account)) {
	tell(types.Account{Key: 1, Tokens: 1})
	p.at("ShareAccounts")
}
func (p *everyPart) HearAccount(int, types.Account) { p.at("HearAccount") }
func (p *everyPart) PeersAlive(int)                 { p.at("PeersAlive") }
func (p *everyPart) NoteName() string               { p.at("NoteName"); return "note" }
func (p *everyPart) AppendNote(dst []byte, now time.Time) []byte {
	p.at("AppendNote")
	return append(dst, byte(now.Unix()))
}
func (p *everyPart) HearNote(int, []byte, time.Time) { p.at("HearNote") }
func (p *everyPart) SnapshotName() string            { p.at("SnapshotName"); return "snapshot" }
func (p *everyPart) AppendSnapshot(dst []byte, _ int, _ time.Time) []byte {
	p.at("AppendSnapshot")
	return append(dst, 1)
}
func (p *everyPart) Restore([]byte, time.Duration, time.Time) error { p.at("Restore"); return nil }
func (p *everyPart) RestoreFromPeer([]byte, func(string) string, time.Time) error {
	p.at("RestoreFromPeer")
	return nil
}

// pairOf runs two groups, of which the first has options o and a scope, for as long as it takes. It returns how many
// requests the second one knows of the first one's, and the first one of the second one's, when fault is off.
func pairOf(t *testing.T, o Options, s Scope, off func()) (there, here int64) {
	own, other := types.NewEndpoint("one", "10.0.0.1:80"), types.NewEndpoint("one", "10.0.0.1:80")
	endpoints := s.Endpoints
	s.Name, s.Endpoints = "pool", func() []*types.Endpoint {
		if endpoints != nil {
			endpoints()
		}
		return []*types.Endpoint{own}
	}
	a, err := New(o)
	require.NoError(t, err)
	_ = a.Set(s)
	_, _ = a.Warm(t.Context())
	b, err := New(Options{Transport: o.Transport.(*transportDouble).Transport.(*wire).to, Name: "b"})
	require.NoError(t, err)
	require.NoError(t, b.Set(Scope{Name: "pool", Endpoints: func() []*types.Endpoint { return []*types.Endpoint{other} }, Parts: []any{&everyPart{func(string) {}}}}))
	var running sync.WaitGroup
	run := func(g *Group) (stop func()) {
		ctx, stop := context.WithCancel(t.Context())
		running.Go(func() { _ = g.Run(ctx) })
		return stop
	}
	stopB := run(b)
	time.Sleep(5 * time.Second) // so that b has something for who begins
	stopA := run(a)
	for range 3 {
		other.Load.Book(types.Booking{Requests: 1})
		time.Sleep(5 * time.Second)
		other.Load.Release(types.Booking{Requests: 1})
		time.Sleep(5 * time.Second)
	}
	stopB()
	time.Sleep(10 * time.Second)
	stopB = run(b)
	time.Sleep(10 * time.Second)
	off()
	require.NoError(t, a.Set(s))
	own.Load.Book(types.Booking{Requests: 3})
	other.Load.Book(types.Booking{Requests: 5})
	time.Sleep(time.Minute)
	there, here = other.Load.Peers().Requests, own.Load.Peers().Requests
	stopA()
	stopB()
	running.Wait()
	return there, here
}

// Whatever of its options or of a scope panics, a Group tells and hears, and saves.
func TestOptionsPanic(t *testing.T) {
	doubles := []guardtest.Double{
		guardtest.DoubleOf(func(inner Transport, at func(string)) Transport { return &transportDouble{inner, at} }),
		guardtest.DoubleOf(func(inner Store, at func(string)) Store { return &storeDouble{inner, at} }),
	}
	type options struct { // and of a Scope
		Options
		Scope Scope
	}
	but := []string{"Options.Transport.Close"} // which a Group does not call
	guardtest.Each(t, options{Options: Options{Transport: &wire{}, Store: &memory{}}}, doubles, but, func(t *testing.T, o options, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			o.Transport.(*transportDouble).Transport, _ = wires()
			saved := &memory{}
			o.Store.(*storeDouble).Store = saved
			o.Scope.Parts = []any{&everyPart{func(string) {}}}
			there, here := pairOf(t, o.Options, o.Scope, f.Off)
			require.EqualValues(t, 3, there, "what the other one knows")
			if f.At != "Options.Transport.Receive" { // it is called once
				require.EqualValues(t, 5, here, "what it knows of the other one")
			}
			require.NotEmpty(t, saved.saved)
		})
	})
}

// Whatever method of a part panics, a Group tells and hears: of every kind of part that there is.
func TestPartsPanic(t *testing.T) {
	methods := map[string]bool{}
	kinds := reflect.TypeFor[parts]()
	for i := range kinds.NumField() {
		kind := kinds.Field(i).Type.Elem()
		require.True(t, reflect.TypeFor[*everyPart]().Implements(kind), "everyPart is no %v", kind)
		for j := range kind.NumMethod() {
			methods[kind.Method(j).Name] = true
		}
	}
	methods["RestoreFromPeer"] = true
	for method := range methods {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				armed, calls := true, 0
				part := &everyPart{func(at string) {
					mu.Lock()
					defer mu.Unlock()
					if armed && at == method {
						calls++
						panic("of the user's: " + at)
					}
				}}
				end, _ := wires()
				o := Options{Transport: &transportDouble{end, func(string) {}}}
				if method == "Restore" || method == "AppendSnapshot" {
					o.Store = &memory{of: map[string][]byte{DefaultSnapshotName: snapshotOfPart(t)}}
				}
				there, here := pairOf(t, o, Scope{Parts: []any{part}}, func() {
					mu.Lock()
					defer mu.Unlock()
					armed = false
				})
				require.NotZero(t, calls, "the test does not have it called")
				require.EqualValues(t, []int64{3, 5}, []int64{there, here}, "what the other one knows, and this one")
			})
		})
	}
}

// snapshotOfPart is one of an everyPart in a scope "pool".
func snapshotOfPart(t *testing.T) []byte {
	g, err := New(Options{})
	require.NoError(t, err)
	require.NoError(t, g.Set(Scope{Name: "pool", Parts: []any{&everyPart{func(string) {}}}}))
	return g.AppendSnapshot(nil, time.Now())
}
