package kveventstest

import (
	"encoding/binary"
	"math"

	"github.com/inferpick/inferpick/datastore/kvevents"
)

// AppendBatch appends the payload of a batch in MessagePack, as engines encode it. If arrays is
// set, events are arrays, as those of vLLM before 0.24, else maps. Each block has as many token
// ids as its BlockSize says.
func AppendBatch(b []byte, at float64, events []kvevents.Event, arrays bool) []byte {
	e := encoder{b}
	e.array(3)
	e.float(at)
	e.array(len(events))
	for i := range events {
		if arrays {
			e.asArray(&events[i])
		} else {
			e.asMap(&events[i])
		}
	}
	e.int(0)
	return e.b
}

var tags = map[kvevents.Kind]string{kvevents.Stored: "BlockStored", kvevents.Removed: "BlockRemoved", kvevents.Cleared: "AllBlocksCleared"}

var media = map[kvevents.Tier]string{kvevents.GPU: "GPU", kvevents.CPU: "CPU", kvevents.Disk: "STORAGE", kvevents.Remote: "EXTERNAL"}

type encoder struct{ b []byte }

func (e *encoder) asArray(ev *kvevents.Event) {
	switch ev.Kind {
	case kvevents.Stored:
		e.array(11)
		e.text(tags[ev.Kind])
		e.hashes(ev.Hashes)
		e.parent(ev)
		e.tokens(ev)
		e.int(uint64(ev.BlockSize))
		e.null() // lora_id
		e.text(media[ev.Tier])
		e.textOrNil(ev.Adapter)
		e.null() // extra_keys
		e.int(uint64(ev.Group))
		e.text(spec(ev))
	case kvevents.Removed:
		e.array(4)
		e.text(tags[ev.Kind])
		e.hashes(ev.Hashes)
		e.text(media[ev.Tier])
		e.int(uint64(ev.Group))
	default:
		e.array(1)
		e.text(tags[ev.Kind])
	}
}

func (e *encoder) asMap(ev *kvevents.Event) {
	switch ev.Kind {
	case kvevents.Stored:
		e.mapHead(11)
		e.pair("type", tags[ev.Kind])
		e.text("block_hashes")
		e.hashes(ev.Hashes)
		e.text("parent_block_hash")
		e.parent(ev)
		e.text("token_ids")
		e.tokens(ev)
		e.text("block_size")
		e.int(uint64(ev.BlockSize))
		e.text("lora_id")
		e.null()
		e.pair("medium", media[ev.Tier])
		e.text("lora_name")
		e.textOrNil(ev.Adapter)
		e.text("group_idx")
		e.int(uint64(ev.Group))
		e.pair("kv_cache_spec_kind", spec(ev))
		e.text("session_id")
		e.textOrNil(ev.SessionID)
	case kvevents.Removed:
		e.mapHead(4)
		e.pair("type", tags[ev.Kind])
		e.text("block_hashes")
		e.hashes(ev.Hashes)
		e.pair("medium", media[ev.Tier])
		e.text("group_idx")
		e.int(uint64(ev.Group))
	default:
		e.mapHead(1)
		e.pair("type", tags[ev.Kind])
	}
}

func spec(ev *kvevents.Event) string {
	if ev.Full {
		return "full_attention"
	}
	return "sliding_window"
}

func (e *encoder) hashes(all []uint64) {
	e.array(len(all))
	for _, h := range all {
		e.int(h)
	}
}

func (e *encoder) parent(ev *kvevents.Event) {
	if ev.HasParent {
		e.int(ev.Parent)
	} else {
		e.null()
	}
}

// tokens writes ids like those of a vocabulary of 128k, of 3 to 5 bytes.
func (e *encoder) tokens(ev *kvevents.Event) {
	e.array(len(ev.Hashes) * ev.BlockSize)
	for i := range len(ev.Hashes) * ev.BlockSize {
		e.int((ev.Hashes[i/ev.BlockSize] + uint64(i)*7919) % 128_000)
	}
}

func (e *encoder) null() { e.b = append(e.b, 0xc0) }

func (e *encoder) pair(key, value string) { e.text(key); e.text(value) }

func (e *encoder) textOrNil(s string) {
	if s == "" {
		e.null()
	} else {
		e.text(s)
	}
}

func (e *encoder) text(s string) {
	switch n := len(s); {
	case n < 32:
		e.b = append(e.b, 0xa0|byte(n))
	case n < 1<<8:
		e.b = append(e.b, 0xd9, byte(n))
	default:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xda), uint16(n))
	}
	e.b = append(e.b, s...)
}

func (e *encoder) array(n int) {
	switch {
	case n < 16:
		e.b = append(e.b, 0x90|byte(n))
	case n < 1<<16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xdc), uint16(n))
	default:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xdd), uint32(n))
	}
}

func (e *encoder) mapHead(n int) { e.b = append(e.b, 0x80|byte(n)) }

func (e *encoder) int(v uint64) {
	switch {
	case v < 1<<7:
		e.b = append(e.b, byte(v))
	case v < 1<<8:
		e.b = append(e.b, 0xcc, byte(v))
	case v < 1<<16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xcd), uint16(v))
	case v < 1<<32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xce), uint32(v))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcf), v)
	}
}

func (e *encoder) float(v float64) {
	e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcb), math.Float64bits(v))
}
