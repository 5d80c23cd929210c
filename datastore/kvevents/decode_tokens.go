package kvevents

import "github.com/inferpick/inferpick/internal/msgpack"

// maxTokens bounds the token ids of one batch: those of further events are left out. A step of an
// engine computes some ten thousand.
const maxTokens = 1 << 22

// readTokens reads the token ids of an event. Where they are no integers, as where each is a pair, there
// are none.
func (d *decoder) readTokens() {
	n := d.r.Array()
	if n > maxTokens-len(d.tokens) {
		d.r.SkipN(n)
		return
	}
	from := len(d.tokens)
	for i := range n {
		if d.r.Kind() != msgpack.Int {
			d.tokens = d.tokens[:from]
			d.r.SkipN(n - i)
			return
		}
		d.tokens = append(d.tokens, uint32(d.r.Uint64()))
	}
}

// readKeys reads what the hash of each block depends on beside tokens: the adapter, in the first block
// of a prompt its salt, and what is not known here, such as images, from which on no tokens are told.
func (d *decoder) readKeys(e *reading) {
	blocks := d.r.Array()
	for i := range blocks {
		if d.r.Kind() != msgpack.Array {
			d.r.Skip() // nil: nothing
			continue
		}
		for range d.r.Array() {
			key := ""
			if d.r.Kind() == msgpack.String {
				key = d.names.of(d.r.Bytes())
			} else {
				d.r.Skip()
			}
			switch {
			case key != "" && key == e.Adapter:
			case key != "" && i == 0 && !e.HasParent && e.Salt == "":
				e.Salt = key
			case !e.foreign:
				e.foreign, e.pure = true, i
			}
		}
	}
}

// ofTokens returns which token ids are those of the event, of those that were read since from. They
// count only if they are just those of its blocks.
func (d *decoder) ofTokens(e *reading, blocks, from int) span {
	all := span{from, len(d.tokens)}
	switch {
	case e.Kind != Stored || all.to-all.from != blocks*e.BlockSize:
		all.to = from
	case e.foreign:
		all.to = from + min(e.pure*e.BlockSize, all.to-all.from)
	}
	return all
}
