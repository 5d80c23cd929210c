package externalmetrics_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/examples/envoy/externalmetrics"
	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric"
	"github.com/inferpick/inferpick/scheduling/autoscale/metric/metrictest"
	"github.com/inferpick/inferpick/types"
)

var llama = types.NamespacedName{Namespace: "models", Name: "llama"}

// authority signs certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := new(authority)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der := a.sign(t, template, template)
	var err error
	a.cert, err = x509.ParseCertificate(der.Certificate[0])
	require.NoError(t, err)
	a.key = der.PrivateKey.(*ecdsa.PrivateKey)
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der.Certificate[0]}))
	return a
}

func (a *authority) sign(t *testing.T, template, parent *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// client returns a certificate for somebody.
func (a *authority) client(t *testing.T, name string, usage x509.ExtKeyUsage) *tls.Certificate {
	c := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, a.cert)
	return &c
}

// apiServer is one that knows tokens "token-of-NAME", and lets "hpa" list metrics and "reader" only read discovery.
type apiServer struct {
	mu    sync.Mutex
	data  map[string]string // of the ConfigMap; nil: there is none
	away  bool
	asked []string
}

func (a *apiServer) set(change func(*apiServer)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var in struct {
		APIVersion, Kind string
		Spec             struct {
			Token, User           string
			Groups                []string
			NonResourceAttributes *struct{ Verb, Path string }
			ResourceAttributes    struct{ Verb, Group, Version, Resource, Namespace string }
		}
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &in)
	answer := map[string]any{"apiVersion": in.APIVersion, "kind": in.Kind}
	code := http.StatusCreated
	switch {
	case a.away:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case strings.HasSuffix(r.URL.Path, "/namespaces/kube-system/configmaps/extension-apiserver-authentication"):
		a.asked = append(a.asked, "configmap")
		if a.data == nil {
			http.NotFound(w, r)
			return
		}
		answer, code = map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": a.data}, http.StatusOK
	case in.Kind == "TokenReview":
		a.asked = append(a.asked, "token")
		user, known := strings.CutPrefix(in.Spec.Token, "token-of-")
		answer["status"] = map[string]any{"authenticated": known, "user": map[string]any{"username": user, "groups": []string{"g"}}}
	default:
		want := in.Spec.ResourceAttributes
		a.asked = append(a.asked, "may "+in.Spec.User+" "+strings.Join(in.Spec.Groups, ","))
		allowed := in.Spec.NonResourceAttributes != nil && in.Spec.NonResourceAttributes.Verb == "get" ||
			in.Spec.User == "hpa" && want.Verb == "list" && want.Group == externalmetrics.Group && want.Version == "v1beta1" &&
				want.Namespace == "models" && strings.HasPrefix(want.Resource, "inferpick_")
		answer["status"] = map[string]any{"allowed": allowed}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer)
}

// rig is a Server behind TLS, with its API server.
type rig struct {
	t      *testing.T
	source metrictest.Source
	api    apiServer
	url    string
	front  *authority
	mu     sync.Mutex
	counts map[string]int
}

func start(t *testing.T) *rig {
	r := &rig{t: t, front: newAuthority(t), counts: map[string]int{}}
	r.api.data = map[string]string{
		"requestheader-client-ca-file": r.front.pem, "requestheader-allowed-names": `["front-proxy-client"]`,
		"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-group-headers": `["X-Remote-Group"]`,
		"requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
	}
	api := httptest.NewServer(&r.api)
	t.Cleanup(api.Close)
	s, err := externalmetrics.New(externalmetrics.Options{
		Asker: metric.Asker{Source: &r.source, Models: func(_ types.NamespacedName, model string) bool { return model == "chat" }},
		API:   &rest.Config{Host: api.URL, QPS: -1}, Now: func() time.Time { return time.Unix(1767225600, 0) },
		Answered: func(metric string, status int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.counts[metric+" "+http.StatusText(status)]++
		},
	})
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(s)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	r.url = server.URL
	r.source.Set(llama, autoscale.Signals{Queued: 7, Backlog: 2.5, Ready: 2, KVUsed: 0.45}, 3, true)
	r.source.SetModel(llama, "chat", autoscale.Signals{Queued: 4})
	return r
}

// get asks with a certificate, if there is one, and headers in pairs.
func (r *rig) get(cert *tls.Certificate, method, path string, headers ...string) (int, string) {
	r.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	if cert != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*cert}
	}
	req, err := http.NewRequestWithContext(context.Background(), method, r.url+path, nil)
	require.NoError(r.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := transport.RoundTrip(req)
	require.NoError(r.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, strings.TrimSpace(string(body))
}

func path(metric string, selector string) string {
	return "/apis/external.metrics.k8s.io/v1beta1/namespaces/models/" + metric + "?labelSelector=" + url.QueryEscape(selector)
}

const bearer = "Authorization"

func TestDiscovery(t *testing.T) {
	t.Parallel()
	r := start(t)
	for path, want := range map[string]string{
		"/healthz": "ok", "/livez": "ok", "/readyz": "ok",
		"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"external.metrics.k8s.io",` +
			`"versions":[{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}],` +
			`"preferredVersion":{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}}]}`,
		"/apis/external.metrics.k8s.io": `{"kind":"APIGroup","apiVersion":"v1","name":"external.metrics.k8s.io",` +
			`"versions":[{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}],` +
			`"preferredVersion":{"groupVersion":"external.metrics.k8s.io/v1beta1","version":"v1beta1"}}`,
		"/apis/external.metrics.k8s.io/v1beta1": `{"kind":"APIResourceList","apiVersion":"v1",` +
			`"groupVersion":"external.metrics.k8s.io/v1beta1","resources":[{"name":"externalmetrics","singularName":"",` +
			`"namespaced":true,"kind":"ExternalMetricValueList","verbs":["get"]}]}`,
	} {
		code, body := r.get(nil, "GET", path, bearer, "Bearer token-of-reader")
		require.Equal(t, 200, code, path)
		require.Equal(t, want, body, path)
	}
	for path, want := range map[string]int{"/openapi/v2": 404, "/openapi/v3": 404, "/": 404, "/apis/external.metrics.k8s.io/v1": 404} {
		code, body := r.get(nil, "GET", path, bearer, "Bearer token-of-reader")
		require.Equal(t, want, code, path)
		require.Contains(t, body, `"kind":"Status"`)
	}
	code, body := r.get(nil, "POST", path("inferpick_queued", "pool=llama"), bearer, "Bearer token-of-reader")
	require.Equal(t, 405, code)
	require.Contains(t, body, `"reason":"MethodNotAllowed"`)
}

func TestValues(t *testing.T) {
	t.Parallel()
	r := start(t)
	code, body := r.get(nil, "GET", path("inferpick_backlogSeconds", "pool=llama"), bearer, "Bearer token-of-hpa")
	require.Equal(t, 200, code, body)
	require.Equal(t, `{"kind":"ExternalMetricValueList","apiVersion":"external.metrics.k8s.io/v1beta1","metadata":{},"items":[`+
		`{"metricName":"inferpick_backlogSeconds","metricLabels":{"pool":"llama"},"timestamp":"2026-01-01T00:00:00Z","value":"2500m"}]}`, body)
	for _, test := range []struct {
		metric, selector string
		code             int
		want             string
	}{
		{"inferpick_desired", "pool=llama", 200, `"value":"3"`},
		{"inferpick_queued", "pool=llama", 200, `"value":"7"`},
		{"inferpick_queued", "pool==llama", 200, `"value":"7"`},
		{"inferpick_queued", "pool in (llama)", 200, `"value":"7"`},
		{"inferpick_kv", "pool=llama", 200, `"value":"900m"`},
		{"inferpick_queued", "pool=llama,model=chat", 200, `"metricLabels":{"model":"chat","pool":"llama"},"timestamp":"2026-01-01T00:00:00Z","value":"4"`},
		{"inferpick_saturation", "pool=llama", 200, `"value":"0"`},

		{"inferpick_queued", "", 400, `has no pool, want pool=NAME`},
		{"inferpick_queued", "model=chat", 400, `has no pool`},
		{"inferpick_queued", "pool=", 400, `want pool=NAME`},
		{"inferpick_queued", "pool!=llama", 400, `want pool=NAME`},
		{"inferpick_queued", "pool in (llama,gemma)", 400, `want pool=NAME`},
		{"inferpick_queued", "pool", 400, `want pool=NAME`},
		{"inferpick_queued", "pool=llama,pool=gemma", 400, `has two pools`},
		{"inferpick_queued", "pool=llama,app=x", 400, `has \"app\", want pool and perhaps model`},
		{"inferpick_queued", "pool=(", 400, `labelSelector`},
		{"inferpick_queued", "pool=llama,model=chatt", 404, `unknown model`},
		{"inferpick_queued", "pool=gemma", 404, `unknown pool: models/gemma`},
		{"inferpick_desired", "pool=llama,model=chat", 404, `is of whole pools`},
		{"inferpick_queue", "pool=llama", 404, `the nearest is queued`},
	} {
		code, body := r.get(nil, "GET", path(test.metric, test.selector), bearer, "Bearer token-of-hpa")
		require.Equal(t, test.code, code, "%s %s: %s", test.metric, test.selector, body)
		require.Contains(t, body, test.want)
		if code != 200 {
			var status metav1.Status
			require.NoError(t, json.Unmarshal([]byte(body), &status))
			require.Equal(t, int32(code), status.Code)
			require.Equal(t, "Failure", status.Status)
		}
	}
	r.source.Miss(1)
	code, body = r.get(nil, "GET", path("inferpick_queued", "pool=llama"), bearer, "Bearer token-of-hpa")
	require.Equal(t, 503, code)
	require.Contains(t, body, "not all gateways answered")
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, 1, r.counts["queued Service Unavailable"])
	require.Equal(t, 1, r.counts[" Not Found"], "a name that is none is not counted by itself")
}

// TestTokens: who is nobody, who may not, and how often the API server is asked about them.
func TestTokens(t *testing.T) {
	t.Parallel()
	r := start(t)
	queued := path("inferpick_queued", "pool=llama")
	for token, want := range map[string]int{"": 401, "Bearer stolen": 401, "Basic token-of-hpa": 401, "Bearer token-of-reader": 403, "Bearer token-of-hpa": 200} {
		for range 3 {
			code, body := r.get(nil, "GET", queued, bearer, token)
			require.Equal(t, want, code, "%s: %s", token, body)
			require.Contains(t, body, `"kind":`)
		}
	}
	code, _ := r.get(nil, "GET", "/apis")
	require.Equal(t, 401, code)
	code, _ = r.get(nil, "GET", queued, "X-Remote-User", "hpa", "X-Remote-Group", "system:masters")
	require.Equal(t, 401, code, "headers without the certificate are a client's own")
	r.api.set(func(a *apiServer) {
		slices.Sort(a.asked)
		require.Equal(t, []string{"may hpa g", "may reader g", "token", "token", "token"}, a.asked)
		a.away = true
	})
	code, _ = r.get(nil, "GET", queued, bearer, "Bearer token-of-hpa")
	require.Equal(t, 200, code, "who was known just before is")
	code, body := r.get(nil, "GET", queued, bearer, "Bearer token-of-new")
	require.Equal(t, 503, code)
	require.Contains(t, body, "cannot be asked")
}

// TestFrontProxy: the headers count with the certificate of the API server, and with no other.
func TestFrontProxy(t *testing.T) {
	t.Parallel()
	r := start(t)
	queued := path("inferpick_queued", "pool=llama")
	other := newAuthority(t)
	hpa := []string{"X-Remote-User", "hpa", "X-Remote-Group", "system:serviceaccounts", "X-Remote-Extra-Scopes", "a"}
	for _, test := range []struct {
		name string
		cert *tls.Certificate
		want int
	}{
		{"good", r.front.client(t, "front-proxy-client", x509.ExtKeyUsageClientAuth), 200},
		{"of another name", r.front.client(t, "somebody", x509.ExtKeyUsageClientAuth), 401},
		{"for servers", r.front.client(t, "front-proxy-client", x509.ExtKeyUsageServerAuth), 401},
		{"of another authority", other.client(t, "front-proxy-client", x509.ExtKeyUsageClientAuth), 401},
	} {
		code, body := r.get(test.cert, "GET", queued, hpa...)
		require.Equal(t, test.want, code, "%s: %s", test.name, body)
	}
	good := r.front.client(t, "front-proxy-client", x509.ExtKeyUsageClientAuth)
	code, _ := r.get(good, "GET", queued)
	require.Equal(t, 401, code, "it asks for nobody")
	code, _ = r.get(good, "GET", queued, "X-Remote-User", "reader")
	require.Equal(t, 403, code)
	code, _ = r.get(good, "GET", queued, "X-Remote-User", "system:kube-aggregator", "X-Remote-Group", "system:masters")
	require.Equal(t, 200, code)
	code, _ = r.get(other.client(t, "x", x509.ExtKeyUsageClientAuth), "GET", queued, bearer, "Bearer token-of-hpa")
	require.Equal(t, 200, code, "a token is good whatever the certificate")
}

// TestNoFrontProxy: without the ConfigMap, or without a front proxy in it, tokens are good and certificates are not.
func TestNoFrontProxy(t *testing.T) {
	t.Parallel()
	r := start(t)
	cert := r.front.client(t, "front-proxy-client", x509.ExtKeyUsageClientAuth)
	queued := path("inferpick_queued", "pool=llama")
	r.api.set(func(a *apiServer) { a.data = nil })
	code, _ := r.get(cert, "GET", queued, "X-Remote-User", "hpa")
	require.Equal(t, 503, code)
	code, _ = r.get(cert, "GET", queued, bearer, "Bearer token-of-hpa")
	require.Equal(t, 200, code)

	r = start(t)
	r.api.set(func(a *apiServer) { a.data = map[string]string{"client-ca-file": "x"} })
	code, _ = r.get(cert, "GET", queued, "X-Remote-User", "hpa")
	require.Equal(t, 401, code)
}

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := externalmetrics.New(externalmetrics.Options{})
	require.ErrorContains(t, err, "Asker has no Source")
	_, err = externalmetrics.New(externalmetrics.Options{Asker: metric.Asker{Source: new(metrictest.Source)}})
	require.ErrorContains(t, err, "Options.API is required")
}

func FuzzSelector(f *testing.F) {
	for _, selector := range []string{"", "pool=llama", "pool=llama,model=chat", "pool in (llama)", "pool!=a,b", "a=b,pool=llama", "pool in (", "!pool"} {
		f.Add(selector)
	}
	var source metrictest.Source
	source.Set(llama, autoscale.Signals{}, 1, true)
	s, err := externalmetrics.New(externalmetrics.Options{Asker: metric.Asker{Source: &source}, API: &rest.Config{Host: "127.0.0.1:1"}})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, selector string) {
		code, body := externalmetrics.Value(s, "models", "inferpick_queued", selector)
		switch code {
		case 200:
			require.Contains(t, selector, "llama")
		case 400, 404:
			require.Contains(t, body, `"kind":"Status"`)
		default:
			t.Fatalf("%d %s", code, body)
		}
	})
}
