package fair

import (
	"math"
	"math/bits"
	"strings"
	"time"

	"github.com/inferpick/inferpick/internal/heap"
	"github.com/inferpick/inferpick/internal/list"
)

// This file is the second level of the order. A tenant's requests may belong to programs: an agent's task, of which a
// hundred requests may come at once. Programs share what their tenant gets: the one that was served the least is next.
// Programs are only of their tenant, and what they do changes nothing for others. Their names are the client's own words,
// so that one who makes up a new name for each request must not starve the rest: of a tenant's requests in a queue one in
// oldestEach is the one that waits the longest, whatever its program.
//
// Until a tenant names a program none of this is there: its requests are one list, in order of arrival. Those that name
// none are one program, by the empty name.

// oldestEach is how often it is the turn of the request that waits the longest.
const oldestEach = 4

// Programs says how the programs of a tenant share.
type Programs uint8

// How programs share.
const (
	ShareAlike    Programs = iota // by what they were served while there were others that waited
	LeastAttained                 // by what they were served in all, in steps that double: short ones before long ones
	NoPrograms                    // not at all
)

// program is what a tenant has under way for one task, at one priority.
type program struct {
	flow    *flow
	name    string
	counter float64 // weighted tokens that it was served
	queued  int
	running int

	lines []*line // one for each queue in which something of it waits

	// In flow.restful while nothing is under way.
	links     list.Node[program]
	resting   bool
	idleSince time.Duration
}

// line is a program's part of a share, in order of arrival. It lives while something waits in it.
type line struct {
	program *program
	share   *share
	list.List[Item]
	n     int
	index int // in share.lines
}

// flowPrograms is what a tenant has that names programs.
type flowPrograms struct {
	of      map[string]*program // with the one of the empty name; nil: none was ever named
	restful list.List[program]  // the longest idle first
	begun   float64             // the counter of the program that was let in last: a new one starts from there
}

// Program returns the name of the program that the item counts for; empty: none, or that of those that are too many.
func (it *Item) Program() string {
	if it.program == nil {
		return ""
	}
	name, _, _ := strings.Cut(it.program.name, "\x00")
	return name
}

// ProgramCounter returns the weighted tokens that the item's program was served, 0 if it has none.
func (it *Item) ProgramCounter() float64 {
	if it.program == nil {
		return 0
	}
	return it.program.counter
}

// programOf returns the tenant's program of that name, nil while the tenant has named none. Those that are too many
// share that of no name.
func (f *flow) programOf(name string, c *Config, now time.Duration) *program {
	p := &f.programs
	if c.Programs == NoPrograms || p.of == nil && name == "" {
		return nil
	}
	if p.of == nil {
		p.of = map[string]*program{}
		f.enlist(p.add(f, ""), c)
	}
	one := p.of[name]
	if one == nil {
		p.forget(f.band, now, c, false)
		if full := len(p.of) > c.MaxPrograms || f.band.programs >= c.MaxFlows; full && !p.forget(f.band, now, c, true) {
			return p.of[""]
		}
		one = p.add(f, name)
	}
	return one
}

func (p *flowPrograms) add(f *flow, name string) *program {
	one := &program{flow: f, name: strings.Clone(name)}
	p.of[one.name] = one
	if name != "" {
		f.band.programs++
	}
	return one
}

// enlist makes what waits of a tenant that has just named its first program one of no name.
func (f *flow) enlist(none *program, c *Config) {
	for _, s := range f.shares {
		for n := s.Head; n != nil; n = n.Next {
			n.Of.program = none
			s.enter(n.Of, c)
		}
	}
}

// forget drops the program that has been idle the longest, as Band.forget does tenants.
func (p *flowPrograms) forget(b *Band, now time.Duration, c *Config, must bool) bool {
	forgot := false
	for range 2 {
		if p.restful.Head == nil {
			break
		}
		one := p.restful.Head.Of
		if !must && (one.counter > p.begun || c.Programs == LeastAttained) && now-one.idleSince < c.FlowIdle {
			break
		}
		p.wake(one)
		delete(p.of, one.name)
		b.programs--
		forgot, must = true, false
	}
	return forgot
}

func (p *flowPrograms) wake(one *program) {
	if one.resting {
		p.restful.Remove(&one.links)
		one.resting = false
	}
}

// rest puts a program with nothing under way among the idle ones.
func (one *program) rest(now time.Duration) {
	p := &one.flow.programs
	if one.queued == 0 && one.running == 0 && !one.resting && one.name != "" && p.of[one.name] == one {
		one.resting, one.idleSince = true, now
		p.restful.Push(one, &one.links)
	}
}

// lift takes from a program that comes back what it would have had while it was away.
func (one *program) lift(c *Config) {
	if one.queued > 0 || c.Programs == LeastAttained {
		return
	}
	base, some := one.flow.programs.begun, false
	for _, s := range one.flow.shares {
		if len(s.lines) > 0 {
			if first := s.lines[0].Of.program.counter; !some || first < base {
				base, some = first, true
			}
		}
	}
	one.counter = max(one.counter, base)
}

// start charges a program whose request is let in.
func (one *program) start(tokens float64, c *Config) {
	p := &one.flow.programs
	p.wake(one)
	one.running++
	p.begun = max(p.begun, one.counter)
	one.spend(tokens, c)
}

// end puts right what a program was charged.
func (one *program) end(correction float64, c *Config, now time.Duration) {
	one.running--
	one.spend(correction, c)
	one.rest(now)
}

func (one *program) spend(tokens float64, c *Config) {
	one.counter += tokens
	for _, l := range one.lines {
		l.share.lines.Fix(l.index, l.turn(c))
	}
}

// turn is the line's place in the order of its share.
func (l *line) turn(c *Config) heap.Item[line] {
	key := heap.Ordered(l.program.counter)
	if c.Programs == LeastAttained {
		key = int64(bits.Len64(uint64(min(max(l.program.counter, 0), math.MaxInt32)) / attainedStep))
	}
	return heap.Item[line]{Key: key, Seq: l.Head.Of.Seq, At: &l.index, Of: l}
}

// attainedStep is how many weighted tokens programs may have been served and count as new.
const attainedStep = 4096

// enter puts an item of a program into its line.
func (s *share) enter(it *Item, c *Config) {
	one := it.program
	var l *line
	for _, other := range one.lines {
		if other.share == s {
			l = other
		}
	}
	if l == nil {
		l = &line{program: one, share: s, index: -1}
		one.lines = append(one.lines, l)
	}
	one.flow.programs.wake(one)
	inOrder(&l.List, it, &it.inLine)
	it.line = l
	l.n++
	one.queued++
	if l.index < 0 {
		s.lines.Push(l.turn(c))
	} else {
		s.lines.Fix(l.index, l.turn(c))
	}
}

// leave takes an item out of its line.
func (s *share) leave(it *Item, c *Config) {
	l, one := it.line, it.program
	it.line = nil
	l.List.Remove(&it.inLine)
	l.n--
	one.queued--
	if l.n > 0 {
		s.lines.Fix(l.index, l.turn(c))
		return
	}
	s.lines.Remove(l.index)
	for i, other := range one.lines {
		if other == l {
			last := len(one.lines) - 1
			one.lines[i], one.lines[last] = one.lines[last], nil
			one.lines = one.lines[:last]
			break
		}
	}
}

// byProgram returns the request whose turn it is by programs.
func (s *share) byProgram() *Item {
	if s.sinceOldest >= oldestEach-1 {
		return s.Head.Of
	}
	return s.lines[0].Of.Head.Of
}

// hog returns the request that came last of the program that has the most in a tenant's queues, and how many that are.
func (f *flow) hog() (newest *Item, queued int) {
	var most *program
	for _, one := range f.programs.of {
		if one.queued > 0 && (most == nil || one.queued > most.queued || one.queued == most.queued && one.name < most.name) {
			most = one
		}
	}
	if most == nil {
		return nil, 0
	}
	for _, l := range most.lines {
		if newest == nil || l.Tail.Of.Seq > newest.Seq {
			newest = l.Tail.Of
		}
	}
	return newest, most.queued
}

// before counts which of a tenant's own requests are before one of a program: as Queues.Ahead does for tenants.
func (one *program) before(it *Item, a *Ahead) {
	for _, l := range one.lines {
		for n := l.Head; n != nil && n.Of != it; n = n.Next {
			a.OwnProgram++
		}
	}
	each := max(it.Charge, 1)
	turn := one.counter + float64(a.OwnProgram)*each
	a.OwnTenant, a.LeastProgram = a.OwnProgram, one.counter
	for _, s := range one.flow.shares {
		for _, e := range s.lines {
			other := e.Of.program
			a.LeastProgram = min(a.LeastProgram, other.counter)
			if n := (turn - other.counter) / each; other != one && n >= 0 {
				a.OwnTenant += min(e.Of.n, int(min(n, 1e9))+1)
			}
		}
	}
}
