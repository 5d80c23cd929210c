package mesh_test

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/guard/guardtest"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
)

type resolverDouble struct{ at func(string) }

func (d *resolverDouble) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	d.at("LookupNetIP")
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

type listenerDouble struct {
	net.Listener
	at func(string)
}

func (d *listenerDouble) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	d.at("Accept")
	return conn, err
}
func (d *listenerDouble) Close() error { err := d.Listener.Close(); d.at("Close"); return err }

// Whatever panics of its options, of a connection that it makes or of one that it takes, a transport tells and hears.
func TestOptionsPanic(t *testing.T) {
	doubles := []guardtest.Double{
		guardtest.DoubleOf(func(_ mesh.Resolver, at func(string)) mesh.Resolver { return &resolverDouble{at} }),
		guardtest.DoubleOf(func(inner net.Listener, at func(string)) net.Listener { return &listenerDouble{inner, at} }),
		guardtest.ConnDouble(),
	}
	type options struct {
		Options mesh.Options
		Out, In net.Conn
	}
	base := options{Options: mesh.Options{
		Key: key, Resolver: &resolverDouble{}, LookupInterval: 20 * time.Millisecond, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond,
		IdleTimeout: 300 * time.Millisecond, Dial: new(net.Dialer).DialContext,
	}}
	guardtest.Each(t, base, doubles, []string{
		"Options.Listener.Addr", "Options.Listener.Close", // for who calls Addr and Close
		"Out.LocalAddr", "Out.RemoteAddr", "In.LocalAddr", "In.SetReadDeadline", "In.SetWriteDeadline", // are not called
	}, func(t *testing.T, o options, f *guardtest.Fault) {
		listen := func() net.Listener {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			return l
		}
		near, far := listen(), listen()
		if d, ok := o.Options.Listener.(*listenerDouble); ok {
			d.Listener = near
		} else {
			o.Options.Listener = near
		}
		o.Options.Listener = &wrapping{o.Options.Listener, o.In}
		dial := o.Options.Dial
		o.Options.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return guardtest.Wrap(o.Out, conn), nil
		}
		_, port, _ := net.SplitHostPort(far.Addr().String())
		o.Options.Peers = []string{"far.test:" + port}
		a, err := mesh.New(o.Options)
		require.NoError(t, err)
		b, err := mesh.New(mesh.Options{Listener: far, Key: key, Peers: []string{near.Addr().String()}, MinBackoff: time.Millisecond, MaxBackoff: 10 * time.Millisecond, IdleTimeout: 300 * time.Millisecond, HandshakeTimeout: 300 * time.Millisecond})
		require.NoError(t, err)
		var atA, atB atomic.Int64
		a.Receive(func(string, []byte) { atA.Add(1) })
		b.Receive(func(string, []byte) { atB.Add(1) })
		heard := func() bool {
			_ = a.Broadcast(t.Context(), []byte("x"))
			_ = b.Broadcast(t.Context(), []byte("y"))
			time.Sleep(time.Millisecond)
			return atA.Load() > 0 && atB.Load() > 0
		}
		if f.At == "Out.Close" || f.At == "In.Close" { // which ends it
			require.Eventually(t, heard, 20*time.Second, time.Millisecond)
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
			return
		}
		require.Eventually(t, func() bool { heard(); return f.Calls() > 0 }, 20*time.Second, time.Millisecond)
		f.Off()
		atA.Store(0)
		atB.Store(0)
		require.Eventually(t, heard, 20*time.Second, time.Millisecond)
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
	})
}

// wrapping is a listener whose connections are like one.
type wrapping struct {
	net.Listener
	like net.Conn
}

func (w *wrapping) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return guardtest.Wrap(w.like, conn), nil
}
