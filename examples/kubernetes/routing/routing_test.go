package routing_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

const controller = "inferpick.dev/gateway"

// base has a class, a Gateway gw that takes routes from everywhere on port 80, and a pool.
const base = `
kind: GatewayClass
metadata: {name: ours, generation: 1}
spec: {controllerName: inferpick.dev/gateway}
---
kind: Gateway
metadata: {name: gw, namespace: infra, generation: 3, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  gatewayClassName: ours
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
---
kind: InferencePool
metadata: {name: llama, namespace: app}
spec: {selector: {matchLabels: {app: llama}}, targetPorts: [{number: 8000}]}
`

// read makes Objects of YAML.
func read(t testing.TB, documents ...string) routing.Objects {
	t.Helper()
	var o routing.Objects
	r := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(strings.Join(documents, "\n---\n"))))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return o
		}
		require.NoError(t, err)
		if len(bytes.TrimSpace(doc)) == 0 {
			continue
		}
		var meta metav1.TypeMeta
		require.NoError(t, yaml.Unmarshal(doc, &meta))
		switch meta.Kind {
		case "GatewayClass":
			put(t, doc, &o.Classes)
		case "Gateway":
			put(t, doc, &o.Gateways)
		case "HTTPRoute":
			put(t, doc, &o.Routes)
		case "ReferenceGrant":
			put(t, doc, &o.Grants)
		case "Service":
			put(t, doc, &o.Services)
		case "EndpointSlice":
			put(t, doc, &o.Slices)
		case "Secret":
			put(t, doc, &o.Secrets)
		case "Namespace":
			put(t, doc, &o.Namespaces)
		case "InferencePool":
			o.Pools = append(o.Pools, readPool(t, doc, meta))
		default:
			require.Failf(t, "kind", "%q in %s", meta.Kind, doc)
		}
	}
}

func put[T any](t testing.TB, doc []byte, to *[]*T) {
	v := new(T)
	require.NoError(t, yaml.UnmarshalStrict(doc, v), "%s", doc)
	*to = append(*to, v)
}

func readPool(t testing.TB, doc []byte, meta metav1.TypeMeta) *routing.Pool {
	group := routing.PoolGroup
	if strings.HasPrefix(meta.APIVersion, routing.PoolGroupAlpha) {
		group = routing.PoolGroupAlpha
	} else {
		doc = append(doc, "\napiVersion: "+routing.PoolGroup+"/v1\n"...)
	}
	data, err := yaml.ToJSON(doc)
	require.NoError(t, err)
	manifest, err := types.DecodeManifest(data)
	require.NoError(t, err)
	return &routing.Pool{InferencePool: manifest.(*types.InferencePool), Group: group, Generation: 7}
}

func options() routing.Options {
	ip := gatewayv1.IPAddressType
	return routing.Options{Controller: controller, Addresses: []gatewayv1.GatewayStatusAddress{{Type: &ip, Value: "192.0.2.1"}}}
}

func named(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// said returns conditions as TYPE=STATUS/REASON.
func said(list []metav1.Condition) string {
	var all []string
	for _, c := range list {
		all = append(all, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	return strings.Join(all, " ")
}

// route is one of namespace app to gw.
func route(name, spec string) string {
	return `
kind: HTTPRoute
metadata: {name: ` + name + `, namespace: app, generation: 5, creationTimestamp: "2026-01-02T00:00:00Z"}
spec:
  parentRefs: [{name: gw, namespace: infra}]
` + indent(spec)
}

func indent(s string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ")
}

const toPool = `{group: inference.networking.k8s.io, kind: InferencePool, name: llama}`

// goes returns where a request goes: NAME of the pool or Service, !PROBLEM, -> LOCATION, or
// nothing.
func goes(table *routing.Table, port int32, method, url string, header ...string) string {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	p := table.Ports[port]
	if p == nil {
		return "no port"
	}
	l := p.Listener(r.Host)
	if l == nil {
		return "no listener"
	}
	m, ok := l.Match(r)
	switch {
	case !ok:
		return ""
	case m.Redirect != nil:
		location, _ := m.Redirect.Location(r, m, port)
		return "-> " + location
	}
	b := m.Choose()
	switch {
	case b == nil:
		return "!no backend"
	case b.Problem != "":
		return "!" + b.Problem
	case b.Pool != nil:
		return b.Pool.Name.Name
	}
	return b.Service.Name.Name
}

// backend returns that of a request for / on port 80.
func backend(t testing.TB, table *routing.Table) *routing.Backend {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	m, ok := table.Ports[80].Listener(r.Host).Match(r)
	require.True(t, ok)
	return m.Choose()
}

// certificate makes the data of a Secret.
func certificate(t testing.TB, host string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	encode := func(kind string, data []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}))
	}
	return "{tls.crt: " + encode("CERTIFICATE", der) + ", tls.key: " + encode("PRIVATE KEY", secret) + "}"
}
