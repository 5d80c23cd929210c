package simulation

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/types"
)

// Sharer tells other gateways what one of them knows, and takes over what they tell: a sharing.Group with one scope
// is one. It is called by one goroutine.
type Sharer interface {
	// Tell calls send for each message that the others are to have. msg is not used after the call.
	Tell(now time.Time, send func(msg []byte))
	// Hear takes over a message. from is the Name of who sent it. It keeps nothing of msg.
	Hear(from string, msg []byte, now time.Time)
}

// Keeper is a Sharer that writes snapshots of what is worth keeping over a restart.
type Keeper interface {
	Sharer
	// AppendSnapshot appends one to dst; nothing, if there is nothing to keep.
	AppendSnapshot(dst []byte, now time.Time) []byte
	// Restore takes over what AppendSnapshot of the gateway before appended. It is called before all else.
	Restore(snapshot []byte, now time.Time) error
}

// Gateway is one gateway of a run, for its Sharer.
type Gateway struct {
	Name string // g0, g1, …; the same after RestartGateway, and the next one after ReplaceGateway
	// Seed is for what it draws: another for each one, and after each restart.
	Seed uint64
	// Every is Config.Sharing.Every.
	Every     time.Duration
	Profile   scheduling.Profile
	Admission *admission.Controller // nil: none
	// Endpoints returns those that discovery knows now, with what was read of them last.
	Endpoints func() []*types.Endpoint
}

// Sharing says how messages come from gateways whose Policy has a Sharer to the others. The zero value tells them
// each 100 ms, 1 ms late, and loses nothing.
type Sharing struct {
	// Every is how often a gateway tells the others, at a phase of its own. Default 100 ms.
	Every time.Duration
	// Delay is how long a message takes. Default 1 ms; negative: no time.
	Delay time.Duration
	// Jitter is the mean of the exponential time by which one takes longer: some overtake others. Default 0.
	Jitter time.Duration
	// Lost is the part of messages, 0 to 1, that do not come to a gateway to which others may come.
	Lost float64
	// Snapshots is how often each gateway writes a snapshot, where a Fault is Warm. Default 1 s.
	Snapshots time.Duration
	// Partitions are times in which some gateways are cut off from others.
	Partitions []Partition
}

// Partition is a time in which gateways hear of those of their own group only.
type Partition struct {
	// At is when it begins, and Until when it ends; 0: never.
	At, Until time.Duration
	// Groups are the numbers of gateways. Those that are in none are one more group.
	Groups [][]int
}

// maxMessage is sharing.MaxMessage.
const maxMessage = 64 << 10

func (c *Sharing) validate(gateways int) error {
	if c.Every < 0 || c.Jitter < 0 || c.Snapshots < 0 || !(c.Lost >= 0 && c.Lost <= 1) {
		return fmt.Errorf("simulation: Sharing has Every %v, Jitter %v, Snapshots %v and Lost %v, want at least 0, and Lost at most 1", c.Every, c.Jitter, c.Snapshots, c.Lost)
	}
	for i, p := range c.Partitions {
		if p.At < 0 || p.Until != 0 && p.Until <= p.At {
			return fmt.Errorf("simulation: Sharing.Partitions[%d] is from %v until %v", i, p.At, p.Until)
		}
		seen := map[int]bool{}
		for _, g := range slices.Concat(p.Groups...) {
			if g < 0 || g >= gateways || seen[g] {
				return fmt.Errorf("simulation: Sharing.Partitions[%d].Groups has gateway %d, want 0 to %d, each once", i, g, gateways-1)
			}
			seen[g] = true
		}
	}
	return nil
}

func (c Sharing) withDefaults() Sharing {
	if c.Every == 0 {
		c.Every = 100 * time.Millisecond
	}
	if c.Snapshots == 0 {
		c.Snapshots = time.Second
	}
	c.Delay = durationOr(c.Delay, time.Millisecond)
	return c
}

// cut reports whether nothing that a says at now comes to b.
func (c *Sharing) cut(a, b int, now time.Duration) bool {
	return slices.ContainsFunc(c.Partitions, func(p Partition) bool {
		return now >= p.At && (p.Until == 0 || now < p.Until) && p.group(a) != p.group(b)
	})
}

// group is that of a gateway; -1: of those that are in none.
func (p *Partition) group(gateway int) int {
	return slices.IndexFunc(p.Groups, func(members []int) bool { return slices.Contains(members, gateway) })
}

// message is on its way to a gateway.
type message struct {
	from string
	data []byte
}

// share makes what tells others of a gateway, and begins to.
func (s *sim) share(g *gateway, profile scheduling.Profile) error {
	sharer := s.cfg.Policy.Sharer
	if sharer == nil {
		return nil
	}
	rand := types.NewRand(derive(derive(derive(s.cfg.Seed, streamSharing), uint64(g.index)), uint64(g.incarnation)))
	var err error
	g.sharer, err = sharer(Gateway{
		Name: g.name(), Seed: rand.Uint64(), Every: s.cfg.Sharing.Every, Profile: profile, Admission: g.admission,
		Endpoints: func() []*types.Endpoint { return slices.Clone(g.eps) },
	})
	if err != nil {
		return fmt.Errorf("simulation: policy %s: %w", s.cfg.Policy.Name, err)
	}
	phase := time.Duration(rand.Float64() * float64(s.cfg.Sharing.Every))
	s.queue.push(event{at: s.now + phase, kind: tellOthers, a: g.incarnation, b: int32(g.index)})
	return nil
}

// tells has a gateway tell the others what it knows, and plans the next time.
func (s *sim) tells(g *gateway, incarnation int32) {
	if g.dead || g.incarnation != incarnation {
		return
	}
	if s.running > 0 || s.now < s.settled || !s.drained() {
		s.queue.push(event{at: s.now + s.cfg.Sharing.Every, kind: tellOthers, a: g.incarnation, b: int32(g.index)})
	}
	s.keep(g)
	g.sharer.Tell(s.time(), func(msg []byte) { s.broadcast(g, msg) })
}

// broadcast sends a message on its way to all other gateways.
func (s *sim) broadcast(g *gateway, msg []byte) {
	if len(msg) == 0 || len(msg) > maxMessage {
		s.err = fmt.Errorf("simulation: gateway %s tells the others %d bytes at once, want 1 to %d", g.name(), len(msg), maxMessage)
		return
	}
	s.stats.sharing.sent(len(msg))
	c := &s.cfg.Sharing
	m := &message{g.name(), slices.Clone(msg)}
	for _, other := range s.gateways {
		if other.index == g.index {
			continue
		}
		if s.lost(g.place, other.place) {
			s.stats.sharing.Lost++
			continue
		}
		late := c.Delay
		if c.Jitter > 0 {
			late += toDuration(-c.Jitter.Seconds() * math.Log(unit(&s.way)))
		}
		s.queue.push(event{at: s.now + late, kind: hearOther, b: int32(other.index), message: m})
	}
}

// lost tells whether a message from one place does not come to another. While all settles, each does.
func (s *sim) lost(from, to int) bool {
	c := &s.cfg.Sharing
	if s.settled > 0 {
		return false
	}
	return c.cut(from, to, s.now) || c.Lost > 0 && s.way.Float64() < c.Lost
}

// heard takes over what another gateway said.
func (g *gateway) heard(m *message) {
	if !g.dead {
		g.sharer.Hear(m.from, m.data, g.s.time())
	}
}

// settleFor is after how long a gateway has no excuse for believing that others have anything under way, if they
// have not, and messages come: longer than those count that died.
const settleFor = 10 * time.Second

// settle has the gateways tell each other that nothing is under way, and checks that they believe it.
func (s *sim) settle() error {
	if s.cfg.Policy.Sharer == nil || s.running > 0 {
		return nil
	}
	end := s.now
	defer func() { s.now = end }()
	s.settled = s.now + settleFor
	for len(s.queue.heap) > 0 && s.err == nil {
		if e := s.queue.pop(); e.kind == tellOthers || e.kind == hearOther {
			s.now = e.at
			s.handle(e)
		}
	}
	if s.err != nil {
		return s.err
	}
	for _, g := range s.gateways {
		for _, ep := range g.eps {
			if b := ep.Load.Peers(); !g.dead && b != (types.Booking{}) {
				return fmt.Errorf("simulation: gateway %s believes at the end that others have %+v at %s, and they have nothing", g.name(), b, ep.ID)
			}
		}
	}
	return nil
}

// sharingStats gathers a SharingReport.
type sharingStats struct{ SharingReport }

func (st *sharingStats) sent(bytes int) {
	st.Messages++
	st.Bytes += bytes
	st.Largest = max(st.Largest, bytes)
}
