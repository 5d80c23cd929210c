package directortest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/directortest"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// A plugin or a hook panics at one request: that one is lost at most, and everything goes on.
func TestPanics(t *testing.T) {
	for _, at := range directortest.PanicPoints() {
		for i, g := range gateways {
			if i > 1 && testing.Short() {
				break // the others let others see the answers, and nobody else panic
			}
			t.Run(at+"/"+g.name, func(t *testing.T) {
				p := &directortest.Panic{At: at, Call: 4}
				profile := plugins.Default()
				switch at { // let it be called
				case "Hooks.Rejected":
					profile.Filters = append(profile.Filters, scheduling.Named{Name: "never", Filter: scheduling.FilterFunc(
						func(_ context.Context, req *types.Request, _ []*types.Endpoint, keep []bool) error {
							if req.Model == "nobody" {
								clear(keep)
							}
							return nil
						})})
				case "Hooks.PluginFailed":
					profile.Scorers = append(profile.Scorers, scheduling.Weighted{Name: "fails", Scorer: scheduling.ScorerFunc(
						func(context.Context, *types.Request, []*types.Endpoint, []float64) error { return errors.New("no") })})
				}
				scheduler, err := scheduling.New(p.Install(profile))
				must(t, err)
				panicking(t, g.admit, p, scheduler, g.make)
			})
		}
	}
}

func panicking(t *testing.T, admit bool, p *directortest.Panic, scheduler *scheduling.Scheduler, gateway gatewayOf) {
	e := directortest.Engine{Prefill: time.Millisecond}
	store := datastore.New(datastore.Options{})
	pool := types.NamespacedName{Namespace: types.DefaultNamespace, Name: "pool"}
	for i := range 3 {
		b := e.Behaviour()
		if i == 0 && p.At == "Hooks.Retried" {
			b = directortest.FirstThen(30, e.Break(directortest.AtRequestBody, directortest.Close), e.Behaviour())
		}
		s := directortest.Start(b)
		t.Cleanup(s.Close)
		must(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: s.Addr()}))
	}
	o := director.Options{Store: store, Scheduler: scheduler}
	if admit {
		o.Admission = func(types.NamespacedName) *admission.Options { return &admission.Options{} }
	}
	d, err := director.New(o)
	must(t, err)
	t.Cleanup(d.Close)
	front := httptest.NewUnstartedServer(gateway(t, d))
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.Start()
	t.Cleanup(front.Close)
	c := directortest.NewClient(front.Listener.Addr().String())
	t.Cleanup(c.Close)
	send := func(n int) (failed int) {
		var mu sync.Mutex
		var clients sync.WaitGroup
		for w := range 4 {
			clients.Go(func() {
				for i := range n / 4 {
					a := directortest.Ask{User: fmt.Sprint(w, "-", i), Prompt: fmt.Sprint(w, i), Stream: i%2 == 0}
					if p.At == "Hooks.Rejected" && i%2 == 0 {
						a.Model = "nobody"
					}
					ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
					res := c.Do(ctx, a)
					cancel()
					if a.Model == "" && (res.Status != 200 || res.Err != nil) {
						mu.Lock()
						failed++
						mu.Unlock()
					}
				}
			})
		}
		clients.Wait()
		return failed
	}
	if failed := send(80); failed > 1 {
		t.Errorf("%d requests failed, want at most the one that met the panic", failed)
	}
	if p.At == "Hooks.Retried" && p.Panicked() == 0 {
		t.Skip("too few requests went on to another server")
	}
	require.Equal(t, 1, p.Panicked(), "panics")
	if failed := send(40); failed != 0 {
		t.Errorf("%d requests failed after the panic", failed)
	}
	for until := time.Now().Add(2 * time.Second); scheduler.Open() > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if n := scheduler.Open(); n != 0 {
		t.Errorf("%d bookings are left", n)
	}
	for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
		if n := ep.Load.Requests(); n != 0 {
			t.Errorf("%s has %d requests in the ledger", ep.ID, n)
		}
	}
	under := func() (n int) { // what admission control has not seen the end of
		for _, c := range d.Admissions() {
			for _, band := range c.Stats().Bands {
				n += band.Running + band.Queued
			}
		}
		return n
	}
	for until := time.Now().Add(5 * time.Second); under() > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if n := under(); n != 0 {
		t.Errorf("%d requests are left in admission control", n)
	}
}
