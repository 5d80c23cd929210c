package picker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apitypes "k8s.io/apimachinery/pkg/types"

	"github.com/inferpick/inferpick/datastore/rollout"
	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
	"github.com/inferpick/inferpick/types"
)

var (
	models = schema.GroupVersionResource{Group: types.GroupX, Version: "v1alpha2", Resource: "inferencemodels"}
	events = schema.GroupVersionResource{Group: "events.k8s.io", Version: "v1", Resource: "events"}

	// rolloutRights are those that rollouts need beside the picker's.
	rolloutRights = []cluster.Rule{
		{Groups: []string{types.GroupX, types.GroupLLMD}, Resources: []string{"inferencemodels", "inferencemodelrewrites"}, Verbs: []string{"get", "patch"}},
		{Groups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create"}},
	}
)

// quickly is a plan that takes seconds: few requests are enough for it.
const quickly = `{
	"stable": "v1", "canary": "v2", "minRequests": 10,
	"steps": [{"setWeight": 20, "pause": "1s"}, {"setWeight": 50, "pause": "1s"}, {"setWeight": 100, "pause": "1s"}],
	"metrics": [{"name": "errors", "maxRise": 20}, {"name": "empty", "maxRise": 20}],
	"load": {"source": "/adapters/v2", "unload": true, "grace": "2s"}
}`

// lab is a world with a model whose adapter v1 is to become v2, on two pods, under load.
type lab struct {
	*world
	pods []*cluster.Pod
}

func newLab(t *testing.T, fault modelserver.AdapterFault) *lab {
	t.Helper()
	w := newWorld(t, cluster.Shared(t))
	w.Grant(t, w.ns, "picker", append(slices.Clone(rights), rolloutRights...)...)
	l := &lab{world: w}
	w.Apply(t, w.ns, poolYAML("llama")+`
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, poolRef: {name: llama}, targetModels: [{name: v1, weight: 1}]}
`)
	for range 2 {
		pod := w.Pod(t, cluster.PodOptions{
			Namespace: w.ns, Labels: map[string]string{"app": "llama"},
			Model: modelserver.Options{Models: []string{"llama-8b"}, Adapters: []string{"v1"}, TimeScale: 50},
		})
		pod.Models[0].Fault("v2", fault)
		l.pods = append(l.pods, pod)
	}
	return l
}

func (l *lab) start(name string) *picker {
	l.t.Helper()
	p := start(l.t, name, l.kubeconfig, l.ns, "-rollouts")
	p.ready()
	cluster.Eventually(l.t, patience, func() error { _, err := p.ask(context.Background(), "chat"); return err })
	return p
}

// plan gives the model one, as kubectl annotate does.
func (l *lab) plan(text string) {
	l.t.Helper()
	l.patch("kubectl-annotate", map[string]any{"metadata": map[string]any{"annotations": map[string]any{rollout.Annotation: text}}})
}

func (l *lab) patch(manager string, patch map[string]any) {
	l.t.Helper()
	data, err := json.Marshal(patch)
	require.NoError(l.t, err)
	_, err = l.Dynamic.Resource(models).Namespace(l.ns).Patch(context.Background(), "chat", apitypes.MergePatchType, data, metav1.PatchOptions{FieldManager: manager})
	require.NoError(l.t, err)
}

// now is the condition Rollout of the model, and its weights.
func (l *lab) now() (condition, weights string) {
	l.t.Helper()
	o, err := l.Dynamic.Resource(models).Namespace(l.ns).Get(context.Background(), "chat", metav1.GetOptions{})
	require.NoError(l.t, err)
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, one := range list {
		if c := one.(map[string]any); c["type"] == "Rollout" {
			condition = fmt.Sprintf("%s %s: %s", c["status"], c["reason"], c["message"])
		}
	}
	targets, _, _ := unstructured.NestedSlice(o.Object, "spec", "targetModels")
	var all []string
	for _, one := range targets {
		all = append(all, fmt.Sprintf("%s %v", one.(map[string]any)["name"], one.(map[string]any)["weight"]))
	}
	return condition, strings.Join(all, ", ")
}

// becomes waits until the condition begins so.
func (l *lab) becomes(want string) string {
	l.t.Helper()
	var got string
	cluster.Eventually(l.t, patience, func() error {
		var weights string
		if got, weights = l.now(); !strings.HasPrefix(got, want) {
			return fmt.Errorf("the condition is %q, and the weights are %s, want %q", got, weights, want)
		}
		return nil
	})
	return got
}

// told waits until there are events of these reasons.
func (l *lab) told(want ...string) {
	l.t.Helper()
	cluster.Eventually(l.t, patience, func() error {
		list, err := l.Dynamic.Resource(events).Namespace(l.ns).List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var all []string
		for _, e := range list.Items {
			all = append(all, e.Object["reason"].(string))
		}
		for _, one := range want {
			if !slices.Contains(all, one) {
				return fmt.Errorf("events are %v, want %s", all, one)
			}
		}
		return nil
	})
}

// command gives one for the rollout at the picker's metrics port.
func (p *picker) command(ns, command string) (int, string) {
	p.t.Helper()
	url := strings.TrimSuffix(p.metrics, "/metrics") + "/rollouts/" + ns + "/InferenceModel/chat"
	method := http.MethodGet
	if command != "" {
		url, method = url+"/"+command, http.MethodPost
	}
	req, err := http.NewRequest(method, url, bytes.NewReader([]byte(`{"why": "the test wants it"}`)))
	require.NoError(p.t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

// TestRollout: an adapter that is as good takes over, on all pods, also one that comes meanwhile; no request fails, and
// the old one is unloaded.
func TestRollout(t *testing.T) {
	t.Parallel()
	l := newLab(t, modelserver.AdapterFault{LoadTime: 300 * time.Millisecond})
	p := l.start("epp")
	load := p.load(t.Context(), "chat", 4)
	l.plan(quickly)
	l.becomes("True Stepping")
	l.Pod(t, cluster.PodOptions{
		Namespace: l.ns, Labels: map[string]string{"app": "llama"},
		Model: modelserver.Options{Models: []string{"llama-8b"}, Adapters: []string{"v1"}, TimeScale: 50},
	})
	l.becomes("False Done")
	require.NoError(t, load.end())
	_, weights := l.now()
	require.Equal(t, "v2 10000", weights)
	l.told("RolloutStarted", "RolloutLoaded", "RolloutStepped", "RolloutCompleted")
	l.isTrue("Accepted")
	for _, pod := range l.pods {
		cluster.Eventually(t, patience, func() error { return serves(pod, "v2", true) })
		cluster.Eventually(t, patience, func() error { return serves(pod, "v1", false) })
	}
	require.NotContains(t, p.log.String(), "forbidden")
	require.NoError(t, p.metric("inferpick_kubernetes_rollout_leader 1"))
}

// isTrue waits until the model has a condition of a type that is true.
func (l *lab) isTrue(kind string) {
	l.t.Helper()
	cluster.Eventually(l.t, patience, func() error {
		o, err := l.Dynamic.Resource(models).Namespace(l.ns).Get(context.Background(), "chat", metav1.GetOptions{})
		if err != nil {
			return err
		}
		list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, one := range list {
			if c := one.(map[string]any); c["type"] == kind && c["status"] == "True" {
				return nil
			}
		}
		return fmt.Errorf("conditions are %v", list)
	})
}

// serves reports whether a pod has an adapter, by an error if not as wanted.
func serves(pod *cluster.Pod, adapter string, want bool) error {
	resp, err := http.Get(pod.Models[0].URL() + "/v1/models")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && strings.Contains(string(body), fmt.Sprintf("%q", adapter)) != want {
		err = fmt.Errorf("%s at %s: want %v, it has %s", adapter, pod.Name, want, body)
	}
	return err
}

// TestBadRollout: an adapter whose requests fail is taken back, and few have failed.
func TestBadRollout(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]modelserver.AdapterFault{
		"errors":  {Errors: 0.5}, // it may be loaded: probes can pass
		"empty":   {Empty: 1},
		"missing": {Missing: true}, // so that nobody can load it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, fault)
			p := l.start("epp")
			load := p.load(t.Context(), "chat", 4)
			l.plan(quickly)
			condition := l.becomes("False Failed")
			_ = load.end()
			failed := len(load.errs)
			_, weights := l.now()
			require.Contains(t, []string{"v1 10000", "v1 1"}, weights)
			t.Logf("%s; %d of %d requests have failed", condition, failed, load.sent.Load())
			require.Less(t, failed, 100)
			l.told("RolloutEnded")
		})
	}
}

// TestRolloutIsEdited: somebody else changes the weights. It pauses, says who, and leaves them; resumed, it goes on.
func TestRolloutIsEdited(t *testing.T) {
	t.Parallel()
	l := newLab(t, modelserver.AdapterFault{})
	p := l.start("epp")
	load := p.load(t.Context(), "chat", 4)
	l.plan(strings.Replace(quickly, `"pause": "1s"`, `"pause": "3s"`, 1))
	l.becomes("True Stepping")
	l.patch("argocd-controller", map[string]any{"spec": map[string]any{"targetModels": []any{map[string]any{"name": "v1", "weight": 1}}}})
	condition := l.becomes("Unknown Paused")
	require.Contains(t, condition, "the weights were written by argocd-controller, which keeps what is in a repository: let it ignore differences of /spec/targetModels")
	time.Sleep(2 * time.Second)
	_, weights := l.now()
	require.Equal(t, "v1 1", weights, "they are left as they are")
	status, answer := p.command(l.ns, "resume")
	require.Equal(t, http.StatusOK, status, answer)
	l.becomes("False Done")
	require.NoError(t, load.end())
}

// TestRolloutLosesARight: without the right to write the model it holds and says which right is missing, and goes on
// once it is given.
func TestRolloutLosesARight(t *testing.T) {
	t.Parallel()
	l := newLab(t, modelserver.AdapterFault{})
	p := l.start("epp")
	load := p.load(t.Context(), "chat", 4)
	l.plan(strings.Replace(quickly, `"pause": "1s"`, `"pause": "4s"`, 1))
	l.becomes("True Stepping")
	l.Grant(t, l.ns, "picker", append(slices.Clone(rights), cluster.Rule{
		Groups: []string{types.GroupX, types.GroupLLMD}, Resources: []string{"inferencemodels", "inferencemodelrewrites"}, Verbs: []string{"get"},
	})...)
	cluster.Eventually(t, patience, func() error {
		_, text := p.command(l.ns, "")
		if want := "needs patch on inferencemodels.inference.networking.x-k8s.io in namespace " + l.ns; !strings.Contains(text, want) {
			return fmt.Errorf("it says %s, want %q", text, want)
		}
		return nil
	})
	_, weights := l.now()
	require.Equal(t, "v1 8000, v2 2000", weights)
	l.Grant(t, l.ns, "picker", append(slices.Clone(rights), rolloutRights...)...)
	l.becomes("False Done")
	require.NoError(t, load.end())
}

// TestPickersRestart: the picker that writes is killed, or ends, in each phase: the other one goes on from there, and
// weights never go back.
func TestPickersRestart(t *testing.T) {
	t.Parallel()
	l := newLab(t, modelserver.AdapterFault{LoadTime: 2 * time.Second})
	pickers := []*picker{l.start("epp-0"), l.start("epp-1")}
	other := func(p *picker) *picker {
		if p == pickers[0] {
			return pickers[1]
		}
		return pickers[0]
	}
	leader := func() *picker {
		var found *picker
		cluster.Eventually(t, patience, func() error {
			for _, p := range pickers {
				if err := p.metric("inferpick_kubernetes_rollout_leader 1"); err == nil {
					found = p
					return nil
				}
			}
			return fmt.Errorf("nobody leads")
		})
		return found
	}
	l.plan(quickly)
	for i, phase := range []string{"True Loading", "True Stepping", "True Stepping"} {
		p := leader()
		load := other(p).load(t.Context(), "chat", 4)
		before := l.becomes(phase)
		if i == 1 {
			p.kill() // as in a crash: the lease has to run out
		} else {
			require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
			_ = p.cmd.Wait()
		}
		pickers[slices.Index(pickers, p)] = l.start(fmt.Sprint("epp-", i+2))
		leader()
		require.NoError(t, load.end())
		after, weights := l.now()
		t.Logf("%s: from %q to %q, %s", phase, before, after, weights)
	}
	load := leader().load(t.Context(), "chat", 4)
	l.becomes("False Done")
	require.NoError(t, load.end())
	_, weights := l.now()
	require.Equal(t, "v2 10000", weights)
}
