package epp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// TLS says how a port is encrypted. The zero value has a certificate that is made for as
// long as the process lives: it encrypts, but whom Envoy talks to it does not prove.
type TLS struct {
	// Off leaves connections plain.
	Off bool
	// CertFile and KeyFile are PEM files, read again when they change. Both or none.
	CertFile, KeyFile string
	// ClientCAFile is a PEM file of authorities: who connects must have a certificate of
	// one of them. Optional.
	ClientCAFile string
	// MinVersion is the oldest version that is spoken. Default, and the oldest that there
	// may be, tls.VersionTLS12.
	MinVersion uint16
	// CipherSuites are those of TLS 1.2. Default: those of crypto/tls.
	CipherSuites []uint16
}

// config returns nil if there is to be no TLS.
func (t TLS) config(logger *slog.Logger, protocols ...string) (*tls.Config, error) {
	files := t.CertFile != "" || t.KeyFile != ""
	switch {
	case t.Off && (files || t.ClientCAFile != ""):
		return nil, errors.New("epp: TLS is off, but has files: want one of the two")
	case t.Off:
		return nil, nil
	case files && (t.CertFile == "" || t.KeyFile == ""):
		return nil, errors.New("epp: TLS needs both a certificate and a key file")
	case t.MinVersion != 0 && t.MinVersion < tls.VersionTLS12:
		return nil, fmt.Errorf("epp: TLS.MinVersion is %s, want at least TLS 1.2", tls.VersionName(t.MinVersion))
	}
	c := &tls.Config{MinVersion: max(t.MinVersion, tls.VersionTLS12), CipherSuites: t.CipherSuites, NextProtos: protocols}
	if t.ClientCAFile != "" {
		data, err := os.ReadFile(t.ClientCAFile)
		if err != nil {
			return nil, fmt.Errorf("epp: certificates of clients' authorities: %w", err)
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("epp: %s has no certificate in PEM", t.ClientCAFile)
		}
	}
	if files {
		p := &keyPair{cert: t.CertFile, key: t.KeyFile, logger: logger}
		if _, err := p.get(nil); err != nil {
			return nil, err
		}
		c.GetCertificate = p.get
		return c, nil
	}
	cert, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("epp: %w", err)
	}
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}

// listener returns ln, encrypted if it is to be.
func (t TLS) listener(ln net.Listener, logger *slog.Logger) (net.Listener, error) {
	c, err := t.config(logger, "http/1.1")
	if err != nil || c == nil {
		return ln, err
	}
	return tls.NewListener(ln, c), nil
}

// tellingCreds tell once of a connection that is not encrypted: it is what an Envoy does
// whose cluster has no transport_socket, and gRPC does not tell of it.
type tellingCreds struct {
	credentials.TransportCredentials
	logger *slog.Logger
	once   *sync.Once
}

func newCreds(c *tls.Config, logger *slog.Logger) credentials.TransportCredentials {
	return tellingCreds{credentials.NewTLS(c), logger, new(sync.Once)}
}

// ServerHandshake implements credentials.TransportCredentials.
func (c tellingCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		c.once.Do(func() {
			c.logger.LogAttrs(context.Background(), slog.LevelWarn,
				"a connection to the picker's port is not TLS: give Envoy's cluster a transport_socket, or turn TLS off here (-tls off)",
				slog.String("from", raw.RemoteAddr().String()))
		})
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (c tellingCreds) Clone() credentials.TransportCredentials {
	c.TransportCredentials = c.TransportCredentials.Clone()
	return c
}

// keyPair reads a certificate and its key anew when they have changed: that they are
// renewed must not need a restart.
type keyPair struct {
	cert, key string
	logger    *slog.Logger

	mu   sync.Mutex
	seen [2]time.Time
	told [2]time.Time // of the files that cannot be used, and were told of
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
			// Half written, perhaps: the next handshake tries again. If not, it is known
			// before the certificate in use has expired.
			if now != p.told {
				p.told = now
				p.logger.LogAttrs(context.Background(), slog.LevelWarn, "a certificate cannot be read again, the one from before is in use",
					slog.String("certificate", p.cert), slog.String("key", p.key), slog.Any("error", err))
			}
			return p.last, nil
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
