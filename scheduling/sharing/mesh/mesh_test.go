package mesh_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
)

func TestOptions(t *testing.T) {
	ca := newAuthority(t)
	mutual := func(change func(c *tls.Config)) *tls.Config {
		c := ca.mutual(t)
		change(c)
		return c
	}
	for name, tt := range map[string]struct {
		o    mesh.Options
		want string // nothing: good
	}{
		"nothing":       {mesh.Options{}, "mesh: Listen is required\nmesh: peers cannot be known: set Key, TLS, or Insecure if everybody may take part"},
		"key":           {mesh.Options{Listen: "127.0.0.1:0", Key: key}, ""},
		"short key":     {mesh.Options{Listen: "127.0.0.1:0", Key: key[:15]}, "mesh: Key has 15 bytes, want 16 at least"},
		"short old key": {mesh.Options{Listen: "127.0.0.1:0", Key: key, MoreKeys: [][]byte{key, key[:3]}}, "mesh: MoreKeys[1] has 3 bytes, want 16 at least"},
		"only old keys": {mesh.Options{Listen: "127.0.0.1:0", Insecure: true, MoreKeys: [][]byte{key}}, "mesh: MoreKeys is of no use without Key"},
		"no address":    {mesh.Options{Listen: "here", Key: key}, "mesh: Listen: listen tcp: address here: missing port in address"},
		"peers": {mesh.Options{Listen: "127.0.0.1:0", Key: key, Peers: []string{"a", "b:0", ":1", "[::1]:1", "c:70000", "d:x"}}, `mesh: Peers[0] is "a": want host:port
mesh: Peers[1] is "b:0": the port is "0", want 1 to 65535
mesh: Peers[2] is ":1": want a host before the port
mesh: Peers[4] is "c:70000": the port is "70000", want 1 to 65535
mesh: Peers[5] is "d:x": the port is "x", want 1 to 65535`},
		"bounds": {mesh.Options{Listen: "127.0.0.1:0", Key: key, Queue: 5, MaxRate: 1, IdleTimeout: 1, MinBackoff: -1}, `mesh: IdleTimeout is 1ns, want 100ms to 24h0m0s, or 0 for the default 15s
mesh: MinBackoff is -1ns, want 1ms to 24h0m0s, or 0 for the default 100ms
mesh: Queue is 5, want 65536 to 1073741824, or 0 for the default 1048576
mesh: MaxRate is 1, want 1048576 to 1073741824, or 0 for the default 33554432`},
		"tls":               {mesh.Options{Listen: "127.0.0.1:0", TLS: mutual(func(*tls.Config) {})}, ""},
		"tls of no server":  {mesh.Options{Listen: "127.0.0.1:0", Key: key, TLS: &tls.Config{}}, "mesh: TLS has no certificate for those who connect"},
		"tls of any client": {mesh.Options{Listen: "127.0.0.1:0", TLS: mutual(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })}, "mesh: TLS does not verify those who connect: want ClientAuth RequireAndVerifyClientCert with ClientCAs, or Key, or Insecure"},
		"tls of the world":  {mesh.Options{Listen: "127.0.0.1:0", TLS: mutual(func(c *tls.Config) { c.ClientCAs = nil })}, "mesh: TLS does not verify those who connect: want ClientAuth RequireAndVerifyClientCert with ClientCAs, or Key, or Insecure"},
		"tls of any server": {mesh.Options{Listen: "127.0.0.1:0", TLS: mutual(func(c *tls.Config) { c.InsecureSkipVerify = true })}, "mesh: TLS does not verify those it connects to, as InsecureSkipVerify is set: want Key, or Insecure"},
		"tls of own verdict": {mesh.Options{Listen: "127.0.0.1:0", TLS: mutual(func(c *tls.Config) {
			c.InsecureSkipVerify, c.ClientAuth = true, tls.RequireAnyClientCert
			c.VerifyConnection = func(tls.ConnectionState) error { return nil }
		})}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := mesh.New(tt.o)
			if tt.want != "" {
				require.EqualError(t, err, tt.want)
				return
			}
			require.NoError(t, err)
			require.NoError(t, m.Close())
		})
	}
}

// pair starts two transports with options.
func pair(t *testing.T, first, second mesh.Options) (a, b *mesh.Transport) {
	p := newPlan(t, "a", "b")
	return start(t, p.options(t, "a", first)), start(t, p.options(t, "b", second))
}

func TestKeys(t *testing.T) {
	other := bytes.Repeat([]byte("x"), 32)
	with := func(key []byte, more ...[]byte) mesh.Options {
		o := quick()
		o.Key, o.MoreKeys, o.Insecure = key, more, key == nil
		return o
	}
	t.Run("same", func(t *testing.T) {
		a, b := pair(t, with(key), with(key))
		connected(t, 1, a, b)
		hears(t, listen(b), a, "hello")
	})
	t.Run("another", func(t *testing.T) {
		a, b := pair(t, with(key), with(other))
		ears := []*ear{listen(a), listen(b)}
		complains(t, a, "it has another key")
		complains(t, b, "it has another key")
		say(t, a, "hello")
		say(t, b, "hello")
		for i, m := range []*mesh.Transport{a, b} {
			require.Zero(t, m.Stats().Connected)
			require.Zero(t, m.Stats().Incoming)
			require.NotZero(t, m.Stats().Refused)
			require.Zero(t, ears[i].count("hello"))
		}
	})
	t.Run("none", func(t *testing.T) {
		a, b := pair(t, with(key), with(nil))
		complains(t, a, "it has no key, and this gateway has one")
		complains(t, b, "it has a key, and this gateway has none")
	})
	t.Run("change", func(t *testing.T) {
		// Any two that follow each other while keys change understand each other.
		steps := []mesh.Options{with(key), with(key, other), with(other, key), with(other)}
		for i := range steps[1:] {
			a, b := pair(t, steps[i], steps[i+1])
			connected(t, 1, a, b)
			hears(t, listen(b), a, "hello")
			hears(t, listen(a), b, "hello")
		}
	})
}

func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	with := func(c *tls.Config) mesh.Options {
		o := quick()
		o.TLS, o.HandshakeTimeout = c, time.Second
		return o
	}
	t.Run("no certificate of a client", func(t *testing.T) {
		anonymous := ca.mutual(t)
		anonymous.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
		a, b := pair(t, with(ca.mutual(t)), with(anonymous))
		complains(t, b, "certificate required")
		connected(t, 1, a) // b has one for those who connect to it
		eventually(t, "it is refused", func() bool { return a.Stats().Refused > 0 })
	})
	t.Run("another authority", func(t *testing.T) {
		a, b := pair(t, with(ca.mutual(t)), with(other.mutual(t)))
		complains(t, a, "certificate signed by unknown authority")
		complains(t, b, "certificate signed by unknown authority")
	})
	t.Run("none", func(t *testing.T) {
		a, b := pair(t, with(ca.mutual(t)), with(nil))
		complains(t, a, "handshake failed")
		complains(t, b, "handshake failed")
	})
	t.Run("a name", func(t *testing.T) {
		named := with(ca.mutual(t))
		named.TLS.ServerName = "somebody.else"
		_, b := pair(t, with(ca.mutual(t)), named)
		complains(t, b, "certificate")
	})
}

// Between two that verify no certificates may be somebody who has one for both. The key finds out.
func TestTrapKeyIsBoundToTLS(t *testing.T) {
	with := func() mesh.Options {
		o := quick()
		o.TLS, o.Key, o.Insecure = newAuthority(t).mutual(t), key, false
		o.TLS.InsecureSkipVerify, o.TLS.ClientAuth = true, 0
		return o
	}
	p := newPlan(t, "a", "b")
	b := start(t, p.options(t, "b", with()))
	e := listen(b)
	config := newAuthority(t).mutual(t)
	config.ClientAuth = 0
	between, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	defer between.Close()
	go func() {
		for {
			c, err := between.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				to, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					return
				}
				defer to.Close()
				go io.Copy(to, c)
				io.Copy(c, to)
			}()
		}
	}()
	o := with()
	o.Listen, o.Peers = "127.0.0.1:0", []string{between.Addr().String()}
	a := start(t, o)
	complains(t, a, "somebody is between")
	require.Zero(t, e.count(""))
	require.Zero(t, b.Stats().Incoming)
}

// logs keeps what is logged.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logs) with(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// Whatever strangers send, they are closed and counted, told of once, and peers go on.
func TestStrangers(t *testing.T) {
	p := newPlan(t, "a", "b")
	var told logs
	o := quick()
	o.HandshakeTimeout, o.MaxHandshakes, o.Key = 300*time.Millisecond, 8, key
	o.Logger = slog.New(slog.NewTextHandler(&told, nil))
	a := start(t, p.options(t, "a", o))
	o.Logger = nil
	b := start(t, p.options(t, "b", o))
	heard := listen(a)
	connected(t, 1, a, b)

	hello := "IPMESH\x01\x01" + strings.Repeat("i", 16) + strings.Repeat("n", 16)
	for name, sends := range map[string]string{
		"nothing":           "",
		"http":              "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"tls":               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"half a magic":      "IPM",
		"half a hello":      hello[:20],
		"another version":   "IPMESH\x02" + hello[7:],
		"without a key":     "IPMESH\x01\x00" + hello[8:],
		"another mode":      "IPMESH\x01\x09" + hello[8:],
		"a wrong proof":     hello + strings.Repeat("p", 32),
		"a proof of frames": hello + strings.Repeat("\x00", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			before := a.Stats().Refused
			c, err := net.Dial("tcp", a.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			go io.WriteString(c, sends)
			require.NoError(t, c.SetReadDeadline(time.Now().Add(patience)))
			_, err = io.Copy(io.Discard, c)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection stays open")
			eventually(t, "it is counted", func() bool { return a.Stats().Refused == before+1 })
		})
	}
	t.Run("who only looks", func(t *testing.T) {
		before := a.Stats()
		for range 5 { // as the probe of a port does; fewer than may wait
			c, err := net.Dial("tcp", a.Addr().String())
			require.NoError(t, err)
			require.NoError(t, c.Close())
		}
		hears(t, heard, b, "still here")
		require.Equal(t, before.Refused, a.Stats().Refused)
	})
	t.Run("crowd", func(t *testing.T) {
		for range 100 { // far more than may wait
			c, err := net.Dial("tcp", a.Addr().String())
			require.NoError(t, err)
			defer c.Close()
		}
		late := quick()
		late.Key, late.Listen, late.Peers = key, "127.0.0.1:0", []string{a.Addr().String()}
		c := start(t, late)
		connected(t, 1, c)
		hears(t, heard, c, "in the crowd")
	})
	require.Equal(t, 1, told.with("a connection is refused"), "for one address, in a minute")
	hears(t, heard, b, "at last")
	require.Equal(t, 1, a.Stats().Connected)
}

func TestMaxConns(t *testing.T) {
	o := quick()
	o.MaxConns = 1
	p := newPlan(t, "a", "b", "c")
	a := start(t, p.options(t, "a", o))
	b := start(t, p.options(t, "b", quick()))
	eventually(t, "b is taken", func() bool { return a.Stats().Incoming == 1 })
	c := start(t, p.options(t, "c", quick()))
	complains(t, c, "it has as many connections as it takes")
	heard := listen(a)
	hears(t, heard, b, "hello")
	require.NoError(t, b.Close())
	eventually(t, "c is taken", func() bool { return a.Stats().Incoming == 1 && c.Stats().Connected == 1 })
	hears(t, heard, c, "now me")
}

// A peer that does not read loses messages, and in the end its connection, which is made again. Others hear all.
func TestDeafPeer(t *testing.T) {
	p := newPlan(t, "a", "b", "c")
	o := quick()
	o.IdleTimeout = 300 * time.Millisecond
	a := start(t, p.options(t, "a", o))
	b := start(t, p.options(t, "b", quick()))
	deaf := start(t, p.options(t, "c", quick()))
	heard := listen(b)
	release := make(chan struct{})
	open := sync.OnceFunc(func() { close(release) })
	t.Cleanup(open)
	var e ear
	deaf.Receive(func(from string, msg []byte) {
		if len(msg) == sharing.MaxMessage {
			<-release
		}
		e.hear(from, msg)
	})
	connected(t, 2, a)
	large := bytes.Repeat([]byte("x"), sharing.MaxMessage)
	lost := a.Stats().Lost
	eventually(t, "messages are dropped and the connection is given up", func() bool {
		require.NoError(t, a.Broadcast(context.Background(), large))
		return a.Stats().Dropped > 0 && a.Stats().Lost > lost
	})
	hears(t, heard, a, "to those who listen")
	for _, peer := range a.Stats().Peers {
		require.Equal(t, peer.Dropped > 0, peer.Address == deaf.Addr().String(), "%+v", peer)
	}
	open()
	hears(t, &e, a, "again")
}

// dark is a connection that may become one of a network that swallows all.
type dark struct {
	net.Conn
	is func() bool
}

func (d *dark) Write(b []byte) (int, error) {
	if d.is() {
		return len(b), nil
	}
	return d.Conn.Write(b)
}

// A network that swallows all without a word is found out by both sides.
func TestSilentNetwork(t *testing.T) {
	p := newPlan(t, "a", "b")
	var mu sync.Mutex
	darkness := false
	is := func() bool { mu.Lock(); defer mu.Unlock(); return darkness }
	set := func(d bool) { mu.Lock(); defer mu.Unlock(); darkness = d }
	o := quick()
	o.IdleTimeout = 300 * time.Millisecond
	o = p.options(t, "a", o)
	dial := o.Dial
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil || is() {
			return nil, errors.Join(err, errors.New("dark"))
		}
		return &dark{Conn: c, is: is}, nil
	}
	a := start(t, o)
	o2 := quick()
	o2.IdleTimeout = 300 * time.Millisecond
	b := start(t, p.options(t, "b", o2))
	heard := listen(b)
	hears(t, heard, a, "hello")
	time.Sleep(600 * time.Millisecond) // twice the time in which a connection without a ping would end
	require.Zero(t, b.Stats().Lost)
	set(true)
	eventually(t, "a gives it up", func() bool { return a.Stats().Connected == 0 })
	eventually(t, "b gives it up", func() bool { return b.Stats().Incoming == 0 })
	require.Zero(t, b.Stats().Refused)
	set(false)
	hears(t, heard, a, "light")
}

const child = "MESH_CHILD" // a child process: where to listen, and to whom to connect

// A process that is killed is connected to again when it is back.
func TestKilledProcess(t *testing.T) {
	if at := os.Getenv(child); at != "" {
		own, peer, _ := strings.Cut(at, " ")
		o := quick()
		o.Listen, o.Peers, o.Key = own, []string{peer}, key
		m, err := mesh.New(o)
		require.NoError(t, err)
		m.Receive(func(_ string, msg []byte) { _ = m.Broadcast(context.Background(), append([]byte("echo of "), msg...)) })
		io.Copy(io.Discard, os.Stdin) // until the parent is gone
		return
	}
	p := newPlan(t, "a", "b")
	o := quick()
	o.Key = key
	a := start(t, p.options(t, "a", o))
	heard := listen(a)
	p.listeners["b"].Close()
	spawn := func() (kill func()) {
		cmd := exec.Command(os.Args[0], "-test.run", "^TestKilledProcess$")
		cmd.Env = append(os.Environ(), child+"="+p.addresses["b"]+" "+a.Addr().String())
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		return sync.OnceFunc(func() {
			in.Close()
			cmd.Process.Kill()
			cmd.Wait() // an error, as it was killed
		})
	}
	for i := range 3 {
		kill := spawn()
		t.Cleanup(kill)
		text := fmt.Sprint("life ", i)
		eventually(t, "an echo of "+text, func() bool {
			say(t, a, text)
			return heard.count("echo of "+text) > 0
		})
		kill()
		eventually(t, "it is missed", func() bool { return a.Stats().Connected == 0 && a.Stats().Incoming == 0 })
		require.Zero(t, a.Stats().Refused)
	}
}

// names is a resolver, and a network in which addresses 10.0.0.x stand for others.
type names struct {
	mu    sync.Mutex
	hosts map[string][]string
	err   error
	real  map[string]string
	asked int
}

func (n *names) LookupNetIP(_ context.Context, network, host string) (found []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked++
	for _, a := range n.hosts[host] {
		found = append(found, netip.MustParseAddr(a))
	}
	return found, n.err
}

func (n *names) set(host string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host] = addrs
}

func (n *names) fail(err error) (asked int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.err = err
	return n.asked
}

func (n *names) dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	to := n.real[address]
	n.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, to)
}

// addresses returns what a transport connects to.
func addresses(m *mesh.Transport) (all []string) {
	for _, p := range m.Stats().Peers {
		all = append(all, p.Address)
	}
	return all
}

func TestNames(t *testing.T) {
	p := newPlan(t, "b", "c", "d")
	n := &names{hosts: map[string][]string{}, real: map[string]string{}}
	ears := map[string]*ear{}
	for i, name := range sorted(p.addresses) {
		n.real[fmt.Sprintf("10.0.0.%d:7946", i+1)] = p.addresses[name]
		o := quick()
		o.Listener = p.options(t, name, o).Listener
		ears[name] = listen(start(t, o))
	}
	const host = "gateways.default.svc"
	n.set(host, "10.0.0.1", "::ffff:10.0.0.2", "10.0.0.1", "0.0.0.0", "224.0.0.1")
	o := quick()
	o.Listen, o.Resolver, o.Dial, o.LookupInterval, o.MaxPeers = "127.0.0.1:0", n, n.dial, 10*time.Millisecond, 3
	o.Peers = []string{host + ":7946", "10.0.0.1:7946"}
	a := start(t, o)
	connected(t, 2, a)
	require.Equal(t, []string{"10.0.0.1:7946", "10.0.0.2:7946"}, addresses(a))
	hears(t, ears["b"], a, "one")
	hears(t, ears["c"], a, "two")

	// A lookup that fails changes nothing, nor does an answer without addresses.
	settle := func() { // until a lookup has begun and ended
		asked := n.fail(nil)
		eventually(t, "two lookups", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.asked > asked+2 })
	}
	for _, err := range []error{&net.DNSError{Err: "no such host", IsNotFound: true}, errors.New("timeout"), nil} {
		n.set(host)
		asked := n.fail(err)
		eventually(t, "two lookups", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.asked > asked+2 })
		require.Equal(t, 2, a.Stats().Connected)
	}

	n.set(host, "10.0.0.2", "10.0.0.3")
	hears(t, ears["d"], a, "three")
	connected(t, 3, a) // 10.0.0.1 is one by itself, too
	n.set(host, "10.0.0.3", "10.0.0.4", "10.0.0.5")
	eventually(t, "there are more than MaxPeers", func() bool { return a.Stats().Excess == 1 })
	require.Equal(t, []string{"10.0.0.3:7946", "10.0.0.4:7946", "10.0.0.5:7946"}, addresses(a))
	n.set(host, "10.0.0.3")
	eventually(t, "two are gone", func() bool { return slices.Equal(addresses(a), []string{"10.0.0.1:7946", "10.0.0.3:7946"}) })
	settle()
	hears(t, ears["b"], a, "four")
	hears(t, ears["d"], a, "four")
	require.Zero(t, ears["c"].count("four"))
	require.Zero(t, a.Stats().Excess)
}

// A gateway does not stay connected to itself, and hears a peer once that has two addresses.
func TestItselfAndTwice(t *testing.T) {
	p := newPlan(t, "a", "b")
	n := &names{real: map[string]string{"10.0.0.1:1": p.addresses["a"], "10.0.0.2:1": p.addresses["b"], "10.0.0.3:1": p.addresses["b"]}}
	o := p.options(t, "a", quick())
	o.Dial, o.Peers = n.dial, []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"}
	a := start(t, o)
	b := start(t, p.options(t, "b", quick()))
	heard, own := listen(b), listen(a)
	var s mesh.Stats
	eventually(t, "all addresses are tried", func() bool {
		s = a.Stats()
		return s.Connected == 1 && s.Peers[0].Known && s.Peers[1].Known != s.Peers[2].Known && b.Stats().Incoming == 1
	})
	require.ErrorContains(t, s.Peers[0].Err, "it is this gateway itself")
	require.Zero(t, s.Refused)
	for i := range 10 {
		say(t, a, fmt.Sprint("message ", i))
	}
	eventually(t, "the last is heard", func() bool { return heard.count("message 9") > 0 })
	for i := range 10 {
		require.Equal(t, 1, heard.count(fmt.Sprint("message ", i)))
		require.Zero(t, own.count(fmt.Sprint("message ", i)))
	}
}

// Close sends what has been broadcast.
func TestCloseSendsTheRest(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]*tls.Config{"plain": nil, "tls": ca.mutual(t)} {
		t.Run(name, func(t *testing.T) {
			o := quick()
			o.TLS, o.CloseTimeout = c, patience
			a, b := pair(t, o, o)
			heard := listen(b)
			connected(t, 1, a, b)
			large := strings.Repeat("x", sharing.MaxMessage)
			for range 10 {
				say(t, a, large)
			}
			say(t, a, "goodbye")
			began := time.Now()
			require.NoError(t, a.Close())
			require.Less(t, time.Since(began), patience)
			eventually(t, "the last is heard", func() bool { return heard.count("goodbye") == 1 })
			require.Equal(t, 10, heard.count(large))
			require.Zero(t, b.Stats().Refused)
		})
	}
}

// Close waits no longer than it may for a peer that does not read.
func TestCloseIsBounded(t *testing.T) {
	o := quick()
	o.CloseTimeout = 50 * time.Millisecond
	a, b := pair(t, o, o)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	b.Receive(func(string, []byte) { <-release })
	connected(t, 1, a)
	large := bytes.Repeat([]byte("x"), sharing.MaxMessage)
	eventually(t, "nothing goes any more", func() bool {
		require.NoError(t, a.Broadcast(context.Background(), large))
		return a.Stats().Dropped > 0
	})
	began := time.Now()
	require.NoError(t, a.Close())
	require.Less(t, time.Since(began), patience/2)
	require.ErrorContains(t, a.Broadcast(context.Background(), large), "closed")
}

func TestFlood(t *testing.T) {
	o := quick()
	o.MaxRate = 1 << 20
	a, b := pair(t, quick(), o)
	heard := listen(b)
	connected(t, 1, a)
	large := strings.Repeat("x", sharing.MaxMessage)
	began := time.Now()
	eventually(t, "it is read slower", func() bool {
		say(t, a, large)
		return b.Stats().Throttled > 5
	})
	eventually(t, "but read", func() bool { return heard.count(large) > 20 })
	require.Greater(t, time.Since(began), 250*time.Millisecond) // for 20 of 16 a second, with a second's worth at once
	hears(t, heard, a, "at last")
}

func TestStats(t *testing.T) {
	p := newPlan(t, "a", "b", "c")
	a := start(t, p.options(t, "a", quick()))
	b := start(t, p.options(t, "b", quick()))
	c := start(t, p.options(t, "c", quick()))
	connected(t, 2, a, b, c)
	heard := listen(b)
	c.Receive(func(string, []byte) { panic("on purpose") })
	for range 5 {
		say(t, a, "12345678")
	}
	eventually(t, "all is counted", func() bool { return b.Stats().MessagesIn == 5 && c.Stats().Panics == 5 })
	eventually(t, "all that is sent, too", func() bool { return a.Stats().MessagesOut == 10 })
	s := a.Stats()
	require.Equal(t, uint64(80), s.BytesOut)
	require.Equal(t, uint64(40), b.Stats().BytesIn)
	require.Equal(t, 5, heard.count("12345678"))
	require.Zero(t, s.Dropped)
	require.Len(t, s.Peers, 3)
	for _, peer := range s.Peers {
		require.NotEqual(t, peer.Connected, peer.Known, "%+v", peer)
		require.Equal(t, peer.Known, peer.Address == a.Addr().String())
	}
	require.Panics(t, func() { a.Receive(nil); a.Receive(nil) })
}

func TestMessageSizes(t *testing.T) {
	a := start(t, mesh.Options{Listen: "127.0.0.1:0", Key: key})
	for _, size := range []int{0, sharing.MaxMessage + 1} {
		require.EqualError(t, a.Broadcast(context.Background(), make([]byte, size)), fmt.Sprintf("mesh: a message has %d bytes, want 1 to 65536", size))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, a.Broadcast(ctx, []byte("x")), context.Canceled)
}
