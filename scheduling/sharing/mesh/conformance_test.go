package mesh_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
)

func TestConforms(t *testing.T) {
	ca := newAuthority(t)
	for name, with := range map[string]func(o *mesh.Options){
		"plain": func(o *mesh.Options) {},
		"key":   func(o *mesh.Options) { o.Key, o.Insecure = key, false },
		"tls":   func(o *mesh.Options) { o.TLS, o.Insecure = ca.mutual(t), false },
		"tls_of_anybody_and_key": func(o *mesh.Options) {
			o.TLS, o.Key, o.Insecure = newAuthority(t).mutual(t), key, false
			o.TLS.InsecureSkipVerify, o.TLS.ClientAuth = true, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && (name == "plain" || name == "tls") {
				t.Skip("the others do all that these do")
			}
			sharingtest.Run(t, func(t *testing.T) sharingtest.Fleet {
				p := newPlan(t, sharingtest.Names()...)
				return sharingtest.Fleet{
					Open: func(t *testing.T, name string) sharing.Transport {
						o := quick()
						with(&o)
						m, err := mesh.New(p.options(t, name, o))
						require.NoError(t, err)
						return m
					},
					Cut: p.isolate, Heal: p.heal, Patience: 20 * time.Second,
				}
			})
		})
	}
}
