package cluster_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

func TestMain(m *testing.M) { os.Exit(cluster.Run(m)) }

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// A pod serves while it is terminating, finishes what is in flight, and only then is gone.
func TestPodTerminates(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	ns := c.Namespace(t)
	pod := c.Pod(t, cluster.PodOptions{Namespace: ns, Model: modelserver.Options{TimeScale: 20}})
	require.Len(t, pod.Models, 1)
	require.Equal(t, pod.IP+":8000", pod.Models[0].Address())

	status := func() map[string]any {
		o, err := c.Dynamic.Resource(pods).Namespace(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
		require.NoError(t, err)
		return o.Object
	}
	require.Equal(t, pod.IP, status()["status"].(map[string]any)["podIP"])

	answer := make(chan string, 1)
	go func() {
		response, err := http.Post(pod.Models[0].URL()+"/v1/completions", "application/json",
			strings.NewReader(`{"model":"simulated-llm","prompt":"Hi","max_tokens":1000,"ignore_eos":true}`))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	cluster.Eventually(t, 10*time.Second, func() error {
		if pod.Models[0].Stats().Requests == 0 {
			return io.ErrNoProgress
		}
		return nil
	})
	ended := make(chan error, 1)
	go func() { ended <- pod.Terminate(context.WithoutCancel(t.Context()), 100*time.Millisecond) }()
	cluster.Eventually(t, 10*time.Second, func() error {
		if status()["metadata"].(map[string]any)["deletionTimestamp"] == nil {
			return io.ErrNoProgress
		}
		return nil
	})
	require.Contains(t, <-answer, `"completion_tokens":1000`)
	require.NoError(t, <-ended)
	_, err := c.Dynamic.Resource(pods).Namespace(ns).Get(t.Context(), pod.Name, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), err)
}

// A user has the rights of its Role and no others; so has a service account by its token.
func TestGrant(t *testing.T) {
	t.Parallel()
	c := cluster.Shared(t)
	ns := c.Namespace(t)
	read := cluster.Rule{Groups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}}
	account := c.ServiceAccount(t, ns, "picker")
	c.Grant(t, ns, "alice", read)
	c.Grant(t, ns, "system:serviceaccount:"+ns+":picker", read)

	for name, config := range map[string]*dynamic.DynamicClient{
		"alice":   dynamic.NewForConfigOrDie(c.ConfigFor("alice")),
		"account": dynamic.NewForConfigOrDie(account),
	} {
		cluster.Eventually(t, 10*time.Second, func() error {
			_, err := config.Resource(pods).Namespace(ns).List(t.Context(), metav1.ListOptions{})
			return err
		})
		_, err := config.Resource(pods).Namespace("default").List(t.Context(), metav1.ListOptions{})
		require.True(t, apierrors.IsForbidden(err), "%s: %v", name, err)
	}

	c.Grant(t, ns, "alice")
	alice := dynamic.NewForConfigOrDie(c.ConfigFor("alice")).Resource(pods).Namespace(ns)
	cluster.Eventually(t, 10*time.Second, func() error {
		if _, err := alice.List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			return io.ErrNoProgress
		}
		return nil
	})
}
