package picker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/integration/kubernetes/cluster"
)

// delegation is what a picker needs to serve an API in the place of the API server, as its docs say.
const delegation = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NS-delegator}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:auth-delegator}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: picker}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: NS-delegator, namespace: kube-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: extension-apiserver-authentication-reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: picker}]
---
apiVersion: v1
kind: Service
metadata: {name: external-metrics, namespace: NS}
spec: {type: ExternalName, externalName: localhost, ports: [{port: PORT}]}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.external.metrics.k8s.io}
spec:
  group: external.metrics.k8s.io
  version: v1beta1
  service: {name: external-metrics, namespace: NS, port: PORT}
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
`

// scaled are a Deployment, of which nobody makes pods, and how it is scaled.
const scaled = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: llama}
spec:
  replicas: 1
  selector: {matchLabels: {app: llama}}
  template:
    metadata: {labels: {app: llama}}
    spec: {containers: [{name: server, image: server}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: llama}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: llama}
  minReplicas: 1
  maxReplicas: 8
  metrics:
  - type: External
    external:
      metric: {name: inferpick_queued, selector: {matchLabels: {pool: llama, model: chat}}}
      target: {type: AverageValue, averageValue: "1"}
`

// waits lets requests wait for servers.
const waits = `
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
admission: {waitForEndpoints: 1m}
`

var (
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	autoscalers = schema.GroupVersionResource{Group: "autoscaling", Version: "v2", Resource: "horizontalpodautoscalers"}
	apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
)

var externalAddress = regexp.MustCompile(`externalMetrics=127\.0\.0\.1:(\d+)`)

// TestExternalMetrics: the API server finds the picker behind an APIService and asks it with the certificate of its front
// proxy; the real controller scales by what it says; others are refused.
func TestExternalMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, cluster.Start(t, "-autoscale", "200ms"))
	w.Apply(t, w.ns, poolYAML("llama")+modelYAML("chat", "chat", "llama"))
	file := filepath.Join(t.TempDir(), "config.yaml")
	require.NoError(t, os.WriteFile(file, []byte(waits), 0o600))
	p := start(t, "epp", w.kubeconfig, w.ns, "-config", file, "-external-metrics-addr", "127.0.0.1:0")
	port := externalAddress.FindStringSubmatch(p.log.String())
	require.NotNil(t, port, p.log)
	p.ready()

	w.Apply(t, w.ns, strings.NewReplacer("NS", w.ns, "PORT", port[1]).Replace(delegation))
	cluster.Eventually(t, patience, func() error {
		return w.hasCondition(apiServices, "", "v1beta1.external.metrics.k8s.io", "Available", "True")
	})
	metrics := "/apis/external.metrics.k8s.io/v1beta1/namespaces/" + w.ns + "/"
	queued := metrics + "inferpick_queued?labelSelector=" + url.QueryEscape("pool=llama,model=chat")
	admin := w.Config()
	code, body := get(t, admin, admin.Host+queued)
	require.Equal(t, 200, code, body)
	require.Contains(t, body, `"value":"0"`)
	code, body = get(t, admin, admin.Host+"/apis/external.metrics.k8s.io/v1beta1")
	require.Equal(t, 200, code, body)
	require.Contains(t, body, `"name":"externalmetrics"`)
	code, body = get(t, admin, admin.Host+metrics+"inferpick_queued?labelSelector=pool%3Dgemma")
	require.Equal(t, 404, code, body)
	require.Contains(t, body, "unknown pool")
	code, body = get(t, w.ConfigFor("nobody"), admin.Host+queued)
	require.Equal(t, 403, code, body)

	w.others(t, "https://127.0.0.1:"+port[1], queued)

	// Three requests wait for servers.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answered := make(chan error, 3)
	for range cap(answered) {
		go func() {
			_, err := p.ask(ctx, "chat")
			answered <- err
		}()
	}
	w.Apply(t, w.ns, scaled)
	w.deployed(t, 1)
	cluster.Eventually(t, patience, func() error { return w.replicas(3) })
	w.deployed(t, 3)
	cluster.Eventually(t, patience, func() error { return w.hasCondition(autoscalers, w.ns, "llama", "ScalingActive", "True") })
	require.Empty(t, answered, "they wait")

	// Without the picker nobody knows, and what there is stays.
	p.kill()
	cluster.Eventually(t, patience, func() error { return w.hasCondition(autoscalers, w.ns, "llama", "ScalingActive", "False") })
	require.NoError(t, w.replicas(3))
}

// others are those who ask the picker itself: with a token they are known, with the headers of a front proxy and a
// certificate of their own, or none, they are nobody.
func (w *world) others(t *testing.T, picker, path string) {
	t.Helper()
	for account, want := range map[string]int{"other": http.StatusForbidden, "reader": http.StatusOK} {
		config := w.ServiceAccount(t, w.ns, account)
		if account == "reader" {
			w.Grant(t, w.ns, "system:serviceaccount:"+w.ns+":reader", cluster.Rule{Groups: []string{"external.metrics.k8s.io"}, Resources: []string{"*"}, Verbs: []string{"list"}})
		}
		code, body := get(t, &rest.Config{BearerToken: config.BearerToken, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, picker+path)
		require.Equal(t, want, code, body)
	}
	forged := selfSigned(t, "front-proxy-client")
	for name, certs := range map[string][]tls.Certificate{"forged": {forged}, "none": nil} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certs}}}
		req, err := http.NewRequestWithContext(t.Context(), "GET", picker+path, nil)
		require.NoError(t, err)
		req.Header.Set("X-Remote-User", "admin")
		req.Header.Set("X-Remote-Group", "system:masters")
		resp, err := client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode, name)
	}
}

// get asks as somebody.
func get(t *testing.T, as *rest.Config, url string) (code int, body string) {
	t.Helper()
	client, err := rest.HTTPClientFor(as)
	require.NoError(t, err)
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	require.NoError(t, err)
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

// hasCondition returns an error unless an object has a condition.
func (w *world) hasCondition(of schema.GroupVersionResource, namespace, name, condition, status string) error {
	o, err := w.Dynamic.Resource(of).Namespace(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	all, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range all {
		if c := c.(map[string]any); c["type"] == condition && c["status"] == status {
			return nil
		}
	}
	text, _ := json.Marshal(all)
	return fmt.Errorf("%s %s is not %s=%s: %s", of.Resource, name, condition, status, text)
}

// replicas returns an error unless the Deployment is to have so many.
func (w *world) replicas(want int64) error {
	o, err := w.Dynamic.Resource(deployments).Namespace(w.ns).Get(context.Background(), "llama", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if got, _, _ := unstructured.NestedInt64(o.Object, "spec", "replicas"); got != want {
		return errors.Join(fmt.Errorf("%d replicas, want %d", got, want), w.hasCondition(autoscalers, w.ns, "llama", "ScalingActive", "True"))
	}
	return nil
}

// deployed plays the controller of Deployments: there are so many replicas.
func (w *world) deployed(t *testing.T, n int) {
	t.Helper()
	patch := fmt.Sprintf(`{"status": {"replicas": %d, "updatedReplicas": %[1]d}}`, n)
	_, err := w.Dynamic.Resource(deployments).Namespace(w.ns).Patch(context.Background(), "llama", "application/merge-patch+json", []byte(patch), metav1.PatchOptions{}, "status")
	require.NoError(t, err)
}

// selfSigned returns a certificate that nobody has signed but its owner.
func selfSigned(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
