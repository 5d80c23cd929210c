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
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/inferpick/inferpick/internal/filewatch"
)

// TLS says how a port is encrypted. The zero value has a certificate that is made for as
// long as the process lives: it encrypts, but whom Envoy talks to it does not prove.
type TLS struct {
	// Off leaves connections plain.
	Off bool
	// CertFile and KeyFile are PEM files, read again when they change. Both or none.
	CertFile, KeyFile string
	// ClientCAFile is a PEM file of authorities, read again when it changes: who connects
	// must have a certificate of one of them. Optional.
	ClientCAFile string
	// MinVersion is the oldest version that is spoken. Default, and the oldest that there
	// may be, tls.VersionTLS12.
	MinVersion uint16
	// CipherSuites are those of TLS 1.2. Default: those of crypto/tls.
	CipherSuites []uint16
}

// maxPEM bounds the files of certificates, in bytes.
const maxPEM = 4 << 20

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
		if err := t.askClients(c, logger); err != nil {
			return nil, err
		}
	}
	if files {
		pair, err := t.keyPair(logger)
		if err != nil {
			return nil, err
		}
		c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.latest() }
		return c, nil
	}
	cert, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("epp: %w", err)
	}
	c.Certificates = []tls.Certificate{cert}
	return c, nil
}

// askClients makes clients show a certificate.
func (t TLS) askClients(c *tls.Config, logger *slog.Logger) error {
	authorities, err := t.clientCAs(logger)
	if err != nil {
		return err
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	// A session that is resumed is not verified by the authorities there are by then.
	c.SessionTicketsDisabled = true
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pool, err := authorities.latest()
		if err != nil {
			return nil, err
		}
		now := c.Clone()
		now.GetConfigForClient, now.ClientCAs = nil, pool
		return now, nil
	}
	return nil
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
// whose cluster has no transport_socket, and KEDA without enableTLS, and gRPC does not tell of it.
type tellingCreds struct {
	credentials.TransportCredentials
	logger *slog.Logger
	once   *sync.Once
}

func newCreds(c *tls.Config, logger *slog.Logger) credentials.TransportCredentials {
	return tellingCreds{credentials.NewTLS(c), logger, new(sync.Once)}
}

// ServerHandshake implements credentials.TransportCredentials.
func (c tellingCreds) ServerHandshake(raw net.Conn) (conn net.Conn, info credentials.AuthInfo, err error) {
	defer func() {
		if v := recover(); v != nil { // gRPC has no interceptor for it
			conn, info, err = nil, nil, panicked(context.Background(), c.logger, v)
		}
	}()
	conn, info, err = c.TransportCredentials.ServerHandshake(raw)
	if _, plain := errors.AsType[tls.RecordHeaderError](err); plain {
		c.once.Do(func() {
			c.logger.LogAttrs(context.Background(), slog.LevelWarn,
				"a connection is not TLS: give Envoy's cluster a transport_socket, KEDA's trigger enableTLS, or turn TLS off here (-tls off)",
				slog.String("at", raw.LocalAddr().String()), slog.String("from", raw.RemoteAddr().String()))
		})
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (c tellingCreds) Clone() credentials.TransportCredentials {
	c.TransportCredentials = c.TransportCredentials.Clone()
	return c
}

// keyPair returns the certificate that is served, read again when it has changed.
func (t TLS) keyPair(logger *slog.Logger) (*reread[*tls.Certificate], error) {
	return newReread("a certificate", maxPEM, logger, func(files []filewatch.File) (*tls.Certificate, error) {
		// The same file may be both.
		cert, key := files[0], files[len(files)-1]
		pair, err := tls.X509KeyPair(cert.Data, key.Data)
		if err != nil {
			return nil, fmt.Errorf("%s with key %s: %w", t.CertFile, t.KeyFile, err)
		}
		return &pair, nil
	}, t.CertFile, t.KeyFile)
}

// clientCAs returns the authorities of clients, read again when they have changed.
func (t TLS) clientCAs(logger *slog.Logger) (*reread[*x509.CertPool], error) {
	return newReread("certificates of clients' authorities", maxPEM, logger, func(files []filewatch.File) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(files[0].Data) {
			return nil, fmt.Errorf("%s has no certificate in PEM", t.ClientCAFile)
		}
		return pool, nil
	}, t.ClientCAFile)
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
