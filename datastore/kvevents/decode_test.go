package kvevents_test

import (
	"bufio"
	"encoding/hex"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
)

// golden is what vLLM 0.33 publishes for a block that is stored, removed and cleared.
const golden = `93 cb3ff8000000000000 93
 de0008 a474797065 ab426c6f636b53746f726564 ac626c6f636b5f686173686573 91 11 b1706172656e745f626c6f636b5f68617368 c0
 a9746f6b656e5f696473 94 01020304 aa626c6f636b5f73697a65 04 a76c6f72615f6964 c0 a66d656469756d a3475055 a96c6f72615f6e616d65 c0
 83 a474797065 ac426c6f636b52656d6f766564 ac626c6f636b5f686173686573 91 11 a66d656469756d a3475055
 81 a474797065 b0416c6c426c6f636b73436c6561726564 00`

// goldenArrays is the same of vLLM 0.20.
const goldenArrays = `93 cb3ff8000000000000 93
 97 ab426c6f636b53746f726564 91 11 c0 94 01020304 04 c0 a3475055
 93 ac426c6f636b52656d6f766564 91 11 a3475055
 91 b0416c6c426c6f636b73436c6561726564 c0`

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.NewReplacer(" ", "", "\n", "").Replace(s))
	require.NoError(t, err)
	return b
}

func TestDecodeGolden(t *testing.T) {
	want := []kvevents.Event{
		{Kind: kvevents.Stored, Hashes: []uint64{17}, BlockSize: 4, Full: true},
		{Kind: kvevents.Removed, Hashes: []uint64{17}, Full: true},
		{Kind: kvevents.Cleared, Hashes: []uint64{}, Full: true},
	}
	for name, payload := range map[string]string{"maps": golden, "arrays": goldenArrays} {
		var d kvevents.Decoder
		at, got, err := d.Batch(unhex(t, payload))
		require.NoError(t, err, name)
		require.InDelta(t, 1.5, at, 0)
		require.Empty(t, cmp.Diff(want, got), name)
		require.Zero(t, d.Skipped())
	}
}

// A real server's: it removes, stores the blocks of a prompt, stores under a session, reports what
// was there already, and stores after a reset.
func TestDecodeRecorded(t *testing.T) {
	head := []uint64{13927758069823569043, 729066962631029824, 8756670768981408329, 14226791571764537438, 11179418685642203738, 1260125420450594722}
	removed := func(h uint64) kvevents.Event {
		return kvevents.Event{Kind: kvevents.Removed, Hashes: []uint64{h}, Full: true}
	}
	want := map[string][]kvevents.Event{
		"store": {
			removed(18348539208677332674), removed(16257676143702021021),
			{Hashes: head, BlockSize: 32, Full: true},
		},
		"session": {
			removed(17827140540172418349),
			{Hashes: []uint64{9740551863841050740}, Parent: head[5], HasParent: true, BlockSize: 32, SessionID: "sess-body", Full: true},
		},
		"reported again": {{Hashes: append(head[:6:6], 9740551863841050740), BlockSize: 32, SessionID: "sess-full", Full: true}},
		"reset":          {{Kind: kvevents.Cleared, Hashes: []uint64{}, Full: true}, {Hashes: head, BlockSize: 32, SessionID: "sess-after", Full: true}},
	}
	for name, frames := range recorded(t) {
		var d kvevents.Decoder
		at, got, err := d.Batch(frames[2])
		require.NoError(t, err, name)
		require.Greater(t, at, 1.7e9)
		require.Empty(t, cmp.Diff(want[name], got), name)
		delete(want, name)
	}
	require.Empty(t, want)
}

// recorded returns the frames of messages that a real server sent, by what caused them.
func recorded(t testing.TB) map[string][][]byte {
	t.Helper()
	f, err := os.Open("testdata/vllm-0.32.txt")
	require.NoError(t, err)
	defer f.Close()
	all := map[string][][]byte{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name := lines.Text()
		if strings.HasPrefix(name, "#") {
			continue
		}
		for range 3 {
			require.True(t, lines.Scan())
			all[name] = append(all[name], unhex(t, lines.Text()))
		}
	}
	return all
}

func TestDecode(t *testing.T) {
	const ts = "cb0000000000000000"
	stored, hashes := "a474797065 ab426c6f636b53746f726564", "ac626c6f636b5f686173686573"
	for _, c := range []struct {
		name, payload string
		want          []kvevents.Event
		skipped       int
	}{
		{name: "no events", payload: "92" + ts + "90"},
		{name: "more after the rank", payload: "95" + ts + "90 00 a161 81c0c0"},
		{name: "a hash of 32 bytes is its last 8", payload: "92" + ts + "91 82" + stored + hashes + "91 c420" + strings.Repeat("ff", 24) + "0102030405060708",
			want: []kvevents.Event{{Hashes: []uint64{0x0102030405060708}, Full: true}}},
		{name: "a hash as text, a short one and a negative one", payload: "92" + ts + "91 82" + stored + hashes + "94 a8 6162636465666768 c40101 ff d3 8000000000000000",
			want: []kvevents.Event{{Hashes: []uint64{0x6162636465666768, 1, math.MaxUint64, 1 << 63}, Full: true}}},
		{name: "the tag may come last, keys may be no text", payload: "92" + ts + "91 84 01 02 c0 91c0" + hashes + "9103" + stored, want: []kvevents.Event{{Hashes: []uint64{3}, Full: true}}},
		{name: "unknown tag, unknown hash, no tag, no event", skipped: 6,
			payload: "92" + ts + "97 82 a474797065 a3466f6f" + hashes + "9101" + "82" + stored + hashes + "91c3" + "81" + hashes + "9101" + "05" + "90" + "92 c0 01" + "82" + stored + hashes + "9102",
			want:    []kvevents.Event{{Hashes: []uint64{2}, Full: true}}},
		{name: "group, kind of attention, adapter, tier, elsewhere",
			payload: "92" + ts + "93" +
				"86" + stored + hashes + "9101 a967726f75705f696478 02 b26b765f63616368655f737065635f6b696e64 ae736c6964696e675f77696e646f77 a96c6f72615f6e616d65 a161 a66d656469756d a3637075" +
				"83" + stored + hashes + "9101 a86c6f63616c697479 a652454d4f5445" +
				"83" + stored + hashes + "9101 a86c6f63616c697479 a54c4f43414c",
			want: []kvevents.Event{
				{Hashes: []uint64{1}, Group: 2, Adapter: "a", Tier: kvevents.CPU},
				{Hashes: []uint64{1}, Tier: kvevents.Remote, Full: true},
				{Hashes: []uint64{1}, Full: true},
			}},
		{name: "values of other types are none", payload: "92" + ts + "91 86" + stored + hashes + "9101 aa626c6f636b5f73697a65 a134 a66d656469756d 05 a967726f75705f696478 ff aa73657373696f6e5f6964 c3",
			want: []kvevents.Event{{Hashes: []uint64{1}, Full: true}}},
		{name: "token ids in pairs", payload: "92" + ts + "91 83" + stored + "a9746f6b656e5f696473 92 920102 920203" + hashes + "9101", want: []kvevents.Event{{Hashes: []uint64{1}, Full: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d kvevents.Decoder
			_, got, err := d.Batch(unhex(t, c.payload))
			require.NoError(t, err)
			require.Len(t, got, len(c.want))
			for i := range c.want {
				require.Empty(t, cmp.Diff(c.want[i], got[i]))
			}
			require.Equal(t, c.skipped, d.Skipped())
		})
	}
}

func TestDecodeErrors(t *testing.T) {
	for payload, want := range map[string]string{
		"":                    "kvevents: a batch cannot be read: msgpack: at byte 0 of 0: the message ends too early",
		"80":                  "kvevents: a batch cannot be read: msgpack: at byte 0 of 1: a value is of type map, want array",
		"91 00":               "kvevents: a batch of 1 values, want a time and the events at least",
		"92 c0 90":            "kvevents: a batch cannot be read: msgpack: at byte 1 of 3: a value is of type nil, want float",
		"92 00 91 81":         "kvevents: a batch cannot be read: msgpack: at byte 3 of 4: the message ends too early",
		"92 00 91 dfffffffff": "kvevents: a batch cannot be read: msgpack: at byte 3 of 8: the message ends too early",
		"92 00 ddffffffff":    "kvevents: a batch cannot be read: msgpack: at byte 2 of 7: the message ends too early",
		"93 00 90":            "kvevents: a batch cannot be read: msgpack: at byte 0 of 3: the message ends too early",
	} {
		var d kvevents.Decoder
		_, _, err := d.Batch(unhex(t, payload))
		require.EqualError(t, err, want, payload)
	}
}

// However many hashes a message claims in however few bytes, memory is bounded.
func TestDecodeBounds(t *testing.T) {
	payload := append(unhex(t, "92 00 91 82 a474797065 ab426c6f636b53746f726564 ac626c6f636b5f686173686573 dd00200000"), make([]byte, 1<<21)...)
	var d kvevents.Decoder
	_, _, err := d.Batch(payload)
	require.EqualError(t, err, "kvevents: a batch of more than 131072 events or 1048576 hashes")

	small := unhex(t, "81 a474797065 b0416c6c426c6f636b73436c6561726564")
	payload = unhex(t, "92 00 dd00040000")
	for range 1 << 18 {
		payload = append(payload, small...)
	}
	_, _, err = d.Batch(payload)
	require.EqualError(t, err, "kvevents: a batch of more than 131072 events or 1048576 hashes")

	_, got, err := d.Batch(unhex(t, golden))
	require.NoError(t, err)
	require.Len(t, got, 3)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	runtime.KeepAlive(&d)
	d = kvevents.Decoder{}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, int64(before.HeapAlloc)-int64(after.HeapAlloc), int64(1<<20), "a decoder keeps what it took for a huge batch")
}

func TestTiers(t *testing.T) {
	for medium, want := range map[string]kvevents.Tier{
		"": kvevents.GPU, "GPU": kvevents.GPU, "gpu": kvevents.GPU, "DEVICE": kvevents.GPU, "CPU": kvevents.CPU, "cpu": kvevents.CPU, "CPU_PINNED": kvevents.CPU,
		"CPU_TIER1": kvevents.CPU, "CPU_TIER2": kvevents.Disk, "DISK": kvevents.Disk, "FS": kvevents.Disk, "STORAGE": kvevents.Disk, "OBJ": kvevents.Remote,
		"EXTERNAL": kvevents.Remote, "HOLOGRAM": kvevents.Remote, "A_MEDIUM_WITH_A_LONG_NAME": kvevents.Remote,
	} {
		require.Equal(t, want, kvevents.TierOf(medium), medium)
	}
	require.Equal(t, "gpu cpu disk remote", strings.Join([]string{kvevents.GPU.String(), kvevents.CPU.String(), kvevents.Disk.String(), kvevents.Remote.String()}, " "))
	require.Equal(t, 4, kvevents.Tiers)
	require.Equal(t, "types.KVTier(9)", kvevents.Tier(9).String())
}

// batch is one of 8 blocks of 16 tokens, as a prompt of 128 tokens makes one.
func batch() []kvevents.Event {
	e := kvevents.Event{Kind: kvevents.Stored, Parent: 77 << 50, HasParent: true, BlockSize: 16, Full: true}
	for i := range uint64(8) {
		e.Hashes = append(e.Hashes, 0x9e3779b97f4a7c15*(i+1))
	}
	return []kvevents.Event{e}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, arrays := range []bool{false, true} {
		payload := kveventstest.AppendBatch(nil, 1, batch(), arrays)
		var d kvevents.Decoder
		require.Zero(t, testing.AllocsPerRun(100, func() {
			if _, events, err := d.Batch(payload); err != nil || len(events) != 1 {
				t.Error(err, len(events))
			}
		}))
	}
}

func TestEncodeIsDecoded(t *testing.T) {
	want := append(batch(), kvevents.Event{Kind: kvevents.Removed, Hashes: []uint64{1, 300, 70_000, 1 << 40}, Tier: kvevents.CPU, Full: true},
		kvevents.Event{Kind: kvevents.Cleared, Hashes: []uint64{}, Full: true}, kvevents.Event{Hashes: []uint64{5}, BlockSize: 300, Adapter: "a", SessionID: strings.Repeat("s", 300), Group: 3, Tier: kvevents.Disk})
	var d kvevents.Decoder
	at, got, err := d.Batch(kveventstest.AppendBatch(nil, 2.5, want, false))
	require.NoError(t, err)
	require.InDelta(t, 2.5, at, 0)
	require.Empty(t, cmp.Diff(want, got))
	want[3].SessionID = "" // which the old form does not have
	_, got, err = d.Batch(kveventstest.AppendBatch(nil, 2.5, want, true))
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want, got))
}

// FuzzDecode: whatever comes, nothing panics, and what is decoded is within bounds.
func FuzzDecode(f *testing.F) {
	f.Add(unhex(f, golden))
	f.Add(unhex(f, goldenArrays))
	f.Add(kveventstest.AppendBatch(nil, 1, batch(), false))
	f.Add(kveventstest.AppendBatch(nil, 1, batch(), true))
	for _, frames := range recorded(f) {
		f.Add(frames[2])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		d := kvevents.NewDecoder()
		_, events, err := d.Batch(payload)
		hashes := 0
		for i := range events {
			require.LessOrEqual(t, len(events[i].Tokens), len(events[i].Hashes)*events[i].BlockSize)
			e := &events[i]
			hashes += len(e.Hashes)
			require.True(t, e.BlockSize >= 0 && e.Group >= 0 && e.Kind <= kvevents.Cleared && int(e.Tier) < kvevents.Tiers)
			require.True(t, e.Kind == kvevents.Stored || !e.HasParent && e.BlockSize == 0)
		}
		require.LessOrEqual(t, hashes, len(payload))
		require.True(t, err == nil || events == nil)
		_, _ = kvevents.DecodeLoad(payload)
	})
}

// BenchmarkDecode: blocks per second of one core, from payloads to events. What a reader of
// MessagePack that builds values takes for the same is in the module oracle.
func BenchmarkDecode(b *testing.B) {
	for name, d := range map[string]*kvevents.Decoder{"form=map": {}, "form=array": {}, "form=map/tokens": kvevents.NewDecoder()} {
		b.Run(name, func(b *testing.B) {
			payload := kveventstest.AppendBatch(nil, 1, batch(), name == "form=array")
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := d.Batch(payload); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(8*float64(b.N)/b.Elapsed().Seconds(), "blocks/s")
		})
	}
}
