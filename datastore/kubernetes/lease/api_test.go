package lease_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/datastore/kubernetes/lease"
)

// elect runs a candidate until stop is called, and reports whether it leads.
func elect(t *testing.T, server *fakeapi.Server, name string, logger *slog.Logger) (leads *atomic.Bool, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	leads = new(atomic.Bool)
	done := make(chan error)
	o := lease.Options{Namespace: "default", Name: "picker", Identity: name, Logger: logger}
	go func() {
		done <- lease.Elect(ctx, server.Config(), o, func(ctx context.Context) {
			leads.Store(true)
			<-ctx.Done()
			leads.Store(false)
		})
	}()
	return leads, func() {
		t.Helper()
		cancel()
		require.NoError(t, <-done)
	}
}

// TestOnTheWire: the object is one that other programs understand, and what is not ours in it
// stays.
func TestOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fakeapi.NewPipe(fakeapi.Leases)
		defer server.Close()
		leads, stop := elect(t, server, "a", nil)
		time.Sleep(time.Second)
		require.True(t, leads.Load())
		spec := func() map[string]any { return server.Get(fakeapi.Leases, "default", "picker")["spec"].(map[string]any) }
		renewed := spec()["renewTime"]
		require.Equal(t, map[string]any{
			"holderIdentity": "a", "leaseDurationSeconds": 15.0, "leaseTransitions": 0.0, "renewTime": renewed, "acquireTime": renewed,
		}, spec())
		require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`, renewed)

		server.Change(fakeapi.Leases, "default", "picker", func(o map[string]any) {
			o["metadata"].(map[string]any)["labels"] = map[string]any{"team": "x"}
		})
		time.Sleep(10 * time.Second)
		require.True(t, leads.Load(), "another's label does not cost the lease")
		require.Equal(t, map[string]any{"team": "x"}, server.Get(fakeapi.Leases, "default", "picker")["metadata"].(map[string]any)["labels"])
		require.Greater(t, spec()["renewTime"], renewed)

		other, stopOther := elect(t, server, "b", nil)
		time.Sleep(time.Minute)
		require.True(t, leads.Load())
		require.False(t, other.Load())
		stop()
		require.Equal(t, "", spec()["holderIdentity"])
		time.Sleep(3 * time.Second)
		require.True(t, other.Load())
		require.Equal(t, "b", spec()["holderIdentity"])
		require.Equal(t, 1.0, spec()["leaseTransitions"])
		stopOther()
	})
}

// TestForeignHolder: a record of another program is waited for, whatever its times say, and one
// that makes no sense is taken.
func TestForeignHolder(t *testing.T) {
	for name, test := range map[string]struct {
		spec  string
		after time.Duration
	}{
		"of client-go":     {`{"holderIdentity": "x", "leaseDurationSeconds": 15, "renewTime": "1999-01-01T00:00:00.000000Z", "leaseTransitions": 4}`, 15 * time.Second},
		"that takes long":  {`{"holderIdentity": "x", "leaseDurationSeconds": 40, "renewTime": "2999-01-01T00:00:00.000000Z"}`, 40 * time.Second},
		"given back":       {`{"holderIdentity": "", "leaseDurationSeconds": 1}`, 0},
		"without a spec":   {`null`, 0},
		"of another shape": {`{"holderIdentity": 7, "leaseDurationSeconds": "x", "renewTime": 5, "leaseTransitions": {}}`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := fakeapi.NewPipe(fakeapi.Leases)
				defer server.Close()
				server.Apply(fakeapi.Object(`{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "picker"}, "spec": ` + test.spec + `}`))
				leads, stop := elect(t, server, "a", nil)
				if test.after > 0 {
					time.Sleep(test.after - time.Second)
					require.False(t, leads.Load())
				}
				time.Sleep(4 * time.Second)
				require.True(t, leads.Load())
				stop()
			})
		})
	}
}

// TestWithoutRights: it is told once, tried less and less often, and the rights are used when
// they are there.
func TestWithoutRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := fakeapi.NewPipe(fakeapi.Leases)
		defer server.Close()
		server.Fail(func(r fakeapi.Request) *fakeapi.Failure { return fakeapi.Forbidden(r) })
		var log strings.Builder
		leads, stop := elect(t, server, "a", slog.New(slog.NewTextHandler(&log, nil)))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.False(t, leads.Load())
		require.Equal(t, 1, strings.Count(log.String(), "lease cannot be claimed"))
		require.Contains(t, log.String(), `cannot get resource \"leases\" in the namespace \"default\"`)
		require.Less(t, server.Count("get", "leases"), 30)
		server.Fail(nil)
		time.Sleep(time.Minute)
		require.True(t, leads.Load())

		// It is away for a moment, with the lease held.
		server.Fail(func(fakeapi.Request) *fakeapi.Failure { return &fakeapi.Failure{Code: http.StatusInternalServerError} })
		time.Sleep(5 * time.Second)
		server.Fail(nil)
		time.Sleep(5 * time.Second)
		require.True(t, leads.Load())
		stop()
		require.NotContains(t, log.String(), "lease is lost")
	})
}

func TestElectRefuses(t *testing.T) {
	server := fakeapi.New()
	defer server.Close()
	err := lease.Elect(t.Context(), server.Config(), lease.Options{}, nil)
	require.ErrorContains(t, err, "lease: Options: Namespace")
	require.ErrorContains(t, err, "Name")
}
