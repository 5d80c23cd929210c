package autoscale_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/autoscale"
	"github.com/inferpick/inferpick/scheduling/sharing"
)

// BenchmarkNotePeers is what telling and hearing one peer once takes, which happens once a second for each; B/peer is
// what is sent to it.
func BenchmarkNotePeers(b *testing.B) {
	for _, pools := range []int{1, 20, 500} {
		b.Run(fmt.Sprintf("pools=%d", pools), func(b *testing.B) {
			clock := newPeerClock()
			const name = "%016[1]x"
			told := newNoted(b, clock, 0, autoscale.NotePeersOptions{}, manyPools(pools, name, 2))
			heard := newNoted(b, clock, 0, autoscale.NotePeersOptions{}, manyPools(1, name, 1))
			heard.peers.Parts()[0].(sharing.NotePart).AppendNote(nil, clock.Now())
			bytes := 0
			b.ReportAllocs()
			for b.Loop() {
				clock.pass(time.Second)
				bytes = 0
				for i, part := range told.peers.Parts() {
					note := part.(sharing.NotePart).AppendNote(nil, clock.Now())
					if bytes += len(note); len(note) > 0 {
						heard.peers.Parts()[i].(sharing.NotePart).HearNote(1, note, clock.Now())
					}
				}
				answers, _, err := heard.peers.Ask(b.Context())
				require.NoError(b, err)
				require.Len(b, answers, 1)
			}
			b.ReportMetric(float64(bytes), "B/peer")
		})
	}
}
