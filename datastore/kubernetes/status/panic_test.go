package status_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/status"
	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/types"
)

type sourceDouble struct {
	status.Source
	at func(string)
}

func (d *sourceDouble) Objects() []kubernetes.Object { d.at("Objects"); return d.Source.Objects() }
func (d *sourceDouble) Synced() <-chan struct{}      { d.at("Synced"); return d.Source.Synced() }
func (d *sourceDouble) Changed() <-chan struct{}     { d.at("Changed"); return d.Source.Changed() }

type storeDouble struct {
	status.Store
	at func(string)
}

func (d *storeDouble) Status(kind string, name types.NamespacedName) ([]types.Condition, bool) {
	d.at("Status")
	return d.Store.Status(kind, name)
}

// Whatever of its sources or options panics, a Writer writes on once that has stopped.
func TestOptionsPanic(t *testing.T) {
	doubles := []guardtest.Double{
		guardtest.DoubleOf(func(inner status.Source, at func(string)) status.Source { return &sourceDouble{inner, at} }),
		guardtest.DoubleOf(func(inner status.Store, at func(string)) status.Store { return &storeDouble{inner, at} }),
	}
	type all struct {
		Source  status.Source
		Store   status.Store
		Options status.Options
	}
	but := []string{"Options.Logger"} // see TestLoggerPanics of package guardlog
	guardtest.Each(t, all{Source: &mirror{}, Store: &storeDouble{}}, doubles, but, func(t *testing.T, o all, f *guardtest.Fault) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 1)
			r.stop() // this one
			o.Source.(*sourceDouble).Source, o.Store.(*storeDouble).Store = r.source, r.store
			w, err := status.New(r.server.Config(), o.Source, o.Store, o.Options)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); w.Run(ctx) }()
			close(r.source.synced)
			r.add("more")
			r.source.look()
			time.Sleep(time.Minute)
			f.Off()
			r.add("another")
			r.source.look()
			time.Sleep(time.Minute)
			require.NotEmpty(t, r.conditions("another"))
			cancel()
			<-done
			r.stop = func() {}
		})
	})
}
