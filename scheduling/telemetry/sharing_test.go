package telemetry_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/telemetry"
	"github.com/inferpick/inferpick/types"
)

// twoPeers is a gateway among others, of which two have the same name and one has gone.
func twoPeers(time.Time) sharing.Stats {
	return sharing.Stats{
		Peers: []sharing.PeerStats{
			{Name: "gone", Age: 4 * time.Second, Held: types.Booking{Requests: 1}},
			{Name: "new\"\nline", Age: 50 * time.Millisecond, Alive: true, Held: types.Booking{Requests: 7}},
			{Name: "twin", Age: 90 * time.Millisecond, Alive: true, Held: types.Booking{Requests: 2}},
			{Name: "twin", Age: 20 * time.Millisecond, Alive: true, Held: types.Booking{Requests: 3}},
		},
		Told: sharing.Traffic{Messages: 10, Bytes: 1000}, Heard: sharing.Traffic{Messages: 20, Bytes: 3000},
		Ignored: sharing.Ignored{Old: 1, Flooded: 2, Broken: 3, Versions: 4, Unsigned: 5, Refused: 6, Elsewhere: 7, Notes: 10, Unknown: 8},
		Failed:  9, Panics: 1, LongNotes: 2,
	}
}

func TestSharing(t *testing.T) {
	page := exposition(t, everything(t).Metrics)
	for _, want := range []string{
		"inferpick_peers 3",
		`inferpick_peer_age_seconds{peer="new\"\nline"} 0.05`,
		`inferpick_peer_age_seconds{peer="twin"} 0.02`,
		`inferpick_peer_requests{peer="twin"} 5`,
		`inferpick_sharing_messages_total{direction="told"} 10`,
		`inferpick_sharing_messages_total{direction="heard"} 20`,
		`inferpick_sharing_bytes_total{direction="heard"} 3000`,
		`inferpick_sharing_ignored_total{reason="unsigned"} 5`,
		`inferpick_sharing_ignored_total{reason="note"} 10`,
		`inferpick_sharing_ignored_total{reason="unknown"} 8`,
		`inferpick_sharing_failures_total{what="send"} 9`,
		`inferpick_sharing_failures_total{what="panic"} 1`,
		`inferpick_sharing_failures_total{what="note"} 2`,
	} {
		require.Contains(t, page, want+"\n")
	}
	require.NotContains(t, page, `peer="gone"`)
	require.Equal(t, 2, strings.Count(page, "\ninferpick_peer_requests{"))
	require.Equal(t, 9, strings.Count(page, "\ninferpick_sharing_ignored_total{"))
}

// Who shares nothing has no such metrics, and a gateway without peers says so.
func TestSharingWithNobody(t *testing.T) {
	f := newFixture(t, telemetry.Options{}, scheduling.Profile{})
	require.NotContains(t, exposition(t, f.Metrics), "peer")
	alone, err := sharing.New(sharing.Options{})
	require.NoError(t, err)
	page := exposition(t, newFixture(t, telemetry.Options{Sharing: alone.Stats}, scheduling.Profile{}).Metrics)
	require.Contains(t, page, "inferpick_peers 0\n")
	require.NotContains(t, page, "_sharing_")
}
