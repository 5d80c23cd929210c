package fair

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/heap"
	"github.com/inferpick/inferpick/internal/list"
)

// programOf names one for the fuzzer, or none.
func programOf(how, op byte) string {
	if how&128 == 0 {
		return ""
	}
	return [...]string{"", "a", "b", "c", "d", "e"}[int(op)%6]
}

// checkPrograms looks at all that a tenant has of programs.
func (f *flow) checkPrograms(t *testing.T, c *Config) (named int) {
	queued, running, resting := 0, 0, 0
	for name, one := range f.programs.of {
		require.True(t, one.flow == f && one.name == name)
		n := 0
		for _, l := range one.lines {
			items := inList(t, &l.List, func(it *Item) *list.Node[Item] { return &it.inLine })
			require.Len(t, items, l.n)
			require.NotEmpty(t, items, "a line lives while something waits")
			for i, it := range items {
				require.True(t, it.line == l && it.program == one && it.share == l.share && (i == 0 || items[i-1].Seq < it.Seq))
			}
			require.True(t, slices.Contains(f.shares, l.share))
			n += l.n
		}
		require.Equal(t, one.queued, n)
		require.Equal(t, name != "" && one.queued == 0 && one.running == 0, one.resting, "program %q rests", name)
		queued += n
		running += one.running
		if one.resting {
			resting++
		}
	}
	if f.programs.of != nil {
		require.Equal(t, f.queued, queued)
		require.LessOrEqual(t, running, f.running)
		require.LessOrEqual(t, len(f.programs.of), c.MaxPrograms+1)
		named = len(f.programs.of) - 1
	}
	for _, s := range f.shares {
		if f.programs.of == nil {
			require.Empty(t, s.lines)
		}
		checkHeap(t, s.lines, func(l *line) heap.Item[line] { return l.turn(c) })
		n := 0
		for _, e := range s.lines {
			n += e.Of.n
		}
		require.True(t, f.programs.of == nil || n == s.n, "%d of %d are in lines", n, s.n)
	}
	require.Len(t, inList(t, &f.programs.restful, func(p *program) *list.Node[program] { return &p.links }), resting)
	return named
}

// tasks is a Queues with one place in which all that waits is of one priority.
type tasks struct {
	*Queues
	lane Lane
	now  time.Duration
	late []*Item // let in and not ended
}

func newTasks(how Programs, change func(*Config)) *tasks {
	c := testConfig()
	c.Programs, c.MaxPrograms, c.Credit, c.OutputTokens = how, 100, 0, 0
	c.MaxFlows = 1000
	if change != nil {
		change(&c)
	}
	return &tasks{Queues: New(c)}
}

func (w *tasks) come(tenant, program string, tokens int) *Item {
	it := &Item{Lane: &w.lane, Bytes: 1}
	w.Rank(it)
	w.Assign(it, tenant, program, w.now)
	w.Estimate(it, Amount{Prompt: tokens})
	w.Add(it)
	return it
}

// serve lets in n requests, each of which ends at once, and returns whose they were.
func (w *tasks) serve(t *testing.T, n int) (programs string) {
	for range n {
		it := w.Next(everywhere{}.has)
		if it == nil {
			break
		}
		w.Take(it, w.now)
		w.Start(it)
		programs += it.Program()
		w.End(it, it.Charge, 0, w.now)
		w.check(t)
	}
	return programs
}

// A program that asks for a hundred things at once does not make the others of its tenant wait for all of them.
func TestFanOutDoesNotStarve(t *testing.T) {
	w := newTasks(ShareAlike, nil)
	for range 100 {
		w.come("tenant", "A", 100)
	}
	require.Equal(t, "AA", w.serve(t, 2))
	for range 3 {
		w.come("tenant", "b", 100)
	}
	served := w.serve(t, 8)
	require.Equal(t, 3, count(served, 'b'), "%s: b gets its half but for one in %d", served, oldestEach)
	require.Equal(t, 93, count(w.serve(t, 200), 'A'))
}

// While two programs of a tenant both wait, what they were served differs by no more than the largest request, and what
// the turns of the oldest give.
func TestProgramsShareAlike(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := newTasks(ShareAlike, nil)
		got, most := map[string]float64{}, 0
		for range 300 {
			for _, p := range []string{"a", "b", ""} {
				size := 1 + rnd.IntN(200)
				most = max(most, size)
				w.come("tenant", p, size)
			}
		}
		for i := range 200 {
			it := w.Next(everywhere{}.has)
			w.Take(it, 0)
			w.Start(it)
			got[it.Program()] += it.Charge
			w.End(it, it.Charge, 0, 0)
			least := min(got["a"], got["b"], got[""])
			require.LessOrEqual(t, max(got["a"], got["b"], got[""])-least, float64(3*most), "seed %d, after %d", seed, i)
		}
		w.check(t)
	}
}

// What a program did not ask for while it had nothing to ask is not kept for it.
func TestProgramComesBack(t *testing.T) {
	w := newTasks(ShareAlike, nil)
	w.come("tenant", "b", 100)
	for range 100 {
		w.come("tenant", "A", 100)
	}
	w.serve(t, 40)
	for range 40 {
		w.come("tenant", "b", 100)
	}
	require.GreaterOrEqual(t, count(w.serve(t, 20), 'A'), 9)
}

// Names of programs are the client's own words: one who makes up a new one for each request does not starve who does not.
func TestMadeUpProgramsDoNotStarve(t *testing.T) {
	for _, how := range []Programs{ShareAlike, LeastAttained} {
		w := newTasks(how, nil)
		honest := []*Item{}
		for range 10 {
			honest = append(honest, w.come("tenant", "honest", 100))
		}
		for i := range 60 {
			for range 3 {
				w.come("tenant", fmt.Sprint("new", i, len(w.late)), 100)
			}
			w.serve(t, 2)
		}
		for i, it := range honest {
			require.False(t, it.Waits(), "%d of the honest program waits, by %d", i, how)
		}
	}
}

// What programs a tenant has changes nothing for others: tenants are let in in the same order.
func TestProgramsAreOfTheirTenant(t *testing.T) {
	order := func(named bool) (tenants string) {
		rnd := rand.New(rand.NewPCG(3, 9))
		w := newTasks(ShareAlike, func(c *Config) { c.Credit = 300 })
		for range 400 {
			n, program := rnd.IntN(3), fmt.Sprint(rnd.IntN(4))
			size := [...]int{1000, 1037, 1109}[n] // so that no two tenants are ever equal
			if !named {
				program = ""
			}
			if rnd.IntN(2) == 0 {
				w.come(string(rune('x'+n)), program, size)
			} else if it := w.Next(everywhere{}.has); it != nil {
				w.Take(it, 0)
				w.Start(it)
				tenants += it.Tenant()
				w.End(it, it.Charge, 0, 0)
			}
		}
		w.check(t)
		return tenants
	}
	require.Equal(t, order(false), order(true))
}

// The same name of two tenants is two programs, also where tenants share a flow.
func TestProgramsOfTenantsThatShareAFlow(t *testing.T) {
	w := newTasks(ShareAlike, func(c *Config) { c.Weights = map[string]float64{"declared": 1} })
	for range 4 {
		w.come("x", "p", 100)
	}
	y := w.come("y", "p", 100)
	require.Equal(t, "", y.Tenant())
	require.Equal(t, "p", y.Program())
	w.serve(t, 2)
	require.False(t, y.Waits(), "it is not behind all of x's")
}

// Short programs go before long ones, by what they were served in all.
func TestLeastAttained(t *testing.T) {
	w := newTasks(LeastAttained, nil)
	w.come("tenant", "L", 10*attainedStep)
	w.serve(t, 1)
	for range 8 {
		w.come("tenant", "L", attainedStep)
	}
	for range 3 {
		w.come("tenant", "s", 100)
	}
	require.Equal(t, "sssL", w.serve(t, 4))
	w.come("tenant", "s", 100)
	require.Equal(t, "s", w.serve(t, 1), "it does not lose what it has not been served")
}

// Without programs, or with the same one for all, requests of a tenant go in the order in which they came.
func TestOneProgramIsFirstComeFirstServed(t *testing.T) {
	for _, of := range []func(i int) string{
		func(int) string { return "" }, func(int) string { return "p" },
		func(i int) string { return [...]string{"a", "b"}[i%2] },
	} {
		for _, how := range []Programs{ShareAlike, NoPrograms} {
			w := newTasks(how, nil)
			last := uint64(0)
			for i := range 50 {
				w.come("tenant", of(i), 100)
			}
			for range 50 {
				it := w.Next(everywhere{}.has)
				require.Greater(t, it.Seq, last)
				last = it.Seq
				w.Take(it, 0)
				w.Start(it)
			}
		}
	}
}

// What waits when a tenant names its first program is that of no name.
func TestFirstProgram(t *testing.T) {
	w := newTasks(ShareAlike, nil)
	for range 5 {
		w.come("tenant", "", 100)
	}
	w.check(t)
	late := w.come("tenant", "p", 100)
	w.check(t)
	w.serve(t, 2)
	require.False(t, late.Waits())
}

func TestProgramsAreBounded(t *testing.T) {
	w := newTasks(ShareAlike, func(c *Config) { c.MaxPrograms = 10 })
	flow := w.come("tenant", "", 1).flow
	for i := range 100 { // idle ones make room
		w.now += time.Second
		w.come("tenant", fmt.Sprint("p", i), 100)
		w.serve(t, 2)
		require.LessOrEqual(t, len(flow.programs.of), 11)
	}
	for i := range 30 { // those that wait do not: what is too much is of no name
		it := w.come("tenant", fmt.Sprint("q", i), 100)
		require.LessOrEqual(t, len(flow.programs.of), 11)
		require.Equal(t, i >= 10, it.Program() == "", "%d", i)
	}
	w.check(t)
	w.serve(t, 100)
	w.now += time.Hour
	for i := range 10 {
		w.come("tenant", fmt.Sprint("r", i), 100)
	}
	require.LessOrEqual(t, len(flow.programs.of), 11)
	other := newTasks(ShareAlike, func(c *Config) { c.MaxFlows = 20 })
	for i := range 100 {
		other.come(fmt.Sprint("t", i%3), fmt.Sprint("p", i), 100)
	}
	other.check(t)
	require.Equal(t, 20, other.bands[0].programs)
}

// In a full queue the program with the most in it loses its last request to another of the same tenant.
func TestFullQueueByProgram(t *testing.T) {
	w := newTasks(ShareAlike, func(c *Config) { c.MaxRequests = 10 })
	var big []*Item
	for range 10 {
		big = append(big, w.come("tenant", "A", 100))
	}
	it := &Item{Lane: &w.lane, Bytes: 1}
	w.Rank(it)
	w.Assign(it, "tenant", "b", 0)
	victim, why, full := w.Victim(it)
	require.Same(t, big[9], victim)
	require.Empty(t, full)
	require.Contains(t, why, "program")
	w.Drop(it, 0)
	w.Assign(it, "tenant", "A", 0)
	victim, _, full = w.Victim(it)
	require.Nil(t, victim)
	require.NotEmpty(t, full)
}

// Why it waits is said by program.
func TestAheadByProgram(t *testing.T) {
	w := newTasks(ShareAlike, nil)
	for range 20 {
		w.come("tenant", "A", 100)
	}
	w.serve(t, 4)
	w.come("tenant", "b", 100)
	b := w.come("tenant", "b", 100)
	a := w.Ahead(b)
	require.Equal(t, 1, a.OwnProgram)
	require.Less(t, a.OwnTenant, 5)
	require.GreaterOrEqual(t, a.OwnTenant, 1)
	require.Equal(t, a.LeastProgram, b.program.counter)
}

func count(s string, of rune) (n int) {
	for _, c := range s {
		if c == of {
			n++
		}
	}
	return n
}
