package plugins

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/internal/figures"
)

// This file is Cost as a sharing.SnapshotPart: what it has learned, of its fleet and of each endpoint, and what its
// PrefixCache keeps. Requests in flight, and what readings say, are not kept: they are others by then.
//
// The form of a snapshot: the options by which figures mean the same; what was learned of the fleet; the endpoints,
// each with its ID; lengths of answers; what prompts begin with; and the snapshot of the PrefixCache.

// before is which parts of the requests at the servers others had sent when a snapshot was made that was restored, and
// those that nobody told of. For a while they are taken to have sent no more: what seems to be theirs is of the gateway
// before this one, which put it where this one would.
type before struct{ others, strangers, until cost.Float }

// most is such a part as it seems now, and at most as it was.
func (b *before) most(part float64, was *cost.Float, now cost.Seconds) float64 {
	if float64(now) >= b.until.Load() {
		return part
	}
	return min(part, was.Load())
}

// costKept is what was kept.
type costKept struct {
	others, strangers float64

	rates   cost.Rates
	learner *cost.Learner
	context cost.Tokens
	reuse   float64
	hops    *cost.Hops
	prices  *cost.TierPrices
	servers map[string]*cost.Kept
	outputs *cost.Outputs
	usual   *cost.Usual
	heads   *cost.Heads
	prefix  []keptServer
}

// SnapshotName implements sharing.SnapshotPart.
func (c *Cost) SnapshotName() string { return "cost/2" }

// AppendSnapshot implements sharing.SnapshotPart.
func (c *Cost) AppendSnapshot(dst []byte, room int, at time.Time) []byte {
	now := c.seconds(at)
	c.dropKept(now)
	w := keptWriter{dst, len(dst) + room}
	if !w.try(c.appendFleet(nil, now)) {
		return dst
	}
	w.each(c.appendServers(now))
	if !w.try(c.outputs.Append(nil)) {
		w.b = new(cost.Outputs).Append(w.b)
	}
	if !w.try(c.usual.Append(nil)) {
		w.b = new(cost.Usual).Append(w.b)
	}
	if !w.try(c.appendHeads()) {
		w.b = new(cost.Heads).Append(w.b)
	}
	return c.prefix.AppendSnapshot(w.b, w.end-len(w.b), at)
}

// keptWriter writes parts of a snapshot for which there is room.
type keptWriter struct {
	b   []byte
	end int
}

// keptSpare is more than a count, outputs and heads take if nothing is known of them.
const keptSpare = 128

// try appends what fits, with something to spare.
func (w *keptWriter) try(part []byte) bool {
	if len(w.b)+len(part)+keptSpare > w.end {
		return false
	}
	w.b = append(w.b, part...)
	return true
}

// each appends the number of those parts that fit, and these.
func (w *keptWriter) each(parts [][]byte) {
	at := len(w.b)
	w.b = append(w.b, 0, 0, 0, 0)
	n := uint32(0)
	for _, part := range parts {
		if w.try(part) {
			n++
		}
	}
	binary.BigEndian.PutUint32(w.b[at:], n)
}

// fit returns the options by which figures mean the same.
func (o *CostOptions) fit() (names []string, values []float64) {
	fixed := 0.
	if o.FixedRates {
		fixed = 1
	}
	e := &o.Engine
	return []string{"engine.step", "engine.sequence", "engine.context", "engine.token", "engine.attention", "engine.batch",
			"engine.encodeItem", "engine.encodeToken", "engine.encodeAttention", "engine.denoiseToken", "engine.denoiseAttention", "engine.pixel", "transport", "transfer.setup", "transfer.token", "fixedRates"},
		[]float64{e.Step, e.Sequence, e.Context, e.Token, e.Attention, e.Batch,
			e.EncodeItem, e.EncodeToken, e.EncodeAttention, e.DenoiseToken, e.DenoiseAttention, e.Pixel, o.Transport, o.Transfer.Setup, o.Transfer.Token, fixed}
}

// appendFleet appends the options, and what is believed of the fleet.
func (c *Cost) appendFleet(dst []byte, now cost.Seconds) []byte {
	_, values := c.o.fit()
	for _, v := range values {
		dst = figures.AppendFloat(dst, v)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.o.Links)))
	for _, link := range c.o.Links {
		dst = figures.AppendString(dst, link)
	}
	others, strangers := c.others(now), c.strangers(now)
	if float64(now) < c.before.until.Load() { // what they seem to be is not to be trusted yet
		others, strangers = c.before.others.Load(), c.before.strangers.Load()
	}
	dst = figures.AppendFloat(dst, others)
	dst = figures.AppendFloat(dst, strangers)
	dst = c.rates.Load().Append(dst)
	c.learning.Lock()
	dst = c.learner.Append(dst)
	c.learning.Unlock()
	dst = figures.AppendFloat(dst, c.context.Load())
	dst = figures.AppendFloat(dst, c.reuse.Load())
	c.handing.Lock()
	dst = c.hops.Append(dst)
	c.handing.Unlock()
	return c.prefix.lanes.prices.Append(dst)
}

// appendServers returns what is to be kept of each endpoint.
func (c *Cost) appendServers(now cost.Seconds) (parts [][]byte) {
	add := func(id string, k cost.Kept) {
		if len(id) <= mostKeptID && len(parts) < mostKept {
			parts = append(parts, k.Append(figures.AppendString(nil, id), now))
		}
	}
	for _, cell := range c.table.all() {
		if cell == nil {
			continue
		}
		s := cell.server
		s.mu.Lock()
		ep, k := s.reading, s.Keep()
		s.mu.Unlock()
		if ep != nil {
			add(ep.ID, k)
		}
	}
	c.table.mu.RLock()
	defer c.table.mu.RUnlock()
	for id, k := range c.kept {
		add(id, *k)
	}
	return parts
}

func (c *Cost) appendHeads() []byte {
	c.crowding.Lock()
	defer c.crowding.Unlock()
	return c.heads.Append(nil)
}

// Restore implements sharing.SnapshotPart. It may be called beside decisions, of which the first ones see what they
// saw before, but not twice at the same time.
func (c *Cost) Restore(snapshot []byte, age time.Duration, at time.Time) error {
	now := c.seconds(at)
	r := figures.NewReader(snapshot)
	k := c.readSnapshot(r, now-cost.Seconds(age.Seconds()))
	if err := r.End(); err != nil {
		return err
	}
	c.takeTables(&k, now)
	c.takeLearner(&k, now)
	c.prefix.restore(k.prefix, age, at)
	return nil
}

// readSnapshot reads what AppendSnapshot wrote at a time that was then by this process's clock.
func (c *Cost) readSnapshot(r *figures.Reader, then cost.Seconds) (k costKept) {
	c.readFit(r)
	k.others = r.Float("part of the requests of others", 0, 1)
	k.strangers = r.Float("part of the requests of strangers", 0, 1)
	k.rates = cost.ReadRates(r)
	k.learner = cost.ReadLearner(r, c.firstRates())
	k.context = cost.ReadContext(r)
	k.reuse = r.Float("part of prompts that was cached", 0, 1)
	k.hops = cost.ReadHops(r, len(c.o.Links)+1)
	k.prices = cost.ReadTierPrices(r)
	k.servers = map[string]*cost.Kept{}
	n := r.Uint32()
	if n > mostKept {
		r.Failf("has %d endpoints, want at most %d", n, mostKept)
	}
	for range min(n, mostKept) {
		if r.Err() != nil {
			return k
		}
		id := r.String("ID of an endpoint", mostKeptID)
		server := cost.ReadKept(r, then)
		k.servers[id] = &server
	}
	k.outputs = cost.ReadOutputs(r)
	k.usual = cost.ReadUsual(r)
	k.heads = cost.ReadHeads(r)
	if r.More() {
		k.prefix = c.prefix.readSnapshot(r)
	}
	return k
}

// readFit fails if figures mean something else here.
func (c *Cost) readFit(r *figures.Reader) {
	names, values := c.o.fit()
	for i, name := range names {
		if v := r.Float(name, 0, math.MaxFloat64); v != values[i] {
			r.Failf("was made with %s %g, here it is %g", name, v, values[i])
		}
	}
	links := make([]string, r.Count("number of links", mostLinks))
	for i := range links {
		links[i] = r.String("link", 1<<10)
	}
	if !slices.Equal(links, c.o.Links) {
		r.Failf("was made with links %q, here they are %q", links, c.o.Links)
	}
}

// takeTables takes over what was kept but for how fast the fleet is. What was learned meanwhile is forgotten.
func (c *Cost) takeTables(k *costKept, now cost.Seconds) {
	c.before.others.Store(k.others)
	c.before.strangers.Store(k.strangers)
	c.before.until.Store(float64(now) + metWithin.Seconds())
	c.crowding.Lock()
	c.heads = *k.heads
	c.crowding.Unlock()
	c.outputs.Take(k.outputs)
	c.usual.Take(k.usual)
	c.prefix.lanes.prices.Take(k.prices)
	c.handing.Lock()
	c.hops = k.hops
	c.publishHops()
	c.handing.Unlock()
	c.context.Store(float64(k.context))
	c.reuse.Store(k.reuse)
}

// takeLearner takes over what was kept of the fleet and its endpoints. What was learned meanwhile of the fleet is
// forgotten, and of endpoints that were kept.
func (c *Cost) takeLearner(k *costKept, now cost.Seconds) {
	c.exchangeLearner(k.learner, k.servers, now)
	c.renewAll(k.rates, now)
}

func (c *Cost) exchangeLearner(learner *cost.Learner, servers map[string]*cost.Kept, now cost.Seconds) {
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	// All at once: what servers have in common would be wrong if one learned meanwhile.
	for _, cell := range c.table.all() {
		if cell != nil {
			cell.server.mu.Lock()
			defer cell.server.mu.Unlock()
		}
	}
	c.learning.Lock()
	defer c.learning.Unlock()
	c.learner = learner
	for _, k := range servers {
		learner.Expect(k)
	}
	c.kept = servers
	c.keptUntil.Store(float64(now) + metWithin.Seconds()) // who does not come by then has gone
	for _, cell := range c.table.all() {
		if cell == nil {
			continue
		}
		s := cell.server
		if s.reading != nil && c.resumes(s.reading.ID, s.Server) {
			continue
		}
		own := s.Keep()
		learner.Expect(&own)
	}
	c.publishLearned()
}

// resumes has an endpoint go on with what was kept of it, if there is something that fits. Caller must hold c.table.mu
// and c.learning.
func (c *Cost) resumes(id string, s *cost.Server) bool {
	k := c.kept[id]
	if k == nil {
		return false
	}
	delete(c.kept, id)
	if !s.Resume(k) {
		c.learner.Dismiss(k)
		return false
	}
	return true
}

// resume is resumes for an endpoint that is new. Caller must hold c.table.mu.
func (c *Cost) resume(id string, s *cost.Server) {
	if len(c.kept) == 0 {
		return
	}
	c.learning.Lock()
	defer c.learning.Unlock()
	c.resumes(id, s)
	c.publishLearned()
}

// dropKept forgets endpoints that were kept and have not come.
func (c *Cost) dropKept(now cost.Seconds) {
	if float64(now) < c.keptUntil.Load() {
		return
	}
	c.table.mu.Lock()
	defer c.table.mu.Unlock()
	c.keptUntil.Store(math.Inf(1))
	if len(c.kept) == 0 {
		return
	}
	c.learning.Lock()
	defer c.learning.Unlock()
	for _, k := range c.kept {
		c.learner.Dismiss(k)
	}
	c.kept = nil
	c.publishLearned()
}

// RestoreFromPeer implements sharing.PeerSnapshotPart. Where this process knows its fleet by now it goes on with that.
func (c *Cost) RestoreFromPeer(snapshot []byte, id func(string) string, at time.Time) error {
	now := c.seconds(at)
	r := figures.NewReader(snapshot)
	k := c.readSnapshot(r, now)
	if err := r.End(); err != nil {
		return err
	}
	c.takeTables(&k, now)
	c.learning.Lock()
	knows := c.learner.Knows()
	c.learning.Unlock()
	if !knows {
		servers := make(map[string]*cost.Kept, len(k.servers))
		for peers, server := range k.servers {
			servers[id(peers)] = server
		}
		k.servers = servers
		c.takeLearner(&k, now)
	}
	c.prefix.restore(renamed(k.prefix, id), 0, at)
	return nil
}
