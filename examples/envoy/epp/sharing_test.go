package epp_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
)

// TestSharing: what one picker has sent to a server the other one knows, also after its policy was another for a
// while; and it notices that the first ends.
func TestSharing(t *testing.T) {
	t.Parallel()
	network := sharingtest.NewNetwork(sharingtest.NetworkOptions{})
	sharer := func(name string) *running {
		return start(t, base+flowControl(8, ""), func(o *epp.Options) {
			o.Explain = true
			o.Sharing = &sharing.Options{Name: name, Transport: network.Open(name), Every: sharing.LeastEvery}
		})
	}
	one, two := sharer("one"), sharer("two")
	knows := func(what string) {
		t.Helper()
		eventually(t, what, func() bool {
			_, _, why := fetch(t, "POST", "http://"+two.MetricsAddress()+"/explain", `{"model": "chat", "messages": []}`)
			return strings.Contains(why, what)
		})
	}
	x := open(t, one.client())
	at := x.routed("chat")
	knows("1 peers; one: 1 in flight, heard ")
	eventually(t, "metrics of it", func() bool {
		n, _ := series(two.metrics(), "inferpick_peer_requests", `peer="one"`)
		return n == 1
	})
	claimed := int64(0)
	for _, ep := range two.Store().Snapshot().Pools()[0].Endpoints() {
		if ep.Address == at {
			claimed = ep.Load.Peers().Requests
		}
	}
	require.EqualValues(t, 1, claimed, "at %s", at)

	put(t, two.path, base+pickerHead+"plugins: [{type: random-picker}]\n")
	must(t, two.Reload())
	y := open(t, one.client())
	y.routed("chat")
	knows("1 peers; one: 2 in flight, heard ")
	x.finish()
	y.finish()
	knows("1 peers; one: 0 in flight, heard ")

	one.stop()
	must(t, one.ends())
	knows("0 peers\n")
}

func TestSharingWithoutTransport(t *testing.T) {
	t.Parallel()
	_, err := tryStart(t, base, func(o *epp.Options) { o.Sharing = new(sharing.Options) })
	require.ErrorContains(t, err, "has no Transport")
}

// write writes a file into a folder of the test.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// freeAddress is one that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

func TestNewMesh(t *testing.T) {
	dir := t.TempDir()
	cert, key, _ := certificate(t, "picker")
	other, otherKey, _ := certificate(t, "stranger")
	files := func(p epp.Peers) epp.Peers {
		p.CertFile, p.CertKeyFile, p.CAFile = write(t, dir, "cert", cert), write(t, dir, "key", key), write(t, dir, "ca", cert)
		return p
	}
	secret := write(t, dir, "secret", "\n a secret of the pickers \n")
	renewed := write(t, dir, "renewed", "another secret of pickers\na secret of the pickers\n")
	stranger := write(t, dir, "stranger", "a secret of somebody else")
	for _, tt := range []struct {
		name     string
		one, two epp.Peers
		meet     bool
	}{
		{"key", epp.Peers{KeyFile: secret}, epp.Peers{KeyFile: secret}, true},
		{"keys that change", epp.Peers{KeyFile: renewed}, epp.Peers{KeyFile: renewed}, true},
		{"another key", epp.Peers{KeyFile: secret}, epp.Peers{KeyFile: stranger}, false},
		{"TLS", files(epp.Peers{}), files(epp.Peers{}), true},
		{"TLS and key", files(epp.Peers{KeyFile: secret}), files(epp.Peers{KeyFile: secret}), true},
		{"another authority", files(epp.Peers{}), epp.Peers{
			CertFile: write(t, dir, "cert2", other), CertKeyFile: write(t, dir, "key2", otherKey), CAFile: write(t, dir, "ca2", other),
		}, false},
		{"another name", files(epp.Peers{ServerName: "somebody"}), files(epp.Peers{ServerName: "somebody"}), false},
		{"insecure", epp.Peers{Insecure: true}, epp.Peers{Insecure: true}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addresses := []string{freeAddress(t), freeAddress(t)}
			heard := make(chan struct{}, 1)
			var all []*mesh.Transport
			for i, p := range []epp.Peers{tt.one, tt.two} {
				p.Addr, p.Addresses = addresses[i], addresses
				m, err := epp.NewMesh(p)
				must(t, err)
				defer m.Close()
				all = append(all, m)
			}
			all[1].Receive(func(string, []byte) {
				select {
				case heard <- struct{}{}:
				default:
				}
			})
			within := patience
			if !tt.meet {
				within = 200 * time.Millisecond
			}
			late := time.After(within)
			for {
				must(t, all[0].Broadcast(context.Background(), []byte("hello")))
				select {
				case <-heard:
					require.True(t, tt.meet, "they should not hear each other")
					return
				case <-late:
					require.False(t, tt.meet, "they do not hear each other: %+v", all[0].Stats())
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	for _, tt := range []struct {
		name string
		p    epp.Peers
		want string
	}{
		{"nothing", epp.Peers{}, "set Key, TLS, or Insecure"},
		{"no file", epp.Peers{KeyFile: filepath.Join(dir, "none")}, "epp: peers: mesh: key file: "},
		{"an empty key", epp.Peers{KeyFile: write(t, dir, "empty", " \n")}, "is empty"},
		{"a short key", epp.Peers{KeyFile: write(t, dir, "short", "short")}, "has 5 bytes, want 16 at least"},
		{"a long file", epp.Peers{KeyFile: write(t, dir, "long", strings.Repeat("x", 65<<10))}, "more than 65536 bytes"},
		{"half of TLS", epp.Peers{CertFile: "x"}, "want all three files, or none"},
		{"no certificate", epp.Peers{CertFile: secret, CertKeyFile: secret, CAFile: secret}, "epp: a certificate: "},
		{"no authority", epp.Peers{CertFile: write(t, dir, "c", cert), CertKeyFile: write(t, dir, "k", key), CAFile: secret}, "no certificate in PEM"},
		{"an address", epp.Peers{Insecure: true, Addresses: []string{"host"}}, "want host:port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.p.Addr = "127.0.0.1:0"
			_, err := epp.NewMesh(tt.p)
			require.ErrorContains(t, err, tt.want)
		})
	}
}
