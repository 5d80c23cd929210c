package status_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kubernetes"
	"github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"
	"github.com/inferpick/inferpick/datastore/kubernetes/status"
	"github.com/inferpick/inferpick/types"
)

// mirror is a source that sees the models of a server at once, when it is told to look.
type mirror struct {
	server  *fakeapi.Server
	synced  chan struct{}
	changed chan struct{}

	mu      sync.Mutex
	names   []string
	errs    map[string]error
	objects []kubernetes.Object
}

func (m *mirror) Synced() <-chan struct{}  { return m.synced }
func (m *mirror) Changed() <-chan struct{} { return m.changed }

func (m *mirror) Objects() []kubernetes.Object {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.objects)
}

// look reads all models.
func (m *mirror) look() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.objects = nil
	for _, name := range m.names {
		o := m.server.Get(fakeapi.Model, "default", name)
		if o == nil {
			continue
		}
		var of struct {
			Metadata struct {
				UID, ResourceVersion string
				Generation           int64
			}
			Status struct{ Conditions []types.Condition }
		}
		data, _ := json.Marshal(o)
		if err := json.Unmarshal(data, &of); err != nil {
			panic(err)
		}
		m.objects = append(m.objects, kubernetes.Object{
			Resource: schema.GroupVersionResource{Group: fakeapi.Model.Group, Version: fakeapi.Model.Version, Resource: fakeapi.Model.Plural},
			Kind:     "InferenceModel", Name: types.NamespacedName{Namespace: "default", Name: name},
			UID: of.Metadata.UID, ResourceVersion: of.Metadata.ResourceVersion, Generation: of.Metadata.Generation,
			Conditions: of.Status.Conditions, Err: m.errs[name],
		})
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// rig is a writer between a server and a store.
type rig struct {
	t      *testing.T
	server *fakeapi.Server
	source *mirror
	store  *datastore.Store
	writer *status.Writer
	log    strings.Builder
	stop   func()
}

func newRig(t *testing.T, models int) *rig {
	r := &rig{t: t, server: fakeapi.NewPipe(fakeapi.Model), store: datastore.New(datastore.Options{})}
	r.source = &mirror{server: r.server, synced: make(chan struct{}), changed: make(chan struct{}, 1), errs: make(map[string]error)}
	for i := range models {
		r.add(fmt.Sprintf("m%03d", i))
	}
	r.source.look()
	var err error
	r.writer, err = status.New(r.server.Config(), r.source, r.store, status.Options{Logger: slog.New(slog.NewTextHandler(&r.log, nil))})
	require.NoError(t, err)
	r.start()
	t.Cleanup(func() {
		r.stop()
		r.server.Close()
	})
	return r
}

func (r *rig) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.writer.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
	}
}

func (r *rig) add(name string) {
	r.server.Apply(fakeapi.Object(`{"apiVersion": "inference.networking.x-k8s.io/v1alpha2", "kind": "InferenceModel", "metadata": {"name": "` + name + `"},
		"spec": {"modelName": "` + name + `", "poolRef": {"name": "pool"}},
		"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending", "message": "Waiting for controller", "lastTransitionTime": "1970-01-01T00:00:00Z"}]}}`))
	require.NoError(r.t, r.store.Apply(&types.InferenceModel{
		ObjectMeta: types.ObjectMeta{Name: name}, Spec: types.InferenceModelSpec{ModelName: name, PoolRef: types.PoolRef{Name: "pool"}},
	}))
	r.source.names = append(r.source.names, name)
}

func (r *rig) addPool() {
	require.NoError(r.t, r.store.Apply(&types.InferencePool{
		ObjectMeta: types.ObjectMeta{Name: "pool"},
		Spec:       types.InferencePoolSpec{Selector: types.LabelSelector{MatchLabels: map[string]string{"a": "b"}}, TargetPorts: []types.Port{{Number: 80}}},
	}))
}

// conditions are those of a model at the server, one a line, without times.
func (r *rig) conditions(name string) string {
	r.t.Helper()
	o := r.server.Get(fakeapi.Model, "default", name)
	st, _ := o["status"].(map[string]any)
	list, _ := st["conditions"].([]any)
	var lines []string
	for _, c := range list {
		c := c.(map[string]any)
		require.Contains(r.t, c, "lastTransitionTime")
		lines = append(lines, fmt.Sprint(c["type"], " ", c["status"], " ", c["reason"], " ", c["observedGeneration"], " ", c["message"]))
	}
	return strings.Join(lines, "\n")
}

func (r *rig) writes() int { return r.server.Count("patch", "inferencemodels") }

// settle lets the source see what was written.
func (r *rig) settle() {
	for range 3 {
		time.Sleep(time.Second)
		synctest.Wait()
		r.source.look()
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

// TestWrites: nothing before the source is synced, then each status once, and again when it
// changes.
func TestWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.settle()
		require.Zero(t, r.writes(), "not before it is known which pools there are")
		close(r.source.synced)
		r.settle()
		require.Equal(t, 2, r.writes())
		require.Equal(t, "Accepted Unknown Pending 1 pool default/pool does not exist", r.conditions("m000"))
		at := r.server.Get(fakeapi.Model, "default", "m000")["status"]

		time.Sleep(24 * time.Hour)
		r.settle()
		require.Equal(t, 2, r.writes(), "nothing has changed")
		require.Equal(t, at, r.server.Get(fakeapi.Model, "default", "m000")["status"])

		r.addPool()
		r.source.look()
		r.settle()
		require.Equal(t, 4, r.writes())
		require.Equal(t, "Accepted True Accepted 1 ", r.conditions("m001"))
		require.Equal(t, status.Stats{Written: 4}, r.writer.Stats())

		// Refused by the source: why, exactly.
		r.source.errs["m000"] = errors.New(`spec.criticality is "High", want Critical, Standard or Sheddable`)
		r.source.look()
		r.settle()
		require.Equal(t, "Accepted False Invalid 1 spec.criticality is \"High\", want Critical, Standard or Sheddable\nAn earlier version stays in force.", r.conditions("m000"))

		// Another generation is observed; what others have written stays.
		r.server.Change(fakeapi.Model, "default", "m001", func(o map[string]any) {
			o["spec"].(map[string]any)["criticality"] = "Critical"
			st := o["status"].(map[string]any)
			st["conditions"] = append(st["conditions"].([]any), map[string]any{"type": "Other", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"})
		})
		r.source.look()
		r.settle()
		require.Equal(t, "Accepted True Accepted 2 \nOther True R <nil> ", r.conditions("m001"))
		require.Empty(t, r.log.String())
	})
}

// TestRate: no more than 5 a second, and once what was written is not written again.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 40)
		start := time.Now()
		close(r.source.synced)
		for r.writes() < 40 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			require.LessOrEqual(t, float64(r.writes()), time.Since(start).Seconds()*5+1)
			r.source.look()
		}
		require.Less(t, time.Since(start), 15*time.Second)
		r.settle()
		require.Equal(t, 40, r.writes())
	})
}

// TestConflicts: what somebody else wrote meanwhile is not lost, what is gone is nobody's
// trouble, and a program that insists on something else is not fought at full speed.
func TestConflicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2)
		r.server.Change(fakeapi.Model, "default", "m000", func(o map[string]any) { o["metadata"].(map[string]any)["labels"] = map[string]any{"a": "b"} })
		r.server.Delete(fakeapi.Model, "default", "m001")
		close(r.source.synced)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 2, r.writes(), "one version is tried once")
		require.Contains(t, r.conditions("m000"), "Waiting for controller")
		r.settle()
		require.Equal(t, "Accepted Unknown Pending 1 pool default/pool does not exist", r.conditions("m000"))
		require.Empty(t, r.log.String())

		before := r.writes()
		for range 600 { // ten minutes, each second
			r.server.Change(fakeapi.Model, "default", "m000", func(o map[string]any) {
				o["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Accepted", "status": "True", "reason": "Mine", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"}}}
			})
			r.source.look()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		require.Less(t, r.writes()-before, 15)
		require.Greater(t, r.writes()-before, 3)
	})
}

// TestFailures: a right that is missing is told once and tried less and less often; a server
// that is away too; what the server does not take is not tried again.
func TestFailures(t *testing.T) {
	for name, test := range map[string]struct {
		fail   func(fakeapi.Request) *fakeapi.Failure
		most   int // requests in an hour
		log    string
		passes bool
	}{
		"forbidden": {func(q fakeapi.Request) *fakeapi.Failure { return fakeapi.Forbidden(q) }, 20, "cannot patch resource", true},
		"away":      {func(fakeapi.Request) *fakeapi.Failure { return &fakeapi.Failure{Code: http.StatusBadGateway} }, 150, "", true},
		"invalid": {func(fakeapi.Request) *fakeapi.Failure {
			return &fakeapi.Failure{Code: http.StatusUnprocessableEntity, Reason: "Invalid", Message: "too many conditions"}
		}, 2, "too many conditions", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 2)
				r.server.Fail(test.fail)
				close(r.source.synced)
				time.Sleep(time.Hour)
				synctest.Wait()
				require.LessOrEqual(t, r.writes(), test.most)
				lines := strings.Count(r.log.String(), "status cannot be written")
				require.Contains(t, r.log.String(), test.log)
				require.LessOrEqual(t, lines, 2)
				require.GreaterOrEqual(t, lines, 1)
				require.Equal(t, 2-map[bool]int{false: 2}[test.passes], r.writer.Stats().Pending)
				r.server.Fail(nil)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				want := "Accepted Unknown Pending 1 pool default/pool does not exist"
				if test.passes {
					require.Equal(t, want, r.conditions("m001"))
				} else {
					require.NotEqual(t, want, r.conditions("m001"))
				}
			})
		})
	}
}

// TestStops: not a request after the end, also while one is under way, and it may be called again.
func TestStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 50)
		r.server.Fail(func(fakeapi.Request) *fakeapi.Failure { return &fakeapi.Failure{Wait: 3 * time.Second} })
		close(r.source.synced)
		time.Sleep(10 * time.Second)
		start := time.Now()
		r.stop()
		require.Zero(t, time.Since(start))
		synctest.Wait()
		before := r.writes()
		time.Sleep(time.Minute)
		require.Equal(t, before, r.writes())
		require.Zero(t, r.writer.Stats().Pending)
		r.server.Fail(nil)
		r.source.look()
		r.start()
		for range 60 {
			r.settle()
		}
		require.Contains(t, r.conditions("m049"), "Accepted Unknown")
	})
}

// TestTooManyConditions: the API takes eight.
func TestTooManyConditions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.server.Change(fakeapi.Model, "default", "m000", func(o map[string]any) {
			var list []any
			for i := range 8 {
				list = append(list, map[string]any{"type": fmt.Sprint("T", i), "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2020-01-01T00:00:00Z"})
			}
			o["status"] = map[string]any{"conditions": list}
		})
		r.source.look()
		close(r.source.synced)
		r.settle()
		require.Zero(t, r.writes())
		require.Contains(t, r.log.String(), "it has 8 conditions of others")
	})
}

func TestNewRefuses(t *testing.T) {
	server := fakeapi.New()
	defer server.Close()
	_, err := status.New(server.Config(), nil, nil, status.Options{Rate: -1})
	require.ErrorContains(t, err, "status: Options.Rate is -1")
}
