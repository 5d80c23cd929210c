package mesh_test

import (
	"encoding/json"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/cable"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/chaos"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
)

func TestMain(m *testing.M) {
	chaos.Main(plugins.Default, func(config string) (sharing.Transport, error) {
		var o mesh.Options
		if err := json.Unmarshal([]byte(config), &o); err != nil {
			return nil, err
		}
		return mesh.New(o)
	})
	os.Exit(m.Run())
}

// cables are a mesh of processes, each of which reaches each other one by a cable.
type cables struct {
	addresses []string
	from      [][]*cable.Cable // to each
}

func newCables(t *testing.T, n int) *cables {
	c := new(cables)
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer ln.Close() // they listen there
		c.addresses = append(c.addresses, ln.Addr().String())
	}
	for range n {
		var to []*cable.Cable
		for _, address := range c.addresses {
			to = append(to, cable.New(t, address))
		}
		c.from = append(c.from, to)
	}
	return c
}

func (c *cables) Join(i int) string {
	o := mesh.Options{Listen: c.addresses[i], Key: []byte("a key of all gateways")}
	for j, to := range c.from[i] {
		if i != j {
			o.Peers = append(o.Peers, to.Address())
		}
	}
	text, _ := json.Marshal(map[string]any{"Listen": o.Listen, "Peers": o.Peers, "Key": o.Key}) // strings and bytes
	return string(text)
}

// each does something to the cables from and to a gateway; -1: to all.
func (c *cables) each(gateway int, do func(*cable.Cable)) {
	for i, from := range c.from {
		for j, to := range from {
			if gateway < 0 || gateway == i || gateway == j {
				do(to)
			}
		}
	}
}

func (c *cables) Cut(i int)  { c.each(i, (*cable.Cable).Cut) }
func (c *cables) Heal(i int) { c.each(i, (*cable.Cable).Heal) }
func (c *cables) Down()      { c.each(-1, (*cable.Cable).Cut) }
func (c *cables) Up()        { c.each(-1, (*cable.Cable).Heal) }

// TestChaos: gateways that are killed, and networks that are cut, cost no request.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("processes under load")
	}
	chaos.Run(t, newCables(t, 4))
}
