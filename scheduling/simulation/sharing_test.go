package simulation

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
)

// gossip is a Sharer that tells what is booked at each endpoint, and believes what it heard last of each gateway.
type gossip struct {
	Gateway
	log    *gossipLog
	seq    int
	heard  map[string]said
	faulty bool // it forgets nobody
}

// said is a message of a gossip.
type said struct {
	Seq   int
	Seed  uint64
	Loads map[string]types.Booking
	At    time.Time // when it was heard
}

// gossipLog is what all of them did.
type gossipLog struct {
	told, heard map[string][]time.Time // by gateway
	from        map[string][]time.Time // when they heard, by the gateways to and from
	overtaken   int                    // messages that came after newer ones
	seeds       map[uint64]bool
	believed    func(g *gossip, now time.Time) // called before it tells
}

// forget is how long a gossip believes a gateway that says nothing.
const forget = 3 * time.Second

func (l *gossipLog) sharer(faulty bool) func(Gateway) (Sharer, error) {
	*l = gossipLog{told: map[string][]time.Time{}, heard: map[string][]time.Time{}, from: map[string][]time.Time{}, seeds: map[uint64]bool{}, believed: l.believed}
	return func(g Gateway) (Sharer, error) {
		l.seeds[g.Seed] = true
		return &gossip{g, l, 0, map[string]said{}, faulty}, nil
	}
}

func (g *gossip) Tell(now time.Time, send func([]byte)) {
	g.update(now)
	if g.log.believed != nil {
		g.log.believed(g, now)
	}
	g.log.told[g.Name] = append(g.log.told[g.Name], now)
	g.seq++
	m := said{Seq: g.seq, Seed: g.Seed, Loads: map[string]types.Booking{}}
	for _, ep := range g.Endpoints() {
		m.Loads[ep.ID] = ep.Load.Held()
	}
	data, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	send(data)
	for i := range data {
		data[i] = '!' // the memory is used for other things
	}
}

func (g *gossip) Hear(from string, msg []byte, now time.Time) {
	var m said
	if err := json.Unmarshal(msg, &m); err != nil {
		panic(err)
	}
	g.log.heard[g.Name] = append(g.log.heard[g.Name], now)
	g.log.from[g.Name+"<"+from] = append(g.log.from[g.Name+"<"+from], now)
	if last, ok := g.heard[from]; ok && last.Seed == m.Seed && last.Seq >= m.Seq {
		g.log.overtaken++
		return
	}
	m.At = now
	g.heard[from] = m
	g.update(now)
}

// update makes the endpoints' Peers what is believed.
func (g *gossip) update(now time.Time) {
	sums := map[string]types.Booking{}
	for from, m := range g.heard {
		if !g.faulty && now.Sub(m.At) > forget {
			delete(g.heard, from)
			continue
		}
		for id, b := range m.Loads {
			sums[id] = sums[id].Plus(b)
		}
	}
	for _, ep := range g.Endpoints() {
		ep.Load.SetPeers(sums[ep.ID])
	}
}

// leastKnown is the endpoint with the fewest requests in flight from all gateways, as far as is known.
func leastKnown() scheduling.Profile {
	return scheduling.Profile{Fallbacks: 1, Picker: scheduling.PickerFunc(
		func(_ context.Context, _ *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
			best := 0
			for i, ep := range eps {
				if ep.Load.Known().Requests < eps[best].Load.Known().Requests {
					best = i
				}
			}
			return best, nil
		})}
}

// several is chats that come to so many gateways in front of four replicas.
func several(gateways int, l *gossipLog) Config {
	return Config{
		Fleet: Uniform(4, engine.Config{}), Workload: ShareGPT{Rate: 60}, Gateways: gateways, Duration: 20 * time.Second, Seed: 5,
		Policy: Policy{Name: "known", Profile: leastKnown, Sharer: l.sharer(false)},
	}
}

func at(d time.Duration) time.Time { return epoch.Add(d) }

func TestGatewaysTell(t *testing.T) {
	var l gossipLog
	s, r := played(t, several(4, &l))
	require.Len(t, l.seeds, 4, "each has a seed of its own")
	for g, told := range l.told {
		require.True(t, told[0].Before(at(100*time.Millisecond)), "the first within Every")
		for i := range told[1:] {
			require.Equal(t, 100*time.Millisecond, told[i+1].Sub(told[i]), "of %s", g)
		}
		for other := range l.told {
			if other != g {
				require.InDelta(t, len(told), len(l.from[other+"<"+g]), 1, "%s hears all that %s says", other, g)
				require.NotEqual(t, told[0], l.told[other][0], "not at the same time")
			}
		}
		require.Empty(t, l.from[g+"<"+g], "none hears itself")
	}
	require.InDelta(t, 4*10*(r.Simulated+settleFor.Seconds()), r.Sharing.Messages, 8)
	require.Zero(t, r.Sharing.Lost)
	require.Greater(t, r.Sharing.Bytes, 100*r.Sharing.Messages)
	require.Greater(t, r.Sharing.Largest*r.Sharing.Messages, r.Sharing.Bytes)
	require.Equal(t, s.now.Seconds(), r.Simulated, "settling takes no time")
}

// What a gateway believes when it tells is the sum of what the others said last, Delay ago.
func TestMessagesComeInTime(t *testing.T) {
	for _, delay := range []time.Duration{-1, 30 * time.Millisecond, 250 * time.Millisecond} {
		var l gossipLog
		c := several(3, &l)
		c.Sharing = Sharing{Every: 70 * time.Millisecond, Delay: delay}
		type saying struct {
			at    time.Time
			loads map[string]int64
		}
		history := map[string][]saying{}
		checked := 0
		l.believed = func(g *gossip, now time.Time) {
			one := saying{now, map[string]int64{}}
			for _, ep := range g.Endpoints() {
				one.loads[ep.ID] = ep.Load.Requests()
				want := int64(0)
				for name, all := range history {
					for i := len(all) - 1; i >= 0 && name != g.Name; i-- {
						if !all[i].at.Add(max(delay, 0)).After(now) {
							want += all[i].loads[ep.ID]
							break
						}
					}
				}
				require.Equal(t, want, ep.Load.Peers().Requests, "of %s at %s", ep.ID, g.Name)
				if want > 0 {
					checked++
				}
			}
			history[g.Name] = append(history[g.Name], one)
		}
		c.Policy.Sharer = l.sharer(false)
		played(t, c)
		require.Greater(t, checked, 500)
	}
}

// Gateways that know of each other spread jobs as one does; those whose messages are lost, as those that say nothing.
func TestSharingHelps(t *testing.T) {
	run := func(gateways int, shares bool, lost float64) *Report {
		var l gossipLog
		c := several(gateways, &l)
		c.Sharing.Lost = lost
		if !shares {
			c.Policy.Sharer = nil
		}
		_, r := played(t, c)
		return r
	}
	one, alone, shared, lost := run(1, false, 0), run(8, false, 0), run(8, true, 0), run(8, true, 1)
	require.Greater(t, alone.Imbalance, 2*one.Imbalance)
	require.Less(t, shared.Imbalance, .75*alone.Imbalance)
	require.InDelta(t, 7*lost.Sharing.Messages, lost.Sharing.Lost+7*8*int(settleFor/(100*time.Millisecond)), 7*8, "until all settles")
	require.Nil(t, alone.Sharing)
	lost.Sharing = nil
	require.Equal(t, alone, lost)
	require.Equal(t, shared, run(8, true, 0), "it is the same again")
}

func TestMessagesAreLost(t *testing.T) {
	var l gossipLog
	c := several(3, &l)
	c.Sharing.Lost = .1
	_, r := played(t, c)
	n := 2 * (r.Sharing.Messages - 3*int(settleFor/(100*time.Millisecond)))
	require.InDelta(t, .1, float64(r.Sharing.Lost)/float64(n), .02)
	require.NotEqual(t, len(l.from["g0<g2"]), len(l.from["g1<g2"]), "each loses its own")
}

func TestMessagesOvertake(t *testing.T) {
	var l gossipLog
	c := several(3, &l)
	played(t, c)
	require.Zero(t, l.overtaken)
	c.Sharing = Sharing{Jitter: 80 * time.Millisecond}
	c.Policy.Sharer = l.sharer(false)
	played(t, c)
	require.Greater(t, l.overtaken, 50)
}

func TestPartitions(t *testing.T) {
	var l gossipLog
	c := several(4, &l)
	c.Sharing.Partitions = []Partition{{At: 5 * time.Second, Until: 12 * time.Second, Groups: [][]int{{0, 1}, {2}}}, {At: 15 * time.Second, Groups: [][]int{{3}}}}
	played(t, c)
	during := func(to, from string, begin, end time.Duration) (n int) {
		for _, heard := range l.from[to+"<"+from] {
			if after := heard.Sub(epoch); after > begin+2*time.Millisecond && after < end {
				n++
			}
		}
		return n
	}
	for i, to := range []string{"g0", "g1", "g2", "g3"} {
		for j, from := range []string{"g0", "g1", "g2", "g3"} {
			if i == j {
				continue
			}
			require.InDelta(t, 49, during(to, from, 0, 5*time.Second), 1)
			require.InDelta(t, 30, during(to, from, 12*time.Second, 15*time.Second), 1)
			first, second := 0, 50
			if i+j == 1 {
				first = 70
			}
			if i == 3 || j == 3 {
				second = 0
			}
			require.InDelta(t, first, during(to, from, 5*time.Second, 12*time.Second), 1, "%s hears %s", to, from)
			require.InDelta(t, second, during(to, from, 15*time.Second, 20*time.Second), 1, "%s hears %s", to, from)
		}
	}
}

func TestSharedOut(t *testing.T) {
	count := func(s *sim) (jobs []int) {
		for _, g := range s.gateways {
			jobs = append(jobs, len(g.jobs))
		}
		return jobs
	}
	// Nothing ends here, so that all are under way at the end.
	c := Config{
		Fleet: Uniform(1, engine.Config{}), Workload: ShareGPT{Rate: 100, Output: Length{Kind: LengthFixed, Tokens: 200}}, Gateways: 4, Jobs: 1000,
		ClosedLoop: 1000, Policy: Policy{Name: "known", Profile: leastKnown}, Drain: time.Nanosecond,
		Faults: []Fault{{At: time.Hour, Kind: DieGateway}},
	}
	even, _ := played(t, c)
	require.Equal(t, []int{250, 250, 250, 250}, count(even))
	c.Shares = []float64{4, 1, 2.5, 2.5}
	uneven, _ := played(t, c)
	require.Equal(t, []int{400, 100, 250, 250}, count(uneven))
}

// Jobs of a session come to one gateway, as many sessions to each as its share is, and to others if it dies.
func TestSticky(t *testing.T) {
	s := &sim{cfg: Config{Sticky: true}}
	for i, share := range []float64{2, 1, 1} {
		s.gateways = append(s.gateways, &gateway{s: s, index: i, place: i, share: share})
	}
	sessions := map[string]*gateway{}
	n := map[*gateway]int{}
	for i := range 4000 {
		name := "session " + strconv.Itoa(i)
		sessions[name] = s.reaches(&Job{Session: name})
		n[sessions[name]]++
	}
	for i, want := range []float64{2000, 1000, 1000} {
		require.InDelta(t, want, n[s.gateways[i]], 4*math.Sqrt(want))
	}
	s.gateways[2].dead = true
	moved := 0
	for name, g := range sessions {
		switch now := s.reaches(&Job{Session: name}); {
		case g.dead:
			require.False(t, now.dead)
			moved++
		default:
			require.Same(t, g, now)
		}
	}
	require.Equal(t, n[s.gateways[2]], moved)
	require.Same(t, s.gateways[0], s.reaches(&Job{}), "what has no session, in turn")
	for _, g := range s.gateways {
		g.dead = true
	}
	require.Nil(t, s.reaches(&Job{Session: "x"}))
	require.Nil(t, s.reaches(&Job{}))
}

func TestGatewayDies(t *testing.T) {
	var l gossipLog
	c := several(3, &l)
	c.Faults = []Fault{{At: 6 * time.Second, Kind: DieGateway, Index: 1}, {At: 14 * time.Second, Kind: RestartGateway, Index: 1}}
	believed := map[string]time.Duration{} // until when anything is believed of the gateway that died
	l.believed = func(g *gossip, now time.Time) {
		after := now.Sub(epoch)
		if m, ok := g.heard["g1"]; ok && after < 14*time.Second && len(m.Loads) > 0 {
			believed[g.Name] = after
		}
	}
	c.Policy.Sharer = l.sharer(false)
	s, r := played(t, c)
	require.Len(t, l.seeds, 4, "what is restarted draws anew")
	for _, told := range l.told["g1"] {
		require.False(t, told.After(at(6*time.Second)) && told.Before(at(14*time.Second)), "who is dead says nothing")
	}
	for _, heard := range l.heard["g1"] {
		require.False(t, heard.After(at(6*time.Second)) && heard.Before(at(14*time.Second)), "nor hears")
	}
	require.Greater(t, len(l.told["g1"]), 100)
	for _, g := range []string{"g0", "g2"} {
		require.InDelta(t, 9, believed[g].Seconds(), .2)
	}
	require.Positive(t, r.Failed, "what it had under way")
	require.Less(t, r.Failed, r.Arrived/20)
	require.Equal(t, r.Arrived, r.Completed+r.Failed)
	require.EqualValues(t, 1, s.gateways[1].incarnation)
}

func TestNoGatewayIsLeft(t *testing.T) {
	for _, clients := range []int{0, 10} {
		c := several(2, new(gossipLog))
		c.ClosedLoop = clients
		for i := range 2 {
			c.Faults = append(c.Faults, Fault{At: 5 * time.Second, Kind: DieGateway, Index: i}, Fault{At: 6 * time.Second, Kind: RestartGateway, Index: i})
		}
		_, r := played(t, c)
		require.Greater(t, r.Failed, 30, "a second long nobody is there")
		require.Greater(t, r.Completed, 100)
		require.Equal(t, r.Arrived, r.Completed+r.Failed)
	}
}

// Who is replaced goes on with its jobs, and tells others of them; the new one has what it would have got.
func TestGatewayIsReplaced(t *testing.T) {
	var l gossipLog
	c := several(3, &l)
	c.Faults = []Fault{{At: 6 * time.Second, Kind: ReplaceGateway, Index: 1}, {At: 12 * time.Second, Kind: ReplaceGateway, Index: 1}}
	had := map[string]int64{} // the last thing that each told
	l.believed = func(g *gossip, _ time.Time) {
		had[g.Name] = 0
		for _, ep := range g.Endpoints() {
			had[g.Name] += ep.Load.Requests()
		}
	}
	c.Policy.Sharer = l.sharer(false)
	s, r := played(t, c)
	require.Equal(t, r.Arrived, r.Completed, "nothing is lost")
	require.Len(t, s.gateways, 5)
	require.Len(t, l.seeds, 5)
	require.True(t, s.gateways[1].dead && s.gateways[3].dead)
	last := func(name string) float64 { return l.told[name][len(l.told[name])-1].Sub(epoch).Seconds() }
	require.Greater(t, last("g1"), 6.5)
	require.Less(t, last("g1"), 30.)
	require.LessOrEqual(t, had["g1"], int64(3), "it tells of its jobs until there are nearly none")
	first := l.told["g3"][0].Sub(epoch).Seconds()
	require.True(t, first >= 6 && first < 6.1)
	require.Same(t, s.gateways[4], s.places[1].gateway)
}

// keeper is a gossip whose snapshot is when it was written.
type keeper struct {
	*gossip
	written  []time.Time
	restored []string
}

func (k *keeper) AppendSnapshot(dst []byte, now time.Time) []byte {
	k.written = append(k.written, now)
	return fmt.Append(dst, k.Name, " ", len(k.written))
}

func (k *keeper) Restore(snapshot []byte, now time.Time) error {
	if len(k.log.told[k.Name]) > 100 {
		return fmt.Errorf("it is full")
	}
	k.restored = append(k.restored, fmt.Sprintf("%s at %v", snapshot, now.Sub(epoch)))
	return nil
}

func TestGatewayIsWarm(t *testing.T) {
	var l gossipLog
	var keepers []*keeper
	c := several(2, &l)
	gossips := l.sharer(false)
	c.Policy.Sharer = func(g Gateway) (Sharer, error) {
		s, err := gossips(g)
		keepers = append(keepers, &keeper{gossip: s.(*gossip)})
		return keepers[len(keepers)-1], err
	}
	c.Sharing.Snapshots = 500 * time.Millisecond
	c.Faults = []Fault{
		{At: 4 * time.Second, Kind: RestartGateway, Index: 0, Warm: true},
		{At: 6 * time.Second, Kind: RestartGateway, Index: 0},
		{At: 7 * time.Second, Kind: ReplaceGateway, Index: 1, Warm: true},
	}
	played(t, c)
	require.Len(t, keepers, 5)
	require.Equal(t, []string{"g0 8 at 4s"}, keepers[2].restored)
	require.Empty(t, keepers[3].restored, "it is not warm")
	require.Equal(t, []string{"g1 14 at 7s"}, keepers[4].restored)
	require.Len(t, keepers[1].written, 14, "who has been replaced writes none")

	c.Faults = []Fault{{At: 15 * time.Second, Kind: RestartGateway, Warm: true}}
	c.Policy.Sharer = func(g Gateway) (Sharer, error) {
		s, err := gossips(g)
		return &keeper{gossip: s.(*gossip)}, err
	}
	_, err := Run(context.Background(), c)
	require.ErrorContains(t, err, "gateway g0 takes over no snapshot: it is full")

	gossips = l.sharer(false)
	c.Policy.Sharer = gossips
	played(t, c) // a Sharer that keeps nothing is as one that is not warm
	c.Faults[0].Kind = Die
	require.ErrorContains(t, c.Validate(), "Faults[0]")
}

// gatewayFault is anything that may happen to one of n gateways.
func gatewayFault(rnd *types.Rand, n int) Fault {
	f := Fault{At: time.Duration(rnd.Float64() * 12e9), Kind: DieGateway + FaultKind(rnd.IntN(3)), Index: rnd.IntN(n)}
	f.Warm = f.Kind != DieGateway && rnd.IntN(2) == 0
	return f
}

// Whatever happens to gateways, servers, clients and messages, every job ends and every booking with it, and in the
// end nobody believes that others have any: Run checks that.
func TestGatewaysThroughFaults(t *testing.T) {
	seeds := uint64(30)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		rnd := types.NewRand(seed + 1)
		n := 2 + rnd.IntN(4)
		var l gossipLog
		c := Config{
			Fleet: roles(engine.Config{Blocks: 1000, MaxSeqs: 8}, 1, 2, 1), Workload: impatient{twoPieces(15)},
			Policy: anywhere(.5, func(p *scheduling.Profile) { p.Alone.Share = 1 }), Gateways: n, Duration: 10 * time.Second, Seed: seed,
			World:  World{Jitter: 20 * time.Millisecond},
			Sticky: rnd.IntN(2) == 0,
			Sharing: Sharing{
				Every: time.Duration(1+rnd.IntN(300)) * time.Millisecond, Jitter: time.Duration(rnd.IntN(300)) * time.Millisecond, Lost: rnd.Float64(),
				Partitions: []Partition{{At: 2 * time.Second, Until: time.Duration(rnd.IntN(2)) * 5 * time.Second, Groups: [][]int{{0}}}},
			},
		}
		c.Policy.Sharer = l.sharer(false)
		if rnd.IntN(2) == 0 {
			c.Admission = func() admission.Options { return admission.Options{} }
		}
		for range 8 {
			c.Faults = append(c.Faults,
				gatewayFault(&rnd, n),
				Fault{At: time.Duration(rnd.Float64() * 12e9), Kind: Restart, Index: rnd.IntN(4)})
		}
		_, r := played(t, c)
		require.Equal(t, r.Arrived, r.Completed+r.Failed+r.Cancelled+r.Shed)
		require.Positive(t, r.Completed)
		c.Policy.Sharer = l.sharer(false)
		_, again := played(t, c)
		require.Equal(t, r, again, "it is the same again")
	}
}

// A restarted gateway that takes KV events is told that there were others before.
func TestGatewayRestartsLate(t *testing.T) {
	var mirrors []*mirror
	c := several(2, new(gossipLog))
	c.Policy.Sink = func(scheduling.Profile) (KVSink, error) {
		mirrors = append(mirrors, newMirror())
		return mirrors[len(mirrors)-1], nil
	}
	c.Faults = []Fault{{At: 5 * time.Second, Kind: Remove, Index: 3}, {At: 10 * time.Second, Kind: RestartGateway, Index: 0}}
	played(t, c)
	require.Len(t, mirrors, 3)
	require.Equal(t, []types.KVState{types.KVLive, types.KVLate}, mirrors[2].states["r0"])
	require.NotContains(t, mirrors[2].states, "r3", "it was taken away before")
	require.Greater(t, len(mirrors[2].ever), 100)
	require.Less(t, len(mirrors[2].ever), len(mirrors[1].ever))
}

func TestRunChecksWhatIsBelieved(t *testing.T) {
	var l gossipLog
	c := several(3, &l)
	c.Policy.Sharer = l.sharer(true)
	c.Faults = []Fault{{At: 5 * time.Second, Kind: DieGateway, Index: 2}}
	_, err := Run(context.Background(), c)
	require.ErrorContains(t, err, "gateway g0 believes at the end that others have")
}

// sharerFunc is a Sharer that sends one message each time.
type sharerFunc func() []byte

func (f sharerFunc) Tell(_ time.Time, send func([]byte)) { send(f()) }
func (f sharerFunc) Hear(string, []byte, time.Time)      {}

func TestSharingErrors(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"Every -1ns":                        func(c *Config) { c.Sharing.Every = -1 },
		"Lost 1.1":                          func(c *Config) { c.Sharing.Lost = 1.1 },
		"Lost NaN":                          func(c *Config) { c.Sharing.Lost = math.NaN() },
		"Jitter -1ns":                       func(c *Config) { c.Sharing.Jitter = -1 },
		"Partitions[0] is from 2s until 1s": func(c *Config) { c.Sharing.Partitions = []Partition{{At: 2e9, Until: 1e9}} },
		"Groups has gateway 3, want 0 to 2": func(c *Config) { c.Sharing.Partitions = []Partition{{Groups: [][]int{{0}, {3}}}} },
		"Groups has gateway 1, want 0 to 2, each": func(c *Config) { c.Sharing.Partitions = []Partition{{Groups: [][]int{{1}, {1}}}} },
		"Shares is [1 2]":                         func(c *Config) { c.Shares = []float64{1, 2} },
		"Shares is [1 0 1]":                       func(c *Config) { c.Shares = []float64{1, 0, 1} },
		"Faults[0]":                               func(c *Config) { c.Faults = []Fault{{Kind: DieGateway, Index: 3}} },
		"policy known: no": func(c *Config) {
			c.Policy.Sharer = func(Gateway) (Sharer, error) { return nil, fmt.Errorf("no") }
		},
		"tells the others 65537 bytes": func(c *Config) {
			c.Policy.Sharer = func(Gateway) (Sharer, error) {
				return sharerFunc(func() []byte { return make([]byte, 64<<10+1) }), nil
			}
		},
	} {
		c := several(3, new(gossipLog))
		change(&c)
		_, err := Run(context.Background(), c)
		require.ErrorContains(t, err, want)
	}
}
