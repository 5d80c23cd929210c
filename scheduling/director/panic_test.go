package director_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// TestOptionsPanic: whatever function of the options panics, requests are answered or refused, nothing is left booked,
// and afterwards all is as ever.
func TestOptionsPanic(t *testing.T) {
	scheduler, err := scheduling.New(plugins.RandomProfile())
	require.NoError(t, err)
	base := director.Options{
		NewScheduler: func(*datastore.Pool) (*scheduling.Scheduler, error) { return scheduler, nil },
		Scheduler:    scheduler,
	}
	but := []string{"Handover", "OnIgnored"} // of requests at two endpoints: see legs_test.go
	guardtest.Each(t, base, nil, but, func(t *testing.T, o director.Options, f *guardtest.Fault) {
		store := newStore(t, 2, datastore.Options{})
		o.Store = store
		if f.At == "Logger.Enabled" || f.At == "Logger.Handle" {
			o.AllowPath = func(string, string) bool { panic("so that there is something to log") }
		}
		d, err := director.New(o)
		if f.At == "Admission" {
			require.ErrorContains(t, err, "of the user's")
			f.Off()
			d, err = director.New(o)
		}
		require.NoError(t, err)
		defer d.Close()
		all := func() {
			for _, in := range []director.Incoming{standard(), ask("GET /special"), ask("GET /metrics")} {
				if r, err := d.Route(context.Background(), in); err == nil {
					answer(r)
				}
				_, _ = d.Explain(context.Background(), in)
				d.Answer(in)
			}
		}
		require.NotPanics(t, all)
		f.Off()
		all()
		d.Renew()
		for range 3 {
			answer(mustRoute(t, d, standard()))
		}
		require.Zero(t, scheduler.Open())
	})
}
