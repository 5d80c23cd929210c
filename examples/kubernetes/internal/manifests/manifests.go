// Package manifests reads the objects of a cluster from YAML, for tests.
package manifests

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
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/inferpick/inferpick/examples/kubernetes/routing"
	"github.com/inferpick/inferpick/types"
)

// Read makes Objects of YAML.
func Read(t testing.TB, documents ...string) routing.Objects {
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

// Certificate makes the data of a Secret, with a certificate for a host.
func Certificate(t testing.TB, host string) string {
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
