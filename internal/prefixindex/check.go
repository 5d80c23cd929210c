package prefixindex

import "fmt"

// Check walks the whole index and returns the first contradiction it finds, nil
// if there is none. It is for tests: it takes time and memory in proportion to the
// index and stops changes meanwhile.
func (x *Index) Check() error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, step := range []func() error{
		x.checkTable, x.checkNodes, x.checkEndpoints, x.checkStale, x.checkBytes,
	} {
		if err := step(); err != nil {
			return fmt.Errorf("prefixindex: check: %w", err)
		}
	}
	return nil
}

func (x *Index) checkTable() error {
	n := 0
	for i := range x.table.parts {
		part := &x.table.parts[i]
		in := 0
		for _, s := range part.slots {
			if s.node != 0 {
				in++
			}
		}
		if in != part.n {
			return fmt.Errorf("table part %d counts %d nodes and has %d", i, part.n, in)
		}
		n += in
	}
	if n != x.table.n || n != x.nodes.Len() {
		return fmt.Errorf("table counts %d nodes and has %d, and there are %d", x.table.n, n, x.nodes.Len())
	}
	return x.nodes.Each(func(id uint32, n *node) error {
		if len(n.run) == 0 {
			return fmt.Errorf("node %d has no blocks", id)
		}
		if got := x.lookup(n.run[0], n.parent); got != id {
			return fmt.Errorf("node %d is found as %d", id, got)
		}
		return nil
	})
}

func (x *Index) checkNodes() error {
	type kids struct{ n, xor uint32 }
	children := map[uint32]kids{}
	blocks, count, loose := 0, 0, int64(0)
	err := x.nodes.Each(func(id uint32, n *node) error {
		count++
		blocks += len(n.run)
		loose += runBytes(n.run) + holderBytes(n.holders)
		if n.parent != 0 {
			k := children[n.parent]
			children[n.parent] = kids{k.n + 1, k.xor ^ id}
		}
		if len(n.holders) == 0 {
			return fmt.Errorf("node %d has no holder", id)
		}
		full := uint32(0)
		for i, h := range n.holders {
			if i > 0 && n.holders[i-1].slot >= h.slot {
				return fmt.Errorf("node %d: holders out of order at slot %d", id, h.slot)
			}
			if h.held == 0 || int(h.held) > len(n.run) {
				return fmt.Errorf("node %d: slot %d holds %d of %d blocks", id, h.slot, h.held, len(n.run))
			}
			if int(h.held) == len(n.run) {
				full++
			}
			if en := x.entries.At(h.entry); en.node != id {
				return fmt.Errorf("node %d: entry %d of slot %d is for node %d", id, h.entry, h.slot, en.node)
			}
			if n.parent == 0 {
				continue
			}
			p := x.nodes.At(n.parent)
			if j, ok := p.find(h.slot); !ok || int(p.holders[j].held) != len(p.run) {
				return fmt.Errorf("node %d: slot %d does not hold all of the parent %d", id, h.slot, n.parent)
			}
		}
		if full == 0 || full != n.full {
			return fmt.Errorf("node %d counts %d full holders and has %d", id, n.full, full)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = x.nodes.Each(func(id uint32, n *node) error {
		if k := children[id]; k.n != n.children || k.xor != n.childXor {
			return fmt.Errorf("node %d counts %d children (xor %d) and has %d (xor %d)",
				id, n.children, n.childXor, k.n, k.xor)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if count != x.nodes.Len() || blocks != x.blocks || loose != x.loose {
		return fmt.Errorf("%d nodes, %d blocks, %d bytes counted as %d, %d, %d",
			count, blocks, loose, x.nodes.Len(), x.blocks, x.loose)
	}
	return nil
}

func (x *Index) checkEndpoints() error {
	held, entries := 0, 0
	for slot := range x.eps {
		ep := &x.eps[slot]
		if !ep.live && ep.head != 0 {
			return fmt.Errorf("slot %d was removed and has entries", slot)
		}
		place := map[uint32]int{} // of the entry for a node
		used, prev, tick := 0, uint32(0), ^uint64(0)
		for id := ep.head; id != 0; {
			en := x.entries.At(id)
			if en.prev != prev || en.tick > tick || en.mark {
				return fmt.Errorf("slot %d: entry %d is linked to %d after %d, tick %d after %d, mark %t",
					slot, id, en.prev, prev, en.tick, tick, en.mark)
			}
			n := x.nodes.At(en.node)
			i, ok := n.find(uint32(slot))
			if !ok || n.holders[i].entry != id {
				return fmt.Errorf("slot %d: entry %d is not that of node %d", slot, id, en.node)
			}
			if n.parent != 0 {
				if _, ok := place[n.parent]; !ok {
					return fmt.Errorf("slot %d: node %d is more recent than its parent %d", slot, en.node, n.parent)
				}
			}
			place[en.node] = len(place)
			used += int(n.holders[i].held)
			prev, tick, id = id, en.tick, en.next
		}
		if prev != ep.tail {
			return fmt.Errorf("slot %d: list ends at %d, not %d", slot, prev, ep.tail)
		}
		if used != ep.used || ep.live && used > ep.capacity() {
			return fmt.Errorf("slot %d holds %d blocks, counted as %d, of %d", slot, used, ep.used, ep.capacity())
		}
		held += used
		entries += len(place)
	}
	if held != x.held || entries != x.entries.Len() {
		return fmt.Errorf("%d blocks held by %d entries counted as %d by %d", held, entries, x.held, x.entries.Len())
	}
	return nil
}

func (x *Index) checkStale() error {
	in := map[uint32]uint64{}
	for i, it := range x.stale.heap {
		if up := (i - 1) / 2; i > 0 && x.stale.heap[up].tick > it.tick {
			return fmt.Errorf("heap of stale endpoints out of order at %d", i)
		}
		if _, ok := in[it.slot]; ok {
			return fmt.Errorf("slot %d is twice in the heap of stale endpoints", it.slot)
		}
		in[it.slot] = it.tick
	}
	for slot := range x.eps {
		ep := &x.eps[slot]
		bound, ok := in[uint32(slot)]
		if ok != ep.inHeap {
			return fmt.Errorf("slot %d: in the heap of stale endpoints is %t, said to be %t", slot, ok, ep.inHeap)
		}
		if ep.tail == 0 {
			continue
		}
		if tick := x.entries.At(ep.tail).tick; !ok || bound > tick {
			return fmt.Errorf("slot %d: heap has %d (%t) for tick %d", slot, bound, ok, tick)
		}
	}
	return nil
}

func (x *Index) checkBytes() error {
	if err := x.nodes.Check(); err != nil {
		return err
	}
	if err := x.entries.Check(); err != nil {
		return err
	}
	if b := x.bytes(); b > x.opts.MaxBytes && x.entries.Len() > 0 {
		return fmt.Errorf("%d bytes are more than the %d allowed", b, x.opts.MaxBytes)
	}
	return nil
}
