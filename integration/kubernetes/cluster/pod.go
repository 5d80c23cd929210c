package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// PodOptions say what a pod is.
type PodOptions struct {
	Namespace, Name     string // default name: one that no other pod has
	Labels, Annotations map[string]string
	Ports               []int // default: 8000

	// NotReady pods serve, but nobody may know before SetReady.
	NotReady bool

	// Model is what each port serves: simulated model servers with the name of the pod.
	Model modelserver.Options
	// Handler is what a port serves instead, over HTTP/1.1 and HTTP/2 without TLS.
	Handler func(p *Pod, port int) http.Handler
	// Silent pods have addresses in 10.0.0.0/8, at which there is nothing.
	Silent bool
}

// Pod is a pod with its servers.
type Pod struct {
	Namespace, Name, IP string
	Models              []*modelserver.Server // by port, without a Handler

	resource dynamic.ResourceInterface
	servers  []podServer
}

// podServer is what listens at a port.
type podServer struct {
	shutdown func(context.Context) error // waits for the requests in flight
	close    func()
}

// Pod makes a pod that is ready, unless it shall not be. It ends with the test.
func (s *Server) Pod(t testing.TB, o PodOptions) *Pod {
	t.Helper()
	p, err := s.StartPod(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = p.Kill(ctx) // the server may be away by now
	})
	return p
}

// StartPod is Pod without a test: Terminate or Kill ends the pod.
func (s *Server) StartPod(ctx context.Context, o PodOptions) (p *Pod, err error) {
	if o.Name == "" {
		o.Name = fmt.Sprintf("pod-%d", s.pods.Add(1))
	}
	if len(o.Ports) == 0 {
		o.Ports = []int{8000}
	}
	resource := s.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(o.Namespace)
	p = &Pod{Namespace: o.Namespace, Name: o.Name, resource: resource}
	if err := p.serve(ctx, o); err != nil {
		return nil, err
	}
	if _, err = resource.Create(ctx, manifest(o), metav1.CreateOptions{}); err == nil {
		err = p.SetReady(ctx, !o.NotReady)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// manifest returns a pod on a node: the server deletes those that are on none at once.
func manifest(o PodOptions) *unstructured.Unstructured {
	pod := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"spec": map[string]any{
			"nodeName":                      "node",
			"terminationGracePeriodSeconds": int64(600), // Terminate ends it sooner
			"containers":                    []any{map[string]any{"name": "server", "image": "simulated"}},
		},
	}}
	pod.SetName(o.Name)
	pod.SetLabels(o.Labels)
	pod.SetAnnotations(o.Annotations)
	return pod
}

// serve starts the servers of a pod.
func (p *Pod) serve(ctx context.Context, o PodOptions) error {
	if o.Silent {
		p.IP = silentIP()
		return nil
	}
	ip, listeners, err := listen(o.Ports)
	if err != nil {
		return err
	}
	p.IP = ip
	for i, l := range listeners {
		if o.Handler != nil {
			p.servers = append(p.servers, serveHandler(o.Handler(p, o.Ports[i]), l))
			continue
		}
		o.Model.Name, o.Model.Listener = o.Name, l
		model, err := modelserver.Start(context.WithoutCancel(ctx), o.Model)
		if err != nil {
			p.close()
			return err
		}
		p.Models = append(p.Models, model)
		p.servers = append(p.servers, podServer{model.Shutdown, model.Close})
	}
	return nil
}

func serveHandler(h http.Handler, l net.Listener) podServer {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) }) // until shutdown or close
	return podServer{
		shutdown: func(ctx context.Context) error { defer serving.Wait(); return server.Shutdown(ctx) },
		close:    func() { server.Close(); serving.Wait() },
	}
}

// SetReady says that the pod runs, and whether it is ready, as the kubelet would.
func (p *Pod) SetReady(ctx context.Context, ready bool) error {
	condition := map[string]any{"type": "Ready", "status": "False", "lastTransitionTime": time.Now().UTC().Format(time.RFC3339)}
	if ready {
		condition["status"] = "True"
	}
	return p.patch(ctx, map[string]any{"status": map[string]any{
		"phase": "Running", "podIP": p.IP, "podIPs": []any{map[string]any{"ip": p.IP}}, "conditions": []any{condition},
	}}, "status")
}

// SetLabels changes labels; one that is nil is removed.
func (p *Pod) SetLabels(ctx context.Context, labels map[string]any) error {
	return p.patch(ctx, map[string]any{"metadata": map[string]any{"labels": labels}})
}

func (p *Pod) patch(ctx context.Context, patch map[string]any, subresources ...string) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	_, err = p.resource.Patch(ctx, p.Name, apitypes.MergePatchType, data, metav1.PatchOptions{}, subresources...)
	return err
}

// Terminate deletes the pod as kubelets do when everybody is in good order: it is terminating
// for as long as its preStop hook takes, then its servers accept no more and finish what is in
// flight, and then it is gone.
func (p *Pod) Terminate(ctx context.Context, preStop time.Duration) error {
	if err := p.resource.Delete(ctx, p.Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(preStop):
	}
	for _, server := range p.servers {
		if err := server.shutdown(ctx); err != nil {
			return err
		}
	}
	return p.remove(ctx)
}

// Kill ends the servers in the middle of what they send and deletes the pod at once. A pod that
// has ended stays so.
func (p *Pod) Kill(ctx context.Context) error {
	p.close()
	return p.remove(ctx)
}

// remove says that nothing of the pod is left.
func (p *Pod) remove(ctx context.Context) error {
	now := int64(0)
	err := p.resource.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (p *Pod) close() {
	for _, server := range p.servers {
		server.close()
	}
}
