package mesh_test

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
)

// broadcaster returns a transport with seven peers, and what has a value whenever all of them have heard a message.
func broadcaster(t testing.TB, o mesh.Options) (*mesh.Transport, <-chan struct{}) {
	p := newPlan(t, "a", "b", "c", "d", "e", "f", "g", "h")
	all := []*mesh.Transport{start(t, p.options(t, "a", o))}
	var heard atomic.Int64
	done := make(chan struct{}, 1)
	for _, name := range sorted(p.addresses)[1:] {
		m := start(t, p.options(t, name, o))
		m.Receive(func(string, []byte) {
			if heard.Add(1)%7 == 0 {
				done <- struct{}{}
			}
		})
		all = append(all, m)
	}
	connected(t, 7, all...) // the others, too, so that no handshake is counted
	return all[0], done
}

// What a gateway shares of 1,000 endpoints is about 12 KB. Each is heard by all seven before the next is sent.
func BenchmarkBroadcast(b *testing.B) {
	ca := newAuthority(b)
	for _, kind := range []struct {
		name string
		with func(o *mesh.Options)
	}{
		{"plain", func(o *mesh.Options) {}},
		{"key", func(o *mesh.Options) { o.Key = key }},
		{"tls", func(o *mesh.Options) { o.TLS = ca.mutual(b) }},
	} {
		b.Run("peers=7/bytes=12000/"+kind.name, func(b *testing.B) {
			o := quick()
			kind.with(&o)
			a, heard := broadcaster(b, o)
			msg := bytes.Repeat([]byte("x"), 12000)
			b.SetBytes(int64(7 * len(msg)))
			b.ReportAllocs()
			for b.Loop() {
				if err := a.Broadcast(context.Background(), msg); err != nil {
					b.Fatal(err)
				}
				<-heard
			}
		})
	}
}

// A message is copied once, however many peers there are.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	o := quick()
	o.Key = key
	a, heard := broadcaster(t, o)
	msg := bytes.Repeat([]byte("x"), 12000)
	allocs := testing.AllocsPerRun(200, func() {
		require.NoError(t, a.Broadcast(context.Background(), msg))
		<-heard
	})
	require.LessOrEqual(t, allocs, 2.0, "to send and to receive it, by all of this process")
}
