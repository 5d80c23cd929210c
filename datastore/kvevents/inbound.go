package kvevents

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/zmtp"
)

// inbound takes connections of engines that connect to us. To whom one belongs is told by the host that
// it comes from, before a byte of it is read, and where several endpoints are at that host by the topic of
// its first message. So an engine speaks for no other host's, whatever it says.
type inbound struct {
	run
	listeners []net.Listener
	wg        sync.WaitGroup

	mu       sync.Mutex
	expected map[*target]expected
	pending  map[netip.Addr]int // connections that belong to nobody yet
	total    int                // of these
	logged   time.Time
}

// expected is from where connections of a target may come.
type expected struct {
	hosts []netip.Addr
	runs  bool // it is the one that does, of those with its name
}

// arrival is a connection that was found to be that of a rank, after the handshake.
type arrival struct {
	*zmtp.Conn
	first [][]byte // its first message, if that was read
}

// listenIn begins to listen at Options.Listen, until the run ends.
func (r run) listenIn() (*inbound, error) {
	in := &inbound{run: r, expected: map[*target]expected{}, pending: map[netip.Addr]int{}}
	config := net.ListenConfig{KeepAliveConfig: alive}
	for i, address := range r.opt.Listen {
		l, err := config.Listen(r.ctx, "tcp", address)
		if err != nil {
			for _, l := range in.listeners {
				l.Close()
			}
			return nil, fmt.Errorf("kvevents: Listen[%d]: %w", i, err)
		}
		in.listeners = append(in.listeners, l)
	}
	for rank, l := range in.listeners {
		context.AfterFunc(r.ctx, func() { l.Close() })
		in.wg.Go(func() { in.panics.Loop(in.ctx, "the listener", func() { in.accept(rank, l) }) })
	}
	return in, nil
}

func (in *inbound) accept(rank int, l net.Listener) {
	for in.ctx.Err() == nil {
		conn, err := l.Accept()
		if err != nil { // as a rule there are too many open files
			sleep(in.ctx, in.opt.MinBackoff)
			continue
		}
		host := hostOf(conn.RemoteAddr())
		if err := in.enter(host, rank); err != nil {
			conn.Close()
			in.refuse(conn, rank, err)
			continue
		}
		in.wg.Go(func() {
			defer in.leave(host)
			if err := in.panics.Try("a connection that came in", func() error { return in.introduce(conn, rank, host) }); err != nil {
				conn.Close()
				in.refuse(conn, rank, err)
			}
		})
	}
}

// introduce finds out whose connection it is and gives it to them.
func (in *inbound) introduce(conn net.Conn, rank int, host netip.Addr) error {
	stop := context.AfterFunc(in.ctx, func() { conn.Close() })
	defer stop()
	limit, cancel := context.WithTimeout(in.ctx, in.opt.Timeout)
	defer cancel()
	c, err := in.greet(limit, conn, subscriber)
	if err != nil {
		return err
	}
	if err := c.Subscribe(""); err != nil {
		return fmt.Errorf("kvevents: %w", err)
	}
	a := arrival{Conn: c}
	targets := in.at(host, rank)
	if len(targets) > 1 {
		if a.first, targets, err = byTopic(c, targets); err != nil {
			return err
		}
	}
	if len(targets) == 0 {
		return fmt.Errorf("kvevents: %s is no endpoint's host any more", host)
	}
	t := targets[0]
	select {
	case t.arrivals[rank] <- a:
		return nil
	case <-t.ctx.Done():
		return fmt.Errorf("kvevents: endpoint %q has gone", t.plan.name)
	case <-time.After(in.opt.MaxBackoff + in.opt.Timeout): // it may be waiting after a failure
		return fmt.Errorf("kvevents: rank %d of endpoint %q has a connection already: do two publishers share a port, want one for each rank", rank, t.plan.name)
	}
}

// byTopic waits for the first message, and returns the one target that its topic names.
func byTopic(c *zmtp.Conn, targets []*target) (first [][]byte, named []*target, err error) {
	ready, err := c.Wait(time.Now().Add(settled))
	if err == nil && !ready {
		err = errors.New("no message to tell by its topic whose it is")
	}
	if err == nil {
		first, err = c.Receive()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("kvevents: %w", err)
	}
	for _, t := range targets {
		if t.named(first[0], true) {
			named = append(named, t)
		}
	}
	if len(named) != 1 {
		return nil, nil, fmt.Errorf("kvevents: of %d endpoints at that host the topic %.100q names %d, want the address of one, as in \"kv@%s@model\"", len(targets), first[0], len(named), targets[0].plan.address)
	}
	return first, named, nil
}

// named reports whether a topic names t by its address, as kv@host:port@model does; if it need not be
// exact, also if it has no port, or names nobody.
func (t *target) named(topic []byte, exact bool) bool {
	parts := strings.Split(string(topic), "@")
	if len(parts) != 3 {
		return !exact
	}
	host, _, _ := net.SplitHostPort(t.plan.address)
	return parts[1] == t.plan.address || !exact && strings.Trim(parts[1], "[]") == host
}

// enter counts a connection of a rank from a host, or says why it is not welcome.
func (in *inbound) enter(host netip.Addr, rank int) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch known := len(in.atLocked(host, rank)) > 0; {
	case !known:
		return fmt.Errorf("kvevents: a connection from %s, which is no endpoint's host, or of none that is rank %d", host, rank)
	case in.total >= in.opt.MaxPending:
		return fmt.Errorf("kvevents: %d connections that belong to no endpoint yet, the most there may be", in.total)
	case in.pending[host] >= (in.opt.MaxPending+7)/8:
		return fmt.Errorf("kvevents: %d connections from %s that belong to no endpoint yet, the most there may be from one host", in.pending[host], host)
	}
	in.pending[host]++
	in.total++
	return nil
}

func (in *inbound) leave(host netip.Addr) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.total--
	if in.pending[host]--; in.pending[host] == 0 {
		delete(in.pending, host)
	}
}

// refuse counts and tells that a connection was closed. The Logger hears of it once a minute at most.
func (in *inbound) refuse(conn net.Conn, rank int, err error) {
	if in.ctx.Err() != nil {
		return // what went wrong is that it was cancelled
	}
	in.counts.refused.Add(1)
	f := Failure{Rank: rank, URL: "tcp://" + conn.RemoteAddr().String(), Err: err}
	in.tellFailure(f)
	in.mu.Lock()
	quiet := time.Since(in.logged) < time.Minute
	if !quiet {
		in.logged = time.Now()
	}
	in.mu.Unlock()
	if !quiet {
		in.log(slog.LevelWarn, "a connection that came in was refused", f, err)
	}
}

// at returns the targets at a host that have that rank, one of each name.
func (in *inbound) at(host netip.Addr, rank int) []*target {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.atLocked(host, rank)
}

// atLocked is at. Caller must hold in.mu.
func (in *inbound) atLocked(host netip.Addr, rank int) []*target {
	byName := map[string]*target{}
	for t, e := range in.expected {
		if own := t.plan.rank; own.IsSet() && own.Index != rank {
			continue
		}
		if slices.Contains(e.hosts, host) && (byName[t.plan.name] == nil || e.runs) {
			byName[t.plan.name] = t
		}
	}
	return slices.Collect(maps.Values(byName))
}

// expect lets connections from the endpoint's host come in, until the target ends. Hosts with a name are
// looked up only while it runs.
func (t *target) expect(runs bool) {
	if len(t.arrivals) == 0 {
		return
	}
	host, _, _ := net.SplitHostPort(t.plan.address)
	e := expected{runs: runs}
	if ip, err := netip.ParseAddr(host); err == nil {
		e.hosts = []netip.Addr{ip}
	} else if runs {
		e.hosts = t.lookUp(host)
	}
	for i, h := range e.hosts {
		e.hosts[i] = h.Unmap().WithZone("")
	}
	in := t.Subscriber.inbound.Load()
	in.mu.Lock()
	defer in.mu.Unlock()
	if t.ctx.Err() != nil {
		return // it was taken out, or will never be
	}
	in.expected[t] = e
	if !runs {
		context.AfterFunc(t.ctx, func() {
			in.mu.Lock()
			defer in.mu.Unlock()
			delete(in.expected, t)
		})
	}
}

func (t *target) lookUp(host string) []netip.Addr {
	ctx, cancel := context.WithTimeout(t.ctx, t.opt.Timeout)
	defer cancel()
	hosts, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil && t.ctx.Err() == nil {
		err = fmt.Errorf("kvevents: it is not known from where %q may connect: %w", t.plan.address, err)
		t.tellFailure(Failure{Pool: t.plan.pool, Endpoint: t.plan.name, URL: t.plan.server, Err: err})
	}
	return hosts
}

// comingIn returns the sources as they are if the engine connects to us: what it says of the place of its
// events does not matter, and if it is asked and says nothing, events may come for rank 0, or the one that the
// endpoint is.
func (t *target) comingIn(all []rankSource) []rankSource {
	told := false
	for i := range all {
		s := &all[i]
		s.inbound = s.events != "" && s.rank >= 0 && s.rank < len(t.arrivals)
		s.events = ""
		told = told || s.inbound || s.poll != ""
	}
	if !told && t.plan.ask && t.plan.rank.Index < len(t.arrivals) {
		all = append(all, rankSource{rank: t.plan.rank.Index, inbound: true})
	}
	return all
}

// await waits for the connection that the engine makes.
func (s *stream) await(ctx context.Context) (*zmtp.Conn, [][]byte, error) {
	select {
	case a := <-s.arrivals[s.source.rank]:
		context.AfterFunc(ctx, func() { a.Close() })
		return a.Conn, a.first, nil
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func hostOf(addr net.Addr) netip.Addr {
	ap, _ := netip.ParseAddrPort(addr.String())
	return ap.Addr().Unmap().WithZone("")
}
