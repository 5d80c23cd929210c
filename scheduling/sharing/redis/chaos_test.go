package redis_test

import (
	"testing"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/cable"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/chaos"
	"github.com/inferpick/inferpick/scheduling/sharing/redis"
)

// join makes the transport of a process of TestChaos.
func join(address string) (sharing.Transport, error) {
	return redis.New(redis.Options{Server: redis.Server{Address: address}})
}

// cabled is a server that each gateway reaches by a cable, and that stops.
type cabled struct {
	server *server
	cables []*cable.Cable
}

func (c *cabled) Join(i int) string { return c.cables[i].Address() }
func (c *cabled) Cut(i int)         { c.cables[i].Cut() }
func (c *cabled) Heal(i int)        { c.cables[i].Heal() }
func (c *cabled) Down()             { c.server.kill() }
func (c *cabled) Up()               { c.server.run() }

// TestChaos: gateways that are killed, networks that are cut, and a server that stops cost no request.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("processes under load")
	}
	c := &cabled{server: start(t)}
	for range 4 {
		c.cables = append(c.cables, cable.New(t, c.server.address()))
	}
	chaos.Run(t, c)
}
