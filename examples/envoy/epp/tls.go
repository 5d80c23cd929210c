package epp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync"
	"time"
)

// TLS says how the picker's gRPC port is encrypted.
type TLS struct {
	// SelfSigned makes a certificate for as long as the process lives. It encrypts;
	// whom Envoy talks to it does not prove.
	SelfSigned bool
	// CertFile and KeyFile are PEM files, read again when they change. Both or none.
	CertFile, KeyFile string
}

// config returns nil if there is to be no TLS.
func (t TLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	switch files := t.CertFile != "" || t.KeyFile != ""; {
	case files && t.SelfSigned:
		return nil, errors.New("epp: TLS is to be self-signed and by files: want one of the two")
	case files && (t.CertFile == "" || t.KeyFile == ""):
		return nil, errors.New("epp: TLS needs both a certificate and a key file")
	case files:
		p := &keyPair{cert: t.CertFile, key: t.KeyFile}
		if _, err := p.get(nil); err != nil {
			return nil, err
		}
		c.GetCertificate = p.get
	case t.SelfSigned:
		cert, err := selfSigned()
		if err != nil {
			return nil, fmt.Errorf("epp: %w", err)
		}
		c.Certificates = []tls.Certificate{cert}
	default:
		return nil, nil
	}
	return c, nil
}

// keyPair reads a certificate and its key anew when they have changed: that they are
// renewed must not need a restart.
type keyPair struct {
	cert, key string

	mu   sync.Mutex
	seen [2]time.Time
	last *tls.Certificate
}

func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var now [2]time.Time
	for i, name := range []string{p.cert, p.key} {
		if info, err := os.Stat(name); err == nil {
			now[i] = info.ModTime()
		}
	}
	if p.last != nil && now == p.seen {
		return p.last, nil
	}
	cert, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		if p.last != nil {
			return p.last, nil // half written: the next handshake tries again
		}
		return nil, fmt.Errorf("epp: certificate %s with key %s: %w", p.cert, p.key, err)
	}
	p.last, p.seen = &cert, now
	return p.last, nil
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "inferpick endpoint picker"},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(10, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
