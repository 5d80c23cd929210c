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
