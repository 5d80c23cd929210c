package oracle

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	vm "github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/internal/msgpack"
)

// FuzzMsgpack: what the other reader takes, ours takes, with the same values and the same length.
func FuzzMsgpack(f *testing.F) {
	for _, v := range []any{
		[]any{1.5, []any{map[string]any{"type": "BlockStored", "block_hashes": []uint64{1, math.MaxUint64}, "parent_block_hash": nil}}, 0},
		map[string]any{"a": int64(-5), "b": []byte("x"), "c": "y", "d": float32(2), "e": true}, int64(math.MinInt64), uint64(math.MaxUint64), -33, 300, 70_000,
	} {
		b, err := vm.Marshal(v)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add(kveventstest.AppendBatch(nil, 1, blocks(), false))
	f.Add(kveventstest.AppendBatch(nil, 1, blocks(), true))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		d := vm.NewDecoder(in)
		var ours msgpack.Reader
		ours.Reset(data)
		for left := 1; left > 0; left-- {
			more, err := value(t, d, &ours)
			if errors.Is(err, errOther) {
				return // it does not read extensions but those that it knows
			}
			if err != nil {
				require.Error(t, ours.Err(), "the other one says %v", err)
				return
			}
			if ours.Err() != nil {
				// Ours sees at a container's head that its elements cannot all be there.
				require.ErrorIs(t, ours.Err(), msgpack.ErrTruncated)
				return
			}
			left += more
		}
		require.Equal(t, len(data)-in.Len(), ours.Offset())
	})
}

var errOther = errors.New("not comparable")

// value reads one value with both, and returns how many follow that are part of it.
func value(t *testing.T, d *vm.Decoder, ours *msgpack.Reader) (more int, err error) {
	code, err := d.PeekCode()
	if err != nil {
		ours.Skip()
		return 0, err
	}
	switch ours.Kind() {
	case msgpack.Int:
		return 0, integer(t, d, ours, code)
	case msgpack.Float:
		want, err := d.DecodeFloat64()
		got := ours.Float()
		if err == nil && ours.Err() == nil {
			require.Equal(t, math.Float64bits(want), math.Float64bits(got))
		}
		return 0, err
	case msgpack.String, msgpack.Binary:
		got := ours.Bytes()
		if ours.Err() != nil {
			return 0, errOther // the other one would take memory for what is not there
		}
		want, err := d.DecodeBytes()
		if err == nil {
			require.Equal(t, string(want), string(got))
		}
		return 0, err
	case msgpack.Array:
		n, err := d.DecodeArrayLen()
		if got := ours.Array(); err == nil && ours.Err() == nil {
			require.Equal(t, n, got)
		}
		return n, err
	case msgpack.Map:
		n, err := d.DecodeMapLen()
		if got := ours.Map(); err == nil && ours.Err() == nil {
			require.Equal(t, n, got)
		}
		return 2 * n, err
	case msgpack.Nil:
		ours.Skip()
		return 0, d.DecodeNil()
	case msgpack.Bool:
		ours.Skip()
		_, err := d.DecodeBool()
		return 0, err
	case msgpack.Extension:
		return 0, errOther
	}
	require.Equal(t, byte(0xc1), code)
	return 0, errOther
}

func integer(t *testing.T, d *vm.Decoder, ours *msgpack.Reader, code byte) error {
	if code == msgpcode.Uint64 {
		want, err := d.DecodeUint64()
		if got := ours.Uint64(); err == nil {
			require.Equal(t, want, got)
		}
		return err
	}
	want, err := d.DecodeInt64()
	if got := int64(ours.Uint64()); err == nil {
		require.Equal(t, want, got)
	}
	return err
}

func blocks() []kvevents.Event {
	e := kvevents.Event{Kind: kvevents.Stored, Parent: 77 << 50, HasParent: true, BlockSize: 16, Full: true}
	for i := range uint64(8) {
		e.Hashes = append(e.Hashes, 0x9e3779b97f4a7c15*(i+1))
	}
	return []kvevents.Event{e}
}

// stored is BlockStored as a program with the other library would have it.
type stored struct {
	Type   string   `msgpack:"type"`
	Hashes []uint64 `msgpack:"block_hashes"`
	Parent *uint64  `msgpack:"parent_block_hash"`
	Tokens []uint32 `msgpack:"token_ids"`
	Size   int      `msgpack:"block_size"`
	Medium string   `msgpack:"medium"`
}

type batch struct {
	_msgpack struct{} `msgpack:",as_array"`
	At       float64
	Events   []stored
	Rank     int
}

var _ = batch{}._msgpack

// BenchmarkDecode is kvevents.BenchmarkDecode with the other library: into structures, memory reused
// as it does, and skipping the tokens by hand.
func BenchmarkDecode(b *testing.B) {
	payload := kveventstest.AppendBatch(nil, 1, blocks(), false)
	perSecond := func(b *testing.B) { b.ReportMetric(8*float64(b.N)/b.Elapsed().Seconds(), "blocks/s") }
	b.Run("into=structs", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var got batch
			if err := vm.Unmarshal(payload, &got); err != nil || len(got.Events[0].Hashes) != 8 {
				b.Fatal(err)
			}
		}
		perSecond(b)
	})
	b.Run("into=nothing", func(b *testing.B) {
		b.ReportAllocs()
		in := bytes.NewReader(payload)
		d := vm.NewDecoder(in)
		for b.Loop() {
			in.Reset(payload)
			d.Reset(in)
			if err := d.Skip(); err != nil && !errors.Is(err, io.EOF) {
				b.Fatal(err)
			}
		}
		perSecond(b)
	})
}
