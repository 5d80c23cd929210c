package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// adapted are model servers which answer for all models, or fail for v2 if they are told to.
type adapted struct{ bad, missing atomic.Bool }

// Load implements rollout.Loader, as the following do: they have all adapters, or none.
func (s *adapted) Load(ctx context.Context, ep *types.Endpoint, name, source string) error {
	if s.missing.Load() {
		return errors.New("there is none")
	}
	return nil
}

func (s *adapted) Unload(context.Context, *types.Endpoint, string) error { return nil }

func (s *adapted) Loaded(context.Context, *types.Endpoint, string, string) (bool, error) {
	return !s.missing.Load(), nil
}

func (s *adapted) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/metrics") {
		text := "vllm:num_requests_waiting 0\nvllm:num_requests_running 0\nvllm:kv_cache_usage_perc 0\n"
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/plain"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
	}
	body, _ := io.ReadAll(r.Body)
	answer := func(status int, text string) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
	}
	if s.bad.Load() && strings.Contains(string(body), `"v2"`) {
		return answer(500, `{"error":{"message":"out of luck"}}`)
	}
	return answer(200, `{"model":"tiny","choices":[{"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":7}}`)
}

func chatManifest(plan string) *types.InferenceModel {
	m := &types.InferenceModel{ObjectMeta: types.ObjectMeta{Name: "chat", Annotations: map[string]string{rollout.Annotation: plan}}}
	m.Spec.ModelName, m.Spec.PoolRef.Name = "chat", "default"
	m.Spec.TargetModels = []types.TargetModel{{Name: "v1"}}
	return m
}

const shortPlan = `{"stable": "v1", "canary": "v2", "metrics": [{"name": "errors", "maxRise": 5}],
	"steps": [{"setWeight": 10, "pause": "5s"}, {"setWeight": 100, "pause": "5s"}]}`

// rolling is a number of gateways that roll out, and what runs them.
func rolling(t *testing.T, s *adapted, names ...string) (all []*gateway.Gateway) {
	network := sharingtest.NewNetwork(sharingtest.NetworkOptions{})
	for _, name := range names {
		o := gateway.Options{
			Profile: plugins.Default(), Servers: gateway.Addresses("a:1", "b:1"), Rollouts: &rollout.Options{Loader: s},
			Admission: func() *admission.Options { return new(admission.Options) },
			Metrics: func(g *gateway.Gateway) (gateway.Metrics, error) {
				m, err := telemetry.New(telemetry.Options{Rollouts: g.Rollouts.Status})
				counted[g] = m
				return m, err
			},
		}
		o.Profile.Rules = append(o.Profile.Rules, scheduling.Rule{
			Name: "some", When: func(r *types.Request) bool { return r.MaxTokens == 1 }, Picker: o.Profile.Picker, Costs: o.Profile.Costs,
		})
		if len(names) > 1 {
			o.Sharing = &sharing.Options{Name: name, Transport: network.Open(name)}
		}
		o.Scrape.ModelsInterval = -1
		o.Scrape.Transport, o.Scrape.Interval = s, time.Second
		g, err := gateway.New(o)
		require.NoError(t, err)
		g.Transport.Base = s
		require.NoError(t, g.Store.Apply(chatManifest(shortPlan)))
		var running sync.WaitGroup
		running.Go(func() { g.Run(t.Context()) })
		t.Cleanup(func() { g.Close(); running.Wait() })
		all = append(all, g)
	}
	return all
}

// roll asks until the rollout of all gateways is in a phase.
func roll(t *testing.T, all []*gateway.Gateway, phase rollout.Phase) {
	t.Helper()
	for range 600 {
		in := 0
		for _, g := range all {
			for range 5 {
				ask(g, "chat")
			}
			if s := g.Rollouts.Status(); len(s) == 1 && s[0].Phase == phase {
				in++
			}
		}
		if time.Sleep(100 * time.Millisecond); in == len(all) {
			return
		}
	}
	t.Fatalf("not all are in phase %s: %+v", phase, all[0].Rollouts.Status())
}

// Requests through a gateway move to a good target, and away from a bad one.
func TestRollouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(adapted)
		all := rolling(t, s, "one")
		roll(t, all, rollout.Stepping)
		require.Contains(t, page(t, all[0]), `inferpick_rollout_phase{kind="InferenceModel",name="chat",phase="Stepping"} 1`)
		roll(t, all, rollout.Done)
		require.Contains(t, page(t, all[0]), `inferpick_rollout_weight{kind="InferenceModel",name="chat",target="v2"} 1`)
		require.Equal(t, 200, ask(all[0], "chat").Code)
		for _, target := range all[0].Rollouts.Status()[0].Targets {
			require.Zero(t, target.InFlight)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := new(adapted)
		all := rolling(t, s, "one")
		s.bad.Store(true)
		roll(t, all, rollout.Failed)
		require.Equal(t, 200, ask(all[0], "chat").Code)
	})
}

// Gateways that share judge as one.
func TestRolloutsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(adapted)
		all := rolling(t, s, "one", "two", "three")
		roll(t, all, rollout.Stepping)
		leaders := 0
		for _, g := range all {
			if status := g.Rollouts.Status()[0]; status.Leads {
				leaders++
			} else {
				require.Equal(t, "gateway one", status.Leader)
			}
		}
		require.Equal(t, 1, leaders)
		s.bad.Store(true)
		roll(t, all, rollout.Failed)
	})
}

// A server that is not known to have the canary gets no request for it, and if none has the client is told.
func TestRolloutGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(adapted)
		g := rolling(t, s, "one")[0]
		roll(t, []*gateway.Gateway{g}, rollout.Stepping)
		s.missing.Store(true)
		for _, ep := range g.Store.Snapshot().Pools()[0].Endpoints() { // they begin anew
			g.Store.UpdateMetrics(ep.Load, types.Metrics{StartedAt: types.Known(1)})
			g.Store.UpdateMetrics(ep.Load, types.Metrics{StartedAt: types.Known(100)})
		}
		w := ask(g, "v2")
		require.Equal(t, 503, w.Code, w.Body.String())
		require.Contains(t, w.Body.String(), "no_endpoint")
		require.Equal(t, 200, ask(g, "v1").Code)
	})
}

// With a state file a gateway that takes the place of another goes on where that was.
func TestRolloutsSurvive(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rollouts.json")
	synctest.Test(t, func(t *testing.T) {
		s := new(adapted)
		begin := func() (g *gateway.Gateway, stop func()) {
			o := gateway.Options{Profile: plugins.Default(), Servers: gateway.Addresses("a:1"), Rollouts: &rollout.Options{StateFile: file}}
			o.Scrape.ModelsInterval, o.Scrape.Transport = -1, s
			g, err := gateway.New(o)
			require.NoError(t, err)
			g.Transport.Base = s
			require.NoError(t, g.Store.Apply(chatManifest(shortPlan)))
			var running sync.WaitGroup
			running.Go(func() { g.Run(t.Context()) })
			stop = sync.OnceFunc(func() { g.Close(); running.Wait() })
			t.Cleanup(stop)
			return g, stop
		}
		s.bad.Store(true)
		g, stop := begin()
		roll(t, []*gateway.Gateway{g}, rollout.Failed)
		reason := g.Rollouts.Status()[0].Reason
		stop()
		g, _ = begin()
		time.Sleep(time.Minute)
		require.Equal(t, rollout.Failed, g.Rollouts.Status()[0].Phase, "it does not begin anew")
		require.Equal(t, reason, g.Rollouts.Status()[0].Reason)
	})
}
