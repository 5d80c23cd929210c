package redis_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/cable"
	"github.com/inferpick/inferpick/scheduling/sharing/redis"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
)

func TestConforms(t *testing.T) {
	sharingtest.Run(t, func(t *testing.T) sharingtest.Fleet {
		s := start(t)
		cables := make(map[string]*cable.Cable)
		for _, name := range sharingtest.Names() {
			cables[name] = cable.New(t, s.address())
		}
		return sharingtest.Fleet{
			Open: func(t *testing.T, name string) sharing.Transport {
				transport, err := redis.New(redis.Options{Server: redis.Server{Address: cables[name].Address()}, Timeout: 500 * time.Millisecond})
				require.NoError(t, err)
				return transport
			},
			Cut: func(name string) { cables[name].Cut() },
			Heal: func() {
				for _, c := range cables {
					c.Heal()
				}
			},
			Patience: 20 * time.Second,
		}
	})
}
