package mesh_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
)

const patience = 20 * time.Second

var key = []byte("a key of 32 bytes for these tests")

// quick are options with which little time is waited.
func quick() mesh.Options {
	return mesh.Options{Insecure: true, MinBackoff: 5 * time.Millisecond, MaxBackoff: 100 * time.Millisecond}
}

// plan is a network in which names stand for addresses that exist, which can be cut.
type plan struct {
	mu        sync.Mutex
	listeners map[string]net.Listener // by name, until they are used
	addresses map[string]string       // of names
	cut       map[string]bool
	conns     map[net.Conn][2]string // open ones, from and to
}

func newPlan(t testing.TB, names ...string) *plan {
	p := &plan{listeners: map[string]net.Listener{}, addresses: map[string]string{}, cut: map[string]bool{}, conns: map[net.Conn][2]string{}}
	for _, name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		p.listeners[name], p.addresses[name] = l, l.Addr().String()
	}
	t.Cleanup(func() {
		for _, l := range p.listeners {
			l.Close()
		}
	})
	return p
}

// options adds to o what a member of a plan needs to reach all others.
func (p *plan) options(t testing.TB, name string, o mesh.Options) mesh.Options {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[name]
	delete(p.listeners, name)
	if l == nil {
		var err error
		l, err = net.Listen("tcp", p.addresses[name])
		require.NoError(t, err)
	}
	o.Listener = l
	for _, other := range sorted(p.addresses) {
		o.Peers = append(o.Peers, p.addresses[other]) // itself, too
	}
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return p.dial(ctx, name, address)
	}
	return o
}

func sorted(m map[string]string) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (p *plan) dial(ctx context.Context, from, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for to, a := range p.addresses {
		if a == address {
			if p.cut[from] || p.cut[to] {
				c.Close()
				return nil, fmt.Errorf("from %s to %s is no way", from, to)
			}
			p.conns[c] = [2]string{from, to}
		}
	}
	return c, nil
}

// isolate cuts a member off.
func (p *plan) isolate(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut[name] = true
	for c, ends := range p.conns {
		if slices.Contains(ends[:], name) {
			c.Close()
			delete(p.conns, c)
		}
	}
}

func (p *plan) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.cut)
}

// start starts a transport.
func start(t testing.TB, o mesh.Options) *mesh.Transport {
	t.Helper()
	m, err := mesh.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	return m
}

// ear hears messages as text.
type ear struct {
	mu    sync.Mutex
	heard []string
	from  []string
}

func (e *ear) hear(from string, msg []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, string(msg))
	e.from = append(e.from, from)
}

func (e *ear) count(text string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heard {
		if h == text {
			n++
		}
	}
	return n
}

func listen(m *mesh.Transport) *ear {
	e := &ear{}
	m.Receive(e.hear)
	return e
}

func say(t testing.TB, m *mesh.Transport, text string) {
	t.Helper()
	require.NoError(t, m.Broadcast(context.Background(), []byte(text)))
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("after %v not yet: %s", patience, what)
		}
	}
}

// connected waits until a transport sends to so many.
func connected(t testing.TB, n int, transports ...*mesh.Transport) {
	t.Helper()
	for _, m := range transports {
		eventually(t, fmt.Sprintf("%v sends to %d", m.Addr(), n), func() bool { return m.Stats().Connected == n })
	}
}

// hears waits until an ear has heard what is said again and again.
func hears(t testing.TB, e *ear, from *mesh.Transport, text string) {
	t.Helper()
	eventually(t, "it hears "+text, func() bool {
		say(t, from, text)
		return e.count(text) > 0
	})
}

// problem returns why a transport is not connected to its peers.
func problem(m *mesh.Transport) (all string) {
	for _, p := range m.Stats().Peers {
		all += fmt.Sprintln(p.Err)
	}
	return all
}

func complains(t testing.TB, m *mesh.Transport, of string) {
	t.Helper()
	eventually(t, "complains of "+of, func() bool { return strings.Contains(problem(m), of) })
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{pool: x509.NewCertPool()}
	a.cert, a.key = sign(t, nil, &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign})
	a.pool.AddCert(a.cert)
	return a
}

func sign(t testing.TB, by *authority, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.BasicConstraintsValid = true
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return cert, key
}

// mutual returns a configuration in which both sides verify each other by the authority.
func (a *authority) mutual(t testing.TB) *tls.Config {
	cert, key := sign(t, a, &x509.Certificate{
		Subject: pkix.Name{CommonName: "gateway"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
		RootCAs:      a.pool, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
}
