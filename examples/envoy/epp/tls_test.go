package epp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// certificate returns one for 127.0.0.1 and its key, PEM.
func certificate(t testing.TB, name string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})), pool
}

// handshake returns what is negotiated with a server.
func handshake(t testing.TB, address string, c *tls.Config) tls.ConnectionState {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, c)
	must(t, err)
	defer conn.Close()
	return conn.ConnectionState()
}

// unverified is a client that takes every certificate.
func unverified() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}
}

func TestTLSSelfSigned(t *testing.T) {
	t.Parallel()
	r := start(t, base, func(o *epp.Options) { o.TLS = epp.TLS{} })
	state := handshake(t, r.Address(), unverified())
	if state.NegotiatedProtocol != "h2" || state.Version < tls.VersionTLS12 {
		t.Errorf("negotiated %q, version %x", state.NegotiatedProtocol, state.Version)
	}
	exchanged(t, extprocv3.NewExternalProcessorClient(dial(t, r.Address(), unverified())), "chat")

	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", r.Address(), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	// Health for probes is as it was.
	if s := checkHealth(t, r.HealthAddress(), "readiness"); s != serving {
		t.Errorf("readiness is %v", s)
	}
}

func TestTLSFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cert, key, first := certificate(t, "first")
	put(t, certFile, cert)
	put(t, keyFile, key)
	// Renewed at other times than these, whatever the clock of the files resolves.
	long := time.Now().Add(-time.Hour)
	must(t, os.Chtimes(certFile, long, long))
	must(t, os.Chtimes(keyFile, long, long))
	r := start(t, base, func(o *epp.Options) { o.TLS = epp.TLS{CertFile: certFile, KeyFile: keyFile} })
	client := extprocv3.NewExternalProcessorClient(dial(t, r.Address(), &tls.Config{RootCAs: first}))
	exchanged(t, client, "chat")

	served := func() string {
		return handshake(t, r.Address(), unverified()).PeerCertificates[0].Subject.CommonName
	}
	if got := served(); got != "first" {
		t.Errorf("served is %q", got)
	}
	cert, key, second := certificate(t, "second")
	put(t, certFile, cert)
	if got := served(); got != "first" {
		t.Errorf("while the key does not fit yet, served is %q", got)
	}
	put(t, keyFile, key)
	if got := served(); got != "second" {
		t.Errorf("when both are new, served is %q", got)
	}
	exchanged(t, client, "chat") // its connection lives on
	exchanged(t, extprocv3.NewExternalProcessorClient(dial(t, r.Address(), &tls.Config{RootCAs: second})), "chat")
	must(t, os.Remove(keyFile))
	if got := served(); got != "second" {
		t.Errorf("without a key file, served is %q", got)
	}
	served()
	if n := strings.Count(r.log.String(), "a certificate cannot be read again"); n != 2 {
		t.Errorf("told %d times, want once of the key that did not fit, and once of the one that is gone", n)
	}
}

// TestClientAuthorities: whom the picker lets at it is read again, at both of its ports; a
// file that is bad changes nothing, and no session is resumed that would not begin now.
func TestClientAuthorities(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, caFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")
	cert, key, pool := certificate(t, "picker")
	put(t, certFile, cert)
	put(t, keyFile, key)
	type client struct {
		authority string
		config    *tls.Config
	}
	newClient := func(name string) client {
		cert, key, _ := certificate(t, name)
		own, err := tls.X509KeyPair([]byte(cert), []byte(key))
		require.NoError(t, err)
		return client{cert, &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}, ClientSessionCache: tls.NewLRUClientSessionCache(8)}}
	}
	first, second := newClient("first"), newClient("second")
	put(t, caFile, first.authority)
	encryption := epp.TLS{CertFile: certFile, KeyFile: keyFile, ClientCAFile: caFile}
	r := start(t, base, func(o *epp.Options) { o.TLS, o.MetricsTLS = encryption, encryption })
	let := func(c client) (ports [2]bool) {
		for i, port := range []struct{ address, protocol string }{{r.Address(), "h2"}, {r.MetricsAddress(), "http/1.1"}} {
			config := c.config.Clone()
			config.NextProtos = []string{port.protocol}
			conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", port.address, config)
			require.NoError(t, err) // in TLS 1.3 the client hears later that it is refused
			require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
			_, _ = conn.Write([]byte("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"))
			_, err = conn.Read(make([]byte, 1))
			ports[i] = err == nil
			conn.Close()
		}
		return ports
	}
	both, none := [2]bool{true, true}, [2]bool{}
	require.Equal(t, both, let(first))
	require.Equal(t, none, let(second))
	put(t, caFile, second.authority)
	require.Equal(t, none, let(first))
	require.Equal(t, both, let(second))
	put(t, caFile, "no certificate")
	require.Equal(t, none, let(first))
	require.Equal(t, both, let(second), "what was before stays")
	require.NoError(t, os.Remove(caFile))
	require.Equal(t, both, let(second))
	require.Contains(t, r.log.String(), "certificates of clients' authorities cannot be read again")
	put(t, caFile, first.authority+second.authority)
	require.Equal(t, both, let(first))
	require.Equal(t, both, let(second))
}
