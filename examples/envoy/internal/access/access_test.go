package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
)

// authority signs certificates of clients.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := new(authority)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a.cert = a.sign(t, template, template)
	return a
}

func (a *authority) sign(t *testing.T, template, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, a.key.Public(), a.key)
	require.NoError(t, err)
	c, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return c
}

func (a *authority) client(t *testing.T) *x509.Certificate {
	return a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "front-proxy-client"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, a.cert)
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// configMaps is an API server that has one ConfigMap, or is away.
type configMaps struct {
	mu   sync.Mutex
	data map[string]string
	away bool
	read int
}

func (c *configMaps) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read++
	if c.away {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "data": c.data})
}

func (c *configMaps) set(change func(*configMaps)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *configMaps) reads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.read
}

func from(cert *x509.Certificate) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	r.Header.Set("X-Remote-User", "jo")
	r.Header.Set("X-Remote-Uid", "7")
	r.Header.Add("X-Remote-Group", "a")
	r.Header.Add("X-Remote-Group", "b")
	r.Header.Set("X-Remote-Extra-Scopes.example.com%2fof", "x")
	return r
}

// TestFrontProxyReloads: another authority counts when a certificate of it comes, what was known is used while the
// ConfigMap cannot be read, and it is not read for each request.
func TestFrontProxyReloads(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	maps := &configMaps{data: map[string]string{
		"requestheader-client-ca-file": old.pem(), "requestheader-allowed-names": "[]",
		"requestheader-username-headers": `["X-Remote-User"]`, "requestheader-uid-headers": `["X-Remote-Uid"]`,
		"requestheader-group-headers": `["X-Remote-Group"]`, "requestheader-extra-headers-prefix": `["X-Remote-Extra-"]`,
	}}
	server := httptest.NewServer(maps)
	defer server.Close()
	f, err := NewFrontProxy(&rest.Config{Host: server.URL, QPS: -1}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	now := time.Now()
	f.now = func() time.Time { return now }
	is := func(cert *x509.Certificate, want bool) {
		t.Helper()
		_, known, err := f.User(from(cert))
		require.NoError(t, err)
		require.Equal(t, want, known)
	}
	user, known, err := f.User(from(old.client(t)))
	require.NoError(t, err)
	require.True(t, known, "without allowed names any is")
	require.Equal(t, User{Name: "jo", UID: "7", Groups: []string{"a", "b"}, Extra: map[string][]string{"scopes.example.com/of": {"x"}}}, user)
	for range 10 {
		is(old.client(t), true)
		is(next.client(t), false)
	}
	require.Equal(t, 1, maps.reads())

	maps.set(func(c *configMaps) { c.data["requestheader-client-ca-file"] = old.pem() + next.pem() })
	now = now.Add(frontProxyRetry)
	is(next.client(t), true)
	is(old.client(t), true)
	require.Equal(t, 2, maps.reads())

	maps.set(func(c *configMaps) { c.away = true })
	now = now.Add(frontProxyFor)
	is(next.client(t), true)
	require.Equal(t, 3, maps.reads())
	is(next.client(t), true)
	require.Equal(t, 3, maps.reads(), "not for each request")
	now = now.Add(frontProxyRetry)
	is(next.client(t), true)
	require.Equal(t, 4, maps.reads())

	maps.set(func(c *configMaps) { c.away = false; c.data["requestheader-client-ca-file"] = "nonsense" })
	now = now.Add(frontProxyFor)
	is(next.client(t), true)
	maps.set(func(c *configMaps) { c.data = map[string]string{} })
	now = now.Add(frontProxyFor)
	is(next.client(t), false)
}

// TestReviews: answers are kept for a while, refusals for a shorter one, and not more than there is room for.
func TestReviews(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		var in struct {
			Kind string
			Spec struct{ Token string }
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "v1", "kind": in.Kind, "status": map[string]any{"authenticated": in.Spec.Token == "good", "user": map[string]any{
				"username": "jo", "groups": []string{"g"}, "extra": map[string]any{"k": []string{"v"}},
			}},
		})
	}))
	defer server.Close()
	v, err := NewReviewer(&rest.Config{Host: server.URL, QPS: -1})
	require.NoError(t, err)
	now := time.Now()
	v.now = func() time.Time { return now }
	ask := func(token string, want bool) {
		t.Helper()
		user, known, err := v.Token(t.Context(), token)
		require.NoError(t, err)
		require.Equal(t, want, known)
		if known {
			require.Equal(t, User{Name: "jo", Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}}, user)
		}
	}
	for range 3 {
		ask("good", true)
		ask("bad", false)
	}
	require.Equal(t, 2, asked)
	now = now.Add(noFor)
	ask("good", true)
	ask("bad", false)
	require.Equal(t, 3, asked)
	now = now.Add(yesFor)
	ask("good", true)
	require.Equal(t, 4, asked)
	for i := range 3 * maxReviews / 2 {
		v.known[[32]byte{byte(i), byte(i >> 8)}] = review{until: now.Add(time.Hour)}
	}
	ask("new", false)
	require.LessOrEqual(t, len(v.known), maxReviews)
}
