package kvevents

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/inferpick/inferpick/internal/msgpack"
)

// polledEvent is an event as TensorRT-LLM has it.
type polledEvent struct {
	ID     uint64 `json:"event_id"`
	Window int    `json:"window_size"`
	Rank   int    `json:"attention_dp_rank"`
	Data   struct {
		Type   string        `json:"type"`
		Parent *jsonHash     `json:"parent_hash"`
		Hashes []jsonHash    `json:"block_hashes"`
		Blocks []polledBlock `json:"blocks"`
		Hash   jsonHash      `json:"block_hash"`
		Level  *struct {
			Old int `json:"old_value"`
			New int `json:"new_value"`
		} `json:"cache_level"`
	} `json:"data"`
}

type polledBlock struct {
	Hash   jsonHash `json:"block_hash"`
	Tokens elements `json:"tokens"`
	Level  int      `json:"cache_level"`
}

// appendTo appends what e means to a batch.
func (e *polledEvent) appendTo(batch []Event) []Event {
	switch d := &e.Data; d.Type {
	case "stored":
		before := d.Parent
		for i := range d.Blocks {
			b := &d.Blocks[i]
			ev := Event{Kind: Stored, Full: true, Tier: levelTier(b.Level), BlockSize: int(b.Tokens), Hashes: []uint64{uint64(b.Hash)}}
			if before != nil {
				ev.Parent, ev.HasParent = uint64(*before), true
			}
			before = &b.Hash
			if i > 0 {
				if last := &batch[len(batch)-1]; last.Tier == ev.Tier && last.BlockSize == ev.BlockSize {
					last.Hashes = append(last.Hashes, ev.Hashes...)
					continue
				}
			}
			batch = append(batch, ev)
		}
	case "removed":
		// A block that is removed has left the last tier it was in, whichever that was.
		var hashes []uint64
		for _, h := range d.Hashes {
			hashes = append(hashes, uint64(h))
		}
		for _, tier := range []Tier{GPU, CPU} {
			batch = append(batch, Event{Kind: Removed, Full: true, Tier: tier, Hashes: hashes})
		}
	case "updated":
		if d.Level != nil && d.Level.Old != d.Level.New {
			hashes := []uint64{uint64(d.Hash)}
			batch = append(batch,
				Event{Kind: Stored, Full: true, Tier: levelTier(d.Level.New), Hashes: hashes},
				Event{Kind: Removed, Full: true, Tier: levelTier(d.Level.Old), Hashes: hashes})
		}
	case "created": // the cache, empty
		batch = append(batch, Event{Kind: Cleared, Full: true})
	}
	return batch
}

func levelTier(level int) Tier {
	if level == 0 {
		return GPU
	}
	return CPU
}

// jsonHash is a hash in JSON: a number, with or without a sign, or a string.
type jsonHash uint64

// UnmarshalJSON implements json.Unmarshaler.
func (h *jsonHash) UnmarshalJSON(b []byte) error {
	text := string(bytes.Trim(b, `"`))
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		*h = jsonHash(u)
		return nil
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil {
		*h = jsonHash(i)
		return nil
	}
	if b[0] != '"' {
		return fmt.Errorf("%.40q is no hash of a block, want an integer or a string", b)
	}
	*h = jsonHash(msgpack.BigEndian([]byte(text)))
	return nil
}

// elements is the number of elements of an array, whatever they are.
type elements int

// UnmarshalJSON implements json.Unmarshaler.
func (n *elements) UnmarshalJSON(b []byte) error {
	var all []json.RawMessage
	err := json.Unmarshal(b, &all)
	*n = elements(len(all))
	return err
}
