package engines_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/datastore/rollout/loader"
	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	inferpick "github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/types"
)

// rolling is a gateway that rolls adapters out on real servers, with clients that ask all the time.
type rolling struct {
	*inferpick.Gateway
	object  rollout.Object
	servers []*vllm.Server
	loader  *loader.Client
	eps     []*types.Endpoint
	asked   atomic.Int64
	failed  atomic.Int64
	first   sync.Map // failures by what they say
}

// roll starts a gateway before servers that all have the adapter ro-1 of a folder, which the model chat is.
func roll(t *testing.T, servers []*vllm.Server, folder string) *rolling {
	t.Helper()
	r := &rolling{servers: servers}
	r.object.Kind = "InferenceModel"
	r.object.Name = types.NamespacedName{Namespace: types.DefaultNamespace, Name: "chat"}
	r.loader, r.eps = loaders(t, servers)
	for _, ep := range r.eps {
		require.NoError(t, r.loader.VLLM().Load(t.Context(), ep, "ro-1", folder))
	}
	var err error
	r.Gateway, err = inferpick.New(inferpick.Options{
		Profile: plugins.Default(), Servers: inferpick.Addresses(addresses(servers)...),
		Rollouts: &rollout.Options{
			Loader: r.loader.VLLM(), Interval: 100 * time.Millisecond,
			OnEvent: func(e rollout.Event) { t.Logf("%s: %s", e.Kind, e.Text) },
		},
	})
	require.NoError(t, err)
	weight := int32(1)
	chat := &types.InferenceModel{ObjectMeta: types.ObjectMeta{Name: "chat"}}
	chat.Spec.ModelName, chat.Spec.PoolRef.Name = "chat", "default"
	chat.Spec.TargetModels = []types.TargetModel{{Name: "ro-1", Weight: &weight}}
	require.NoError(t, r.Store.Apply(chat))

	ctx, cancel := context.WithCancel(context.Background())
	front := httptest.NewServer(r.Proxy())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Run(ctx) })
	for i := range 6 {
		running.Go(func() { r.ask(ctx, front.URL, i) })
	}
	t.Cleanup(func() {
		cancel()
		front.CloseClientConnections()
		running.Wait()
		front.Close()
		r.Close()
		clean, end := context.WithTimeout(context.Background(), time.Minute)
		defer end()
		for _, ep := range r.eps {
			for _, name := range []string{"ro-1", "ro-2"} {
				_ = r.loader.VLLM().Unload(clean, ep, name)
			}
		}
	})
	return r
}

// ask asks for the model chat until ctx is done.
func (r *rolling) ask(ctx context.Context, url string, client int) {
	for i := 0; ctx.Err() == nil; i++ {
		prompt := fmt.Sprintf("client %d, question %d", client, i)
		a := ask(ctx, url, question{model: "chat", prompt: prompt, tokens: 4, stream: i%2 == 0})
		if ctx.Err() != nil {
			return
		}
		r.asked.Add(1)
		if err := a.good(); err != nil {
			r.failed.Add(1)
			r.first.LoadOrStore(a.status, fmt.Sprintf("%s: %.200v %.300s", a.server, err, a.body))
			time.Sleep(20 * time.Millisecond) // a server that fails at once is not to be asked a thousand times
		}
	}
}

// begin begins a rollout of ro-2 from a folder.
func (r *rolling) begin(t *testing.T, folder string) {
	t.Helper()
	steps := []rollout.Step{{SetWeight: 20}, {SetWeight: 50}, {SetWeight: 100}}
	for i := range steps {
		steps[i].Pause = time.Second
	}
	require.NoError(t, r.Rollouts.Start(rollout.Plan{
		Object: r.object, Stable: "ro-1", Canary: "ro-2", Steps: steps,
		// Times of servers that share two processors say nothing.
		Metrics: []rollout.Metric{{Name: rollout.Errors, MaxRise: 10}, {Name: rollout.TPOT, WarnOnly: true}},
		Load:    rollout.LoadPlan{Source: folder, Timeout: time.Minute, Tries: 2, Unload: true, Grace: time.Second},
	}))
}

// end waits for the end of the rollout.
func (r *rolling) end(t *testing.T, want rollout.Phase) rollout.Status {
	t.Helper()
	var s rollout.Status
	within(t, 4*time.Minute, "the rollout to be over", func() bool {
		s, _ = r.Rollouts.Get(r.object)
		return s.Phase == rollout.Done || s.Phase == rollout.Failed
	})
	r.first.Range(func(_, what any) bool { t.Logf("first of its status: %s", what); return true })
	t.Logf("%s: %s; %d requests, %d of them failed", s.Phase, s.Reason, r.asked.Load(), r.failed.Load())
	if s.Phase != want {
		t.Errorf("it ended as %s, want %s; %+v", s.Phase, want, s)
	}
	return s
}

// only checks that a target has all weight.
func (r *rolling) only(t *testing.T, target string) {
	t.Helper()
	w, err := rollout.WeightsOf(r.Store.Object(r.object.Kind, r.object.Name), 0)
	if err != nil || len(w) != 1 || w[0].Target != target {
		t.Errorf("weights %v, %v, want %s alone", w, err, target)
	}
}

// serving returns which of the adapters of a rollout servers list.
func (r *rolling) serving(t *testing.T) string {
	t.Helper()
	var all []string
	for _, ep := range r.eps {
		var have []string
		for _, name := range []string{"ro-1", "ro-2"} {
			has, err := r.loader.VLLM().Loaded(t.Context(), ep, name, "")
			require.NoError(t, err)
			if has {
				have = append(have, name)
			}
		}
		all = append(all, strings.Join(have, ","))
	}
	return strings.Join(all, " ")
}

// Rollouts on real servers: a good adapter gets everything without an error that a client sees, one that is not there
// gets nothing, and one that a server has lost under its requests is taken back.
func TestRollouts(t *testing.T) {
	servers := runtimeServers(t)
	folder := filepath.Join(runtimeFleet.folder, "rollouts")
	v1 := makeAdapter(t, filepath.Join(folder, "v1"), adapter{seed: 1})
	v2 := makeAdapter(t, filepath.Join(folder, "v2"), adapter{seed: 2})

	t.Run("good", func(t *testing.T) {
		r := roll(t, servers, v1)
		r.begin(t, v2)
		r.end(t, rollout.Done)
		within(t, 30*time.Second, "the old adapter to be unloaded", func() bool { return r.serving(t) == "ro-2 ro-2" })
		if n := r.failed.Load(); n != 0 {
			t.Errorf("%d of %d requests failed", n, r.asked.Load())
		}
		r.only(t, "ro-2")
	})

	t.Run("not there", func(t *testing.T) {
		r := roll(t, servers, v1)
		r.begin(t, filepath.Join(folder, "none"))
		s := r.end(t, rollout.Failed)
		if !strings.Contains(s.Reason, loader.ErrNoSource.Error()) || !strings.Contains(s.Reason, "none") {
			t.Errorf("reason %q, want what is wrong, and the source", s.Reason)
		}
		if n := r.failed.Load(); n != 0 || r.serving(t) != "ro-1 ro-1" {
			t.Errorf("%d requests failed; servers have %s", n, r.serving(t))
		}
	})

	t.Run("lost by one server", func(t *testing.T) {
		r := roll(t, servers, v1)
		r.begin(t, v2)
		within(t, time.Minute, "the first step", func() bool {
			s, _ := r.Rollouts.Get(r.object)
			return s.Phase == rollout.Stepping && s.Targets[1].Requests > 0
		})
		status, text, err := tell(t.Context(), servers[1], "/v1/unload_lora_adapter", `{"lora_name":"ro-2"}`)
		require.True(t, err == nil && status == http.StatusOK, "%d, %v: %s", status, err, text)
		r.end(t, rollout.Failed)
		r.only(t, "ro-1")
		failed := r.failed.Load()
		asked := r.asked.Load()
		within(t, 30*time.Second, "100 more requests", func() bool { return r.asked.Load() > asked+100 })
		if now := r.failed.Load(); now > failed+1 { // one may have been under way
			t.Errorf("%d requests failed after the end", now-failed)
		}
		within(t, 30*time.Second, "the canary to be unloaded", func() bool { return r.serving(t) == "ro-1 ro-1" })
	})
}
