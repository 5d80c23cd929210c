package kvevents_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kvevents"
)

func TestDecodeTokens(t *testing.T) {
	const (
		head    = "92 cb0000000000000000 91"
		stored  = "a474797065 ab426c6f636b53746f726564"
		two     = "ac626c6f636b5f686173686573 92 01 02" // block_hashes
		size    = "aa626c6f636b5f73697a65 02"           // block_size
		tokens  = "a9746f6b656e5f696473"
		keys    = "aa65787472615f6b657973"
		adapter = "a96c6f72615f6e616d65 a2 6164" // lora_name "ad"
		parent  = "b1706172656e745f626c6f636b5f68617368 09"
	)
	event := func(e kvevents.Event) kvevents.Event {
		e.Hashes, e.BlockSize, e.Full = []uint64{1, 2}, 2, true
		return e
	}
	all := []uint32{5, 600, 70000, 8}
	ids := tokens + " 94 05 cd0258 ce00011170 08"
	for _, c := range []struct {
		name, payload string
		want          kvevents.Event
	}{
		{"a map", "84" + stored + two + size + ids, event(kvevents.Event{Tokens: all})},
		{"an array", "9a ab426c6f636b53746f726564 920102 c0 94 05 cd0258 ce00011170 08 02 c0 a3475055 a26164 92 91a26164 91a26164 00",
			event(kvevents.Event{Tokens: all, Adapter: "ad"})},
		{"an adapter and a salt", "86" + stored + two + size + ids + adapter + keys + "92 92a26164a173 91a26164", event(kvevents.Event{Tokens: all, Adapter: "ad", Salt: "s"})},
		{"the salt of SGLang", "85" + stored + two + size + ids + "aa63616368655f73616c74 a173", event(kvevents.Event{Tokens: all, Salt: "s"})},
		{"no keys", "85" + stored + two + size + ids + keys + "92c0c0", event(kvevents.Event{Tokens: all})},
		{"an image in the second block", "85" + stored + two + size + ids + keys + "92 c0 91 92a16800", event(kvevents.Event{Tokens: all[:2]})},
		{"an image by its hash alone", "86" + stored + two + size + ids + parent + keys + "92 91a168 c0", event(kvevents.Event{HasParent: true, Parent: 9})},
		{"two keys that are not known", "85" + stored + two + size + ids + keys + "92 92a168a169 c0", event(kvevents.Event{Salt: "h"})},
		{"pairs", "84" + stored + two + size + tokens + "94 920102 920203 920304 920405", event(kvevents.Event{})},
		{"too few", "84" + stored + two + size + tokens + "93 050607", event(kvevents.Event{})},
		{"none", "83" + stored + two + size, event(kvevents.Event{})},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, got, err := kvevents.NewDecoder().Batch(unhex(t, head+c.payload))
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Empty(t, cmp.Diff(c.want, got[0]))
			var d kvevents.Decoder // which skips them
			_, got, err = d.Batch(unhex(t, head+c.payload))
			require.NoError(t, err)
			require.Empty(t, got[0].Tokens)
			require.Empty(t, got[0].Salt)
		})
	}
}

// A real server tells the tokens of all blocks that it stores, also of those that were there already.
func TestDecodeTokensRecorded(t *testing.T) {
	d, blocks := kvevents.NewDecoder(), 0
	for name, frames := range recorded(t) {
		_, got, err := d.Batch(frames[2])
		require.NoError(t, err, name)
		for _, ev := range got {
			if ev.Kind == kvevents.Stored {
				require.Len(t, ev.Tokens, len(ev.Hashes)*ev.BlockSize)
				blocks += len(ev.Hashes)
			}
		}
	}
	require.Equal(t, 20, blocks)
}
