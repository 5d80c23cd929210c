package lease

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// memory is an API server with one Lease, in virtual time.
type memory struct {
	mu      sync.Mutex
	record  record
	version int
	writes  int
}

func (m *memory) read(context.Context) (record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record, nil
}

func (m *memory) write(_ context.Context, r record) (record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.version != m.record.version {
		return record{}, errConflict
	}
	m.version++
	m.writes++
	r.version = strconv.Itoa(m.version)
	m.record = r
	return r, nil
}

// link is what one process has of the API server: it may be away, slow, or lose answers.
type link struct {
	*memory
	mu    sync.Mutex
	fault func(ctx context.Context, answer func() error) error
}

func (l *link) through(ctx context.Context, do func() error) error {
	l.mu.Lock()
	fault := l.fault
	l.mu.Unlock()
	if fault == nil {
		return do()
	}
	return fault(ctx, do)
}

func (l *link) set(fault func(context.Context, func() error) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

func (l *link) read(ctx context.Context) (r record, err error) {
	err = l.through(ctx, func() (err error) { r, err = l.memory.read(ctx); return err })
	return r, err
}

func (l *link) write(ctx context.Context, w record) (r record, err error) {
	err = l.through(ctx, func() (err error) { r, err = l.memory.write(ctx, w); return err })
	return r, err
}

// Faults.
var errAway = errors.New("the server is away")

func away(context.Context, func() error) error { return errAway }

func hangs(ctx context.Context, _ func() error) error {
	<-ctx.Done()
	return ctx.Err()
}

// deaf is a server whose answers do not arrive.
func deaf(ctx context.Context, do func() error) error {
	_ = do()
	return hangs(ctx, nil)
}

// process is a candidate that runs.
type process struct {
	*link
	name string
	jump time.Duration // of its wall clock; guarded by link.mu
	stop func()        // and wait
}

// poll are the processes of one test, and who leads.
type poll struct {
	t      *testing.T
	server *memory
	all    []*process

	mu      sync.Mutex
	leading []string
	terms   []string
}

func newPoll(t *testing.T, names ...string) *poll {
	p := &poll{t: t, server: &memory{}}
	for _, name := range names {
		p.start(name)
	}
	t.Cleanup(func() {
		for _, one := range p.all {
			one.stop()
		}
	})
	return p
}

func (p *poll) start(name string) *process {
	o := Options{Namespace: "ns", Name: "lease", Identity: name}
	require.NoError(p.t, o.complete())
	one := &process{link: &link{memory: p.server}, name: name}
	start := time.Now()
	e := newElection(o, one.link, func() instant {
		one.mu.Lock()
		defer one.mu.Unlock()
		return instant{mono: time.Since(start), wall: time.Now().Add(one.jump)}
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.run(ctx, func(ctx context.Context) { p.term(ctx, name) })
	}()
	one.stop = func() {
		cancel()
		<-done
	}
	p.all = append(p.all, one)
	return one
}

// term is what the leader does. That two are in it at a time is what must not be.
func (p *poll) term(ctx context.Context, name string) {
	p.mu.Lock()
	p.leading = append(p.leading, name)
	p.terms = append(p.terms, name)
	if len(p.leading) > 1 {
		p.t.Errorf("%v lead at a time", p.leading)
	}
	p.mu.Unlock()
	<-ctx.Done()
	p.mu.Lock()
	p.leading = nil
	p.mu.Unlock()
}

// leader returns who leads now, empty if nobody does.
func (p *poll) leader() string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.leading) == 0 {
		return ""
	}
	return p.leading[0]
}

// led returns who has led so far, in order.
func (p *poll) led() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.terms)
}

// next returns who leads next, and after how long, if that is less than within.
func (p *poll) next(before string, within time.Duration) (string, time.Duration) {
	p.t.Helper()
	for start := time.Now(); time.Since(start) < within; time.Sleep(10 * time.Millisecond) {
		if now := p.leader(); now != "" && now != before {
			return now, time.Since(start)
		}
	}
	p.t.Fatalf("after %v %q leads", within, p.leader())
	return "", 0
}

func (p *poll) process(name string) *process {
	for _, one := range p.all {
		if one.name == name {
			return one
		}
	}
	p.t.Fatalf("no process %q", name)
	return nil
}

// TestOneLeads: one of three, for as long as all is well, and the next one soon after it ended.
func TestOneLeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoll(t, "a", "b", "c")
		first := p.leader()
		require.NotEmpty(t, first)
		time.Sleep(time.Hour)
		require.Equal(t, []string{first}, p.led())
		p.server.mu.Lock()
		require.InDelta(t, 1800, p.server.writes, 10, "one write each 2s")
		p.server.mu.Unlock()

		p.process(first).stop()
		second, after := p.next(first, time.Minute)
		require.LessOrEqual(t, after, 2500*time.Millisecond, "it has given the lease back")
		now, err := p.server.read(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 1, now.transitions)
		require.Equal(t, second, now.holder)
	})
}

// TestHolderCutOff: who cannot renew the lease stops within its duration, and only then does
// another one begin.
func TestHolderCutOff(t *testing.T) {
	for name, fault := range map[string]func(context.Context, func() error) error{"away": away, "hangs": hangs, "deaf": deaf} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPoll(t, "a", "b")
				first := p.leader()
				time.Sleep(5 * time.Minute)
				p.process(first).set(fault)
				start := time.Now()
				for p.leader() == first && time.Since(start) < time.Hour {
					time.Sleep(10 * time.Millisecond)
				}
				if name == "deaf" {
					// What it writes arrives, so that the others wait for longer; it cannot know.
					require.LessOrEqual(t, time.Since(start), 10*time.Second)
				} else {
					require.InDelta(t, 9, time.Since(start).Seconds(), 1.1)
				}
				other, _ := p.next(first, time.Minute)
				require.NotEqual(t, first, other)
				require.LessOrEqual(t, time.Since(start), 30*time.Second)
				p.process(first).set(nil)
				time.Sleep(time.Minute)
				require.Equal(t, other, p.leader(), "it has to wait for its turn")
			})
		})
	}
}

// TestClockJumps: nobody trusts what another's clock says.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoll(t, "a", "b")
		first := p.leader()
		other := map[string]string{"a": "b", "b": "a"}[first]
		jump := func(name string, by time.Duration) {
			one := p.process(name)
			one.mu.Lock()
			one.jump += by
			one.mu.Unlock()
		}
		for _, by := range []time.Duration{time.Hour, -3 * time.Hour, 100 * 365 * 24 * time.Hour} {
			jump(other, by)
			time.Sleep(time.Minute)
			require.Equal(t, []string{first}, p.led(), "another's clock jumped by %v", by)
		}
		jump(first, -time.Hour)
		time.Sleep(time.Minute)
		require.Equal(t, []string{first}, p.led(), "its own clock was put back")

		// Ahead, as after the machine was suspended: it has to take the lease anew.
		jump(first, time.Hour)
		time.Sleep(time.Minute)
		require.Len(t, p.led(), 2)
	})
}

// TestLeaseDeleted: its holder makes it anew, and if that is gone, another one does.
func TestLeaseDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoll(t, "a", "b")
		first := p.leader()
		time.Sleep(3 * time.Second)
		remove := func() {
			p.server.mu.Lock()
			p.server.record = record{}
			p.server.mu.Unlock()
		}
		for range 3 {
			remove()
			time.Sleep(10 * time.Second)
			require.Equal(t, []string{first}, p.led())
			now, err := p.server.read(t.Context())
			require.NoError(t, err)
			require.Equal(t, first, now.holder)
		}
		p.process(first).set(away)
		remove()
		_, after := p.next(first, time.Minute)
		require.Greater(t, after, 10*time.Second)
	})
}

// TestNeverTwo: whatever fails, in whatever order.
func TestNeverTwo(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				p := newPoll(t, "0", "1", "2", "3")
				slow := func(ctx context.Context, do func() error) error {
					time.Sleep(time.Duration(rand.IntN(12)) * time.Second)
					if ctx.Err() != nil {
						return ctx.Err()
					}
					return do()
				}
				late := func(ctx context.Context, do func() error) error { // the request arrives when nobody waits for it
					<-ctx.Done()
					_ = do()
					return ctx.Err()
				}
				faults := []func(context.Context, func() error) error{nil, nil, away, hangs, deaf, slow, late}
				started := 4
				for range 300 {
					i := rnd.IntN(len(p.all))
					one := p.all[i]
					switch rnd.IntN(6) {
					case 0, 1, 2:
						one.set(faults[rnd.IntN(len(faults))])
					case 3:
						one.mu.Lock()
						one.jump += time.Duration(rnd.IntN(240)-120) * time.Second
						one.mu.Unlock()
					case 4:
						one.stop()
						p.all = append(p.all[:i], p.all[i+1:]...)
						p.start(strconv.Itoa(started))
						started++
					}
					time.Sleep(time.Duration(rnd.IntN(8000)) * time.Millisecond)
				}
				for _, one := range p.all {
					one.set(nil)
				}
				time.Sleep(time.Minute)
				require.NotEmpty(t, p.leader(), "in the end one leads")
				require.Greater(t, len(p.led()), 10)
			})
		})
	}
}

// TestLeadReturnsLate: as long as it does not, nothing is claimed anew.
func TestLeadReturnsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &link{memory: &memory{}}
		o := Options{Namespace: "ns", Name: "lease", Identity: "a"}
		require.NoError(t, o.complete())
		start := time.Now()
		e := newElection(o, server, func() instant { return instant{mono: time.Since(start), wall: time.Now()} })
		ctx, cancel := context.WithCancel(t.Context())
		inside, most, terms := 0, 0, 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			e.run(ctx, func(ctx context.Context) {
				terms++
				inside++
				most = max(most, inside)
				<-ctx.Done()
				time.Sleep(time.Minute)
				inside--
			})
		}()
		time.Sleep(time.Second)
		server.set(away)
		time.Sleep(30 * time.Second)
		server.set(nil)
		time.Sleep(2 * time.Minute)
		cancel()
		<-done
		require.Equal(t, 2, terms)
		require.Equal(t, 1, most)
	})
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"Namespace": {Name: "n"},
		"Name":      {Namespace: "ns"},
		"Duration":  {Namespace: "ns", Name: "n", Duration: 1500 * time.Millisecond},
		"Renew":     {Namespace: "ns", Name: "n", Renew: 15 * time.Second},
		"Retry":     {Namespace: "ns", Name: "n", Retry: 10 * time.Second},
	} {
		require.ErrorContains(t, o.complete(), "lease: Options: "+want)
	}
	o := Options{Namespace: "ns", Name: "n"}
	require.NoError(t, o.complete())
	require.Equal(t, []time.Duration{15 * time.Second, 10 * time.Second, 2 * time.Second}, []time.Duration{o.Duration, o.Renew, o.Retry})
	other := Options{Namespace: "ns", Name: "n"}
	require.NoError(t, other.complete())
	require.NotEqual(t, o.Identity, other.Identity)
}
