package mesh

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/scheduling/sharing"
)

// Resolver looks up names, as *net.Resolver does. It may be called by several goroutines, and must return when ctx is
// done.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options configure a Transport. Required are Listen or Listener, and TLS, Key or Insecure. Those of time and size
// should be the same for all gateways.
type Options struct {
	// Listen is where peers connect to: host:port, or :port for all addresses of this machine.
	Listen string
	// Listener is used instead of Listen, and closed by Close. TLS is spoken over it, not by it.
	Listener net.Listener

	// Peers are the other gateways, as host:port. If host is a name, all its addresses are peers, also those
	// that it gets later. This gateway may be among them.
	Peers []string
	// Resolver looks up names. Default net.DefaultResolver.
	Resolver Resolver
	// LookupInterval is the time between two lookups of a name. If one fails, the addresses stay that were
	// found before. Default 5s.
	LookupInterval time.Duration
	// Dial makes connections, with a deadline in ctx. Default: those of net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// TLS is used for both sides of connections, with TLS 1.3 at least unless MinVersion says otherwise. As a
	// client it verifies the host of Peers, or ServerName if that is set.
	TLS *tls.Config
	// Key is a secret that all gateways have, of 16 bytes at least.
	Key []byte
	// MoreKeys are taken from peers, too: for the time in which keys change.
	MoreKeys [][]byte
	// Insecure allows to have neither TLS that verifies both sides nor Key: whoever can connect can then say
	// what they like.
	Insecure bool

	// HandshakeTimeout is how long it may take to connect to a peer, or for a peer to say who it is.
	// Default 5s.
	HandshakeTimeout time.Duration
	// IdleTimeout is how long a peer may be silent, or keep from reading, until its connection is closed. It is
	// pinged three times meanwhile. Default 15s, at least 100ms.
	IdleTimeout time.Duration
	// MinBackoff and MaxBackoff bound the wait before a peer is connected to again, which doubles with each
	// failure, and is up to a quarter longer at random. Defaults 100ms and 5s.
	MinBackoff, MaxBackoff time.Duration
	// CloseTimeout is how long Close may take to send what has been broadcast. Default 500ms.
	CloseTimeout time.Duration

	// Queue is how many bytes of messages wait for one peer. Default 1 MiB, at least sharing.MaxMessage.
	Queue int
	// MaxPeers bounds the addresses that are connected to; of more, those of the first Peers are used, and of a
	// name the lowest. Default 256.
	MaxPeers int
	// MaxConns bounds the connections that peers have made to this gateway. Default 256.
	MaxConns int
	// MaxHandshakes bounds the connections whose other side has not yet said who it is. Of more, the oldest is
	// closed. Default 64.
	MaxHandshakes int
	// MaxRate is how many bytes a second are read from one connection, where each message counts 256 bytes more
	// than it has. Default 32 MiB, at least 1 MiB.
	MaxRate int

	// Logger hears of peers that come and go, and of connections that are refused: of each kind at most once
	// a minute for an address. Nil: no logging.
	Logger *slog.Logger
}

const (
	minKey   = 16 // bytes
	minIdle  = 100 * time.Millisecond
	maxTimes = 24 * time.Hour // what any time may be
)

// target is a peer as it was given: an address, or a name with addresses.
type target struct {
	host string
	addr netip.Addr // invalid: host is a name
	port uint16
}

// prepare returns o with its defaults, and the peers.
func (o Options) prepare() (Options, []target, error) {
	c := check.Checks{Package: "mesh"}
	check.Default(&c, "LookupInterval", &o.LookupInterval, 5*time.Second, 10*time.Millisecond, maxTimes)
	check.Default(&c, "HandshakeTimeout", &o.HandshakeTimeout, 5*time.Second, time.Millisecond, maxTimes)
	check.Default(&c, "IdleTimeout", &o.IdleTimeout, 15*time.Second, minIdle, maxTimes)
	check.Default(&c, "MinBackoff", &o.MinBackoff, 100*time.Millisecond, time.Millisecond, maxTimes)
	check.Default(&c, "MaxBackoff", &o.MaxBackoff, 5*time.Second, time.Millisecond, maxTimes)
	check.Default(&c, "CloseTimeout", &o.CloseTimeout, 500*time.Millisecond, time.Millisecond, maxTimes)
	check.Default(&c, "Queue", &o.Queue, 1<<20, sharing.MaxMessage, 1<<30)
	check.Default(&c, "MaxPeers", &o.MaxPeers, 256, 1, 1<<16)
	check.Default(&c, "MaxConns", &o.MaxConns, 256, 1, 1<<16)
	check.Default(&c, "MaxHandshakes", &o.MaxHandshakes, 64, 1, 1<<16)
	check.Default(&c, "MaxRate", &o.MaxRate, 32<<20, 1<<20, 1<<30)
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	if o.Listener == nil {
		check.Required(&c, "Listen", o.Listen)
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	o.Logger = guardlog.Logger(o.Logger)
	o.prepareSecrets(&c)
	targets := parsePeers(&c, o.Peers)
	return o, targets, c.Err()
}

// prepareSecrets checks what keeps strangers out, and takes copies of it.
func (o *Options) prepareSecrets(c *check.Checks) {
	if len(o.Key) == 0 && len(o.MoreKeys) > 0 {
		c.Failf("MoreKeys", "is of no use without Key")
	}
	if n := len(o.Key); n > 0 && n < minKey {
		c.Failf("Key", "has %d bytes, want %d at least", n, minKey) // its value is a secret
	}
	o.Key = slices.Clone(o.Key)
	o.MoreKeys = slices.Clone(o.MoreKeys)
	for i, k := range o.MoreKeys {
		if len(k) < minKey {
			c.Failf(fmt.Sprintf("MoreKeys[%d]", i), "has %d bytes, want %d at least", len(k), minKey)
		}
		o.MoreKeys[i] = slices.Clone(k)
	}
	open := len(o.Key) == 0 && !o.Insecure // so TLS must know peers
	if o.TLS == nil {
		if open {
			c.Failf("", "peers cannot be known: set Key, TLS, or Insecure if everybody may take part")
		}
		return
	}
	if problem := tlsProblem(o.TLS, open); problem != "" {
		c.Failf("TLS", "%s", problem)
	}
	o.TLS = o.TLS.Clone()
	if o.TLS.MinVersion == 0 {
		o.TLS.MinVersion = tls.VersionTLS13
	}
}

// tlsProblem returns what is wrong with a configuration, which must know both sides if verify is set.
func tlsProblem(t *tls.Config, verify bool) string {
	if len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		return "has no certificate for those who connect"
	}
	if !verify {
		return ""
	}
	own := t.VerifyConnection != nil || t.VerifyPeerCertificate != nil
	asks := t.ClientAuth == tls.RequireAndVerifyClientCert && t.ClientCAs != nil || t.ClientAuth >= tls.RequireAnyClientCert && own
	switch {
	case !asks && t.GetConfigForClient == nil:
		return "does not verify those who connect: want ClientAuth RequireAndVerifyClientCert with ClientCAs, or Key, or Insecure"
	case t.InsecureSkipVerify && !own:
		return "does not verify those it connects to, as InsecureSkipVerify is set: want Key, or Insecure"
	}
	return ""
}

func parsePeers(c *check.Checks, peers []string) (targets []target) {
	for i, p := range peers {
		t, err := parsePeer(p)
		if err != nil {
			c.Failf(fmt.Sprintf("Peers[%d]", i), "is %q: %w", p, err)
		}
		targets = append(targets, t)
	}
	return targets
}

func parsePeer(peer string) (target, error) {
	host, port, err := net.SplitHostPort(peer)
	if err != nil {
		return target{}, fmt.Errorf("want host:port")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return target{}, fmt.Errorf("the port is %q, want 1 to 65535", port)
	}
	if host == "" {
		return target{}, fmt.Errorf("want a host before the port")
	}
	t := target{host: host, port: uint16(n)}
	if addr, err := netip.ParseAddr(host); err == nil {
		t.addr = addr.Unmap()
	}
	return t, nil
}
