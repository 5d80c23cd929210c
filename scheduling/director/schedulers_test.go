package director_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// maker is an Options.NewScheduler that counts.
type maker struct {
	calls atomic.Int32
	last  *scheduling.Scheduler
	err   error
}

func (m *maker) make(*datastore.Pool) (_ *scheduling.Scheduler, err error) {
	if m.calls.Add(1); m.err != nil {
		return nil, m.err
	}
	m.last, err = scheduling.New(plugins.RandomProfile())
	return m.last, err
}

// manifest is that of the pool, with an annotation.
func manifest(note string) *types.InferencePool {
	return &types.InferencePool{
		ObjectMeta: types.ObjectMeta{Name: pool.Name, Annotations: map[string]string{"note": note}},
		Spec: types.InferencePoolSpec{
			Selector: types.LabelSelector{MatchLabels: map[string]string{"app": "x"}}, TargetPorts: []types.Port{{Number: 8000}},
		},
	}
}

// TestNewScheduler: a pool's scheduler is made when it is first asked for, and again when the
// pool is another one, when its manifest is, and after Renew.
func TestNewScheduler(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	var m maker
	d := newDirector(t, store, func(o *director.Options) { o.Scheduler, o.NewScheduler = nil, m.make })
	made := int32(0)
	expect := func(what string, isNew bool) {
		t.Helper()
		before := m.last
		r, err := d.Route(ctx, incoming("food"))
		require.NoError(t, err, what)
		if isNew {
			made++
			require.NotSame(t, before, m.last, what)
		}
		require.Equal(t, made, m.calls.Load(), what)
		require.Equal(t, 1, m.last.Open(), "%s: the last one decides", what)
		r.Done(nil)
	}
	require.Zero(t, m.calls.Load())
	expect("at first", true)
	expect("again", false)
	require.NoError(t, store.Apply(manifest("1")))
	expect("with another manifest", true)
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{Address: "10.0.0.9:80"}}))
	expect("with other endpoints", false)
	d.Renew()
	expect("after Renew", true)
	expect("again after Renew", false)

	store.Delete("InferencePool", pool)
	_, err := d.Route(ctx, incoming("food"))
	require.Error(t, err)
	require.Equal(t, made, m.calls.Load(), "a pool that has gone needs none")
	require.NoError(t, store.Apply(manifest("1")))
	require.NoError(t, store.SetEndpoints(pool, []datastore.EndpointSpec{{Address: "10.0.0.9:80"}}))
	expect("deleted and made again", true)
}

// TestNewSchedulerFails: what decided goes on, and with nobody to decide the request is
// refused.
func TestNewSchedulerFails(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	var log strings.Builder
	m := maker{err: errors.New("no such policy")}
	d := newDirector(t, store, func(o *director.Options) {
		o.Scheduler, o.NewScheduler, o.Logger = nil, m.make, slog.New(slog.NewTextHandler(&log, nil))
	})
	for range 2 {
		_, err := d.Route(ctx, incoming("food"))
		require.ErrorIs(t, err, m.err)
		require.Equal(t, 500, director.AsError(err).Status)
	}
	require.EqualValues(t, 2, m.calls.Load(), "it is asked for as long as there is none")
	m.err = nil
	r, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	r.Done(nil)

	m.err = errors.New("no such policy")
	require.NoError(t, store.Apply(manifest("1")))
	for range 3 {
		r, err := d.Route(ctx, incoming("food"))
		require.NoError(t, err)
		require.Equal(t, 1, m.last.Open())
		r.Done(nil)
	}
	require.EqualValues(t, 4, m.calls.Load(), "of one manifest it is asked once")
	require.Contains(t, log.String(), "no such policy")
}

// TestNewSchedulerBeside: pools in Schedulers go before, and nil leaves it to Scheduler.
func TestNewSchedulerBeside(t *testing.T) {
	store := newStore(t, 1, datastore.Options{})
	others, err := scheduling.New(plugins.RandomProfile())
	require.NoError(t, err)
	given, err := scheduling.New(plugins.RandomProfile())
	require.NoError(t, err)
	d := newDirector(t, store, func(o *director.Options) {
		o.Scheduler = others
		o.NewScheduler = func(*datastore.Pool) (*scheduling.Scheduler, error) { return nil, nil }
	})
	r, err := d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	require.Equal(t, 1, others.Open())
	r.Done(nil)
	require.NoError(t, d.SetSchedulers(nil, map[types.NamespacedName]*scheduling.Scheduler{pool: given}))
	r, err = d.Route(ctx, incoming("food"))
	require.NoError(t, err)
	require.Equal(t, 1, given.Open())
	r.Done(nil)
	require.NoError(t, d.SetSchedulers(nil, nil))
	_, err = d.Route(ctx, incoming("food"))
	require.Equal(t, 503, director.AsError(err).Status)
}
