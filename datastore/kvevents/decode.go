package kvevents

import (
	"fmt"
	"math"

	"github.com/inferpick/inferpick/internal/msgpack"
)

// Bounds of one batch, beside that of its bytes: a hash may be one byte there, and takes eight
// here. An engine's step stores and removes some thousand blocks.
const (
	maxEvents = 1 << 17
	maxHashes = 1 << 20
	keepBatch = 1 << 14 // hashes and events whose memory a decoder keeps
)

// decoder turns what engines publish into events. It keeps its memory for the next batch.
type decoder struct {
	withTokens bool // Event.Tokens is wanted

	r       msgpack.Reader
	events  []Event
	spans   []span // of the hashes of each event
	hashes  []uint64
	tokens  []uint32
	tspans  []span // of the tokens of each event, if they are wanted
	names   names
	skipped int // events of the batch that are of an unknown kind, or have hashes of one
	tooMany bool
}

type span struct{ from, to int }

// batch decodes a payload: [time, [event …], rank], where more may follow. The events are valid
// until the next call. The rank is what the connection is, whatever a payload says.
func (d *decoder) batch(payload []byte) (at float64, events []Event, err error) {
	d.reset()
	d.r.Reset(payload)
	n := d.r.Array()
	if d.r.Err() == nil && n < 2 {
		return 0, nil, fmt.Errorf("kvevents: a batch of %d values, want a time and the events at least", n)
	}
	if at = d.r.Float(); math.IsNaN(at) {
		at = 0 // it is compared
	}
	for range d.r.Array() {
		d.event()
		if d.r.Err() != nil {
			break
		}
		if d.tooMany || len(d.events) > maxEvents {
			return 0, nil, fmt.Errorf("kvevents: a batch of more than %d events or %d hashes", maxEvents, maxHashes)
		}
	}
	d.r.SkipN(n - 2)
	if err := d.r.Err(); err != nil {
		return 0, nil, fmt.Errorf("kvevents: a batch cannot be read: %w", err)
	}
	for i, s := range d.spans {
		d.events[i].Hashes = d.hashes[s.from:s.to:s.to]
	}
	for i, s := range d.tspans {
		if s.from < s.to {
			d.events[i].Tokens = d.tokens[s.from:s.to:s.to]
		}
	}
	return at, d.events, nil
}

func (d *decoder) reset() {
	if cap(d.events) > keepBatch || cap(d.hashes) > keepBatch {
		d.events, d.spans, d.hashes = nil, nil, nil
	}
	if cap(d.tokens) > 16*keepBatch {
		d.tokens = nil
	}
	d.events, d.spans, d.hashes, d.skipped = d.events[:0], d.spans[:0], d.hashes[:0], 0
	d.tokens, d.tspans = d.tokens[:0], d.tspans[:0]
	d.tooMany = false
}

// field is a field of an event that is wanted.
type field uint8

const (
	other field = iota // of no interest
	tag
	hashes
	parent
	blockSize
	medium
	loraName
	groupIndex
	specKind
	locality
	sessionID
	tokenIDs // most of what comes; read only if they are wanted, as the next two
	extraKeys
	cacheSalt
)

// Before vLLM 0.24 and in SGLang before 0.5.23 events are arrays: the tag and these, the last
// ones missing where they have their defaults.
var (
	storedFields  = []field{hashes, parent, tokenIDs, blockSize, other, medium, loraName, extraKeys, groupIndex, specKind}
	removedFields = []field{hashes, medium, groupIndex}
)

// fieldOf returns the field of a name, where events are maps.
func fieldOf(name []byte) field {
	switch string(name) {
	case "type":
		return tag
	case "block_hashes":
		return hashes
	case "parent_block_hash":
		return parent
	case "block_size":
		return blockSize
	case "medium":
		return medium
	case "lora_name":
		return loraName
	case "group_idx":
		return groupIndex
	case "kv_cache_spec_kind":
		return specKind
	case "locality":
		return locality
	case "session_id":
		return sessionID
	case "token_ids":
		return tokenIDs
	case "extra_keys":
		return extraKeys
	case "cache_salt":
		return cacheSalt
	}
	return other
}

// reading is an event that is being read.
type reading struct {
	Event
	known  bool // it has a tag that is known
	odd    bool // it has a hash of an unknown type
	remote bool // another server holds the blocks

	foreign bool // it has keys that are not known here,
	pure    int  // from this block on
}

// event decodes the next event and appends it to the batch, if it is of a known kind.
func (d *decoder) event() {
	from, tokens := len(d.hashes), len(d.tokens)
	e := reading{Event: Event{Full: true}}
	switch d.r.Kind() {
	case msgpack.Array:
		d.array(&e)
	case msgpack.Map:
		for range d.r.Map() {
			if d.r.Kind() != msgpack.String {
				d.r.SkipN(2)
			} else {
				d.value(&e, fieldOf(d.r.Bytes()))
			}
			if d.r.Err() != nil {
				return
			}
		}
	default:
		d.r.Skip()
	}
	if !e.known || e.odd {
		d.skipped++
		d.hashes, d.tokens = d.hashes[:from], d.tokens[:tokens]
		return
	}
	if e.remote {
		e.Tier = Remote
	}
	switch e.Kind {
	case Cleared:
		e.Event, d.hashes = Event{Kind: Cleared, Full: true}, d.hashes[:from]
	case Removed:
		e.Parent, e.HasParent, e.BlockSize = 0, false, 0
	}
	if d.withTokens {
		d.tspans = append(d.tspans, d.ofTokens(&e, len(d.hashes)-from, tokens))
	}
	d.events = append(d.events, e.Event)
	d.spans = append(d.spans, span{from, len(d.hashes)})
}

// array reads an event that is an array.
func (d *decoder) array(e *reading) {
	n := d.r.Array()
	if n == 0 {
		return
	}
	d.value(e, tag)
	var fields []field
	switch {
	case !e.known:
	case e.Kind == Stored:
		fields = storedFields
	case e.Kind == Removed:
		fields = removedFields
	}
	fields = fields[:min(len(fields), n-1)]
	for _, f := range fields {
		d.value(e, f)
	}
	d.r.SkipN(n - 1 - len(fields))
}

// value reads the value of a field. One of another type than the field has is as if it were not
// there, so nil too.
func (d *decoder) value(e *reading, f field) {
	kind := d.r.Kind()
	switch {
	case f == hashes && kind == msgpack.Array:
		n := d.r.Array()
		if n > maxHashes-len(d.hashes) {
			d.tooMany = true
			return
		}
		for range n {
			h, ok := d.hash()
			e.odd = e.odd || !ok
			d.hashes = append(d.hashes, h)
		}
	case f == parent && kind != msgpack.Nil:
		var ok bool
		e.Parent, ok = d.hash()
		e.HasParent, e.odd = true, e.odd || !ok
	case f == blockSize && kind == msgpack.Int:
		e.BlockSize = clampInt(d.r.Uint64())
	case f == groupIndex && kind == msgpack.Int:
		e.Group = clampInt(d.r.Uint64())
	case f >= tokenIDs && !d.withTokens:
		d.r.Skip()
	case f == tokenIDs && kind == msgpack.Array:
		d.readTokens()
	case f == extraKeys && kind == msgpack.Array:
		d.readKeys(e)
	case f != other && kind == msgpack.String:
		d.text(e, f, d.r.Bytes())
	default:
		d.r.Skip()
	}
}

// text takes the value of a field that is a string.
func (d *decoder) text(e *reading, f field, v []byte) {
	switch f {
	case tag:
		e.known = true
		switch string(v) {
		case "BlockStored":
			e.Kind = Stored
		case "BlockRemoved":
			e.Kind = Removed
		case "AllBlocksCleared":
			e.Kind = Cleared
		default:
			e.known = false
		}
	case medium:
		e.Tier = tierOf(v)
	case locality:
		e.remote = len(v) == 6 && (v[0]|0x20) == 'r' // REMOTE, not LOCAL
	case loraName:
		e.Adapter = d.names.of(v)
	case sessionID:
		e.SessionID = d.names.of(v)
	case cacheSalt:
		e.Salt = d.names.of(v)
	case specKind:
		switch string(v) {
		case "full_attention", "mla_attention", "sink_full_attention", "":
		default:
			e.Full = false
		}
	}
}

// hash reads the hash of a block. It reports whether it is of a type that is known.
func (d *decoder) hash() (uint64, bool) {
	switch d.r.Kind() {
	case msgpack.Int:
		return d.r.Uint64(), true
	case msgpack.String, msgpack.Binary:
		b := d.r.Bytes()
		return msgpack.BigEndian(b), len(b) > 0
	}
	d.r.Skip()
	return 0, false
}

// clampInt makes a negative or huge number 0, unknown.
func clampInt(v uint64) int {
	if v > 1<<30 {
		return 0
	}
	return int(v)
}

// names keeps strings that come again and again, so that they are allocated once.
type names struct{ known map[string]string }

const (
	maxNames = 256
	maxName  = 512 // bytes; longer ones are no names of ours, and are left empty
)

func (n *names) of(b []byte) string {
	if len(b) == 0 || len(b) > maxName {
		return ""
	}
	if s, ok := n.known[string(b)]; ok {
		return s
	}
	if n.known == nil || len(n.known) >= maxNames {
		n.known = map[string]string{} // sessions come and go
	}
	s := string(b)
	n.known[s] = s
	return s
}
