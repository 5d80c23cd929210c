package simulation

import (
	"math"
	"slices"
	"time"
)

// transfers are those under way between the replicas of a fleet. Between two moments in which
// one begins or ends all rates are constant, so that it is exact to the nanosecond in which a
// transfer's end is rounded up. Time only goes on: no call may have a now before the last.
type transfers struct {
	links  Links
	sites  []site      // of the replicas
	active []*transfer // in the order in which they started
	ended  []uint64    // not told yet
	now    time.Duration
	met    map[pair]time.Duration // when the handshake is over
	load   map[lane]int           // transfers that flow
}

// site is what a replica has.
type site struct {
	labels map[string]string
	ports  float64
}

// pair is two replicas, in the direction of the transfer.
type pair struct{ from, to int }

// lane is one direction of a replica's link of one class.
type lane struct {
	replica, class int
	in             bool
}

// transfer is one of them.
type transfer struct {
	id     uint64
	from   lane
	to     lane
	begins time.Duration // its bytes flow
	flows  bool
	left   float64       // bytes
	rate   float64       // bytes per second
	ends   time.Duration // at this rate, while it flows
}

// newTransfers takes Links with their defaults.
func newTransfers(l Links) *transfers {
	return &transfers{links: l, met: map[pair]time.Duration{}, load: map[lane]int{}}
}

// add adds the next replica. They are numbered from 0.
func (t *transfers) add(r *Replica) {
	t.sites = append(t.sites, site{r.Labels, float64(max(r.Ports, 1))})
}

// start begins to transfer the keys and values of so many tokens. The id must not be that of
// another transfer under way.
func (t *transfers) start(id uint64, from, to, tokens int, now time.Duration) {
	t.advance(now)
	l := &t.links
	class := l.class(t.sites[from].labels, t.sites[to].labels)
	p := pair{from, to}
	if _, ok := t.met[p]; !ok {
		t.met[p] = now + l.Handshake
	}
	t.active = append(t.active, &transfer{
		id: id, from: lane{from, class, false}, to: lane{to, class, true},
		begins: max(now, t.met[p]) + l.way(class).Setup,
		left:   float64(tokens) * float64(l.BytesPerToken) * (1 - l.Overlap),
	})
	t.advance(now)
}

// next returns when something is next to happen, which calls for ends, and whether there is
// anything under way.
func (t *transfers) next() (time.Duration, bool) {
	if len(t.ended) > 0 {
		return t.now, true
	}
	first, ok := time.Duration(math.MaxInt64), false
	for _, x := range t.active {
		first, ok = min(first, x.next()), true
	}
	return first, ok
}

// ends appends the transfers that have ended by now and were not told before, in the order
// of their ends.
func (t *transfers) ends(ids []uint64, now time.Duration) []uint64 {
	t.advance(now)
	ids = append(ids, t.ended...)
	t.ended = t.ended[:0]
	return ids
}

// cancel ends a transfer before its time, and reports whether it was under way.
func (t *transfers) cancel(id uint64, now time.Duration) bool {
	t.advance(now)
	i := slices.IndexFunc(t.active, func(x *transfer) bool { return x.id == id })
	if i < 0 {
		j := slices.Index(t.ended, id)
		if j >= 0 {
			t.ended = slices.Delete(t.ended, j, j+1)
		}
		return j >= 0
	}
	t.remove(t.active[i])
	t.active = slices.Delete(t.active, i, i+1)
	t.share()
	return true
}

// forget makes a replica a stranger to all others, as when it was restarted.
func (t *transfers) forget(replica int) {
	for p := range t.met {
		if p.from == replica || p.to == replica {
			delete(t.met, p)
		}
	}
}

// advance lets all happen that happens by now.
func (t *transfers) advance(now time.Duration) {
	for {
		at := time.Duration(math.MaxInt64)
		for _, x := range t.active {
			at = min(at, x.next())
		}
		if at > now {
			break
		}
		t.flow(at)
		t.active = slices.DeleteFunc(t.active, func(x *transfer) bool {
			if !x.flows && x.begins <= at {
				x.flows, x.ends = true, math.MaxInt64
				t.load[x.from]++
				t.load[x.to]++
				if x.left > 0 {
					return false
				}
				x.ends = at
			}
			if !x.flows || x.ends > at {
				return false
			}
			t.remove(x)
			t.ended = append(t.ended, x.id)
			return true
		})
		t.share()
	}
	t.flow(now)
}

// flow moves the bytes that move until at, at the present rates.
func (t *transfers) flow(at time.Duration) {
	seconds := (at - t.now).Seconds()
	for _, x := range t.active {
		if x.flows {
			x.left = max(0, x.left-float64(x.rate*seconds))
		}
	}
	t.now = at
}

// share gives each transfer that flows its rate: the lesser of its shares at both ends.
func (t *transfers) share() {
	for _, x := range t.active {
		if !x.flows {
			continue
		}
		rate := t.links.way(x.from.class).BytesPerSecond * min(t.part(x.from), t.part(x.to))
		if rate == x.rate {
			continue // its end is what it was
		}
		x.rate = rate
		x.ends = t.now + time.Duration(min(math.Ceil(x.left/rate*1e9), math.MaxInt64/4))
	}
}

// part is how many network ports each transfer has there.
func (t *transfers) part(l lane) float64 {
	return t.sites[l.replica].ports / float64(t.load[l])
}

// remove takes the load of a transfer off its links.
func (t *transfers) remove(x *transfer) {
	if !x.flows {
		return
	}
	for _, p := range []lane{x.from, x.to} {
		if t.load[p]--; t.load[p] == 0 {
			delete(t.load, p)
		}
	}
}

func (x *transfer) next() time.Duration {
	if x.flows {
		return x.ends
	}
	return x.begins
}
