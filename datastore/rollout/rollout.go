package rollout

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/types"
)

// rollout is one of a Controller: a Machine if this gateway leads, else a Window, and what is around it. All that it
// does it does in one goroutine, but for calls of the Loader.
type rollout struct {
	c       *Controller
	object  Object
	plan    Plan   // with its defaults
	print   string // fingerprint of the plan
	key     objectKey
	hash    uint64 // of the fingerprint
	pool    types.NamespacedName
	names   []string // public names of models whose requests count; none: all
	source  string
	of      types.Object    // as it was at the last scan; guarded by Controller.mu
	before  <-chan struct{} // closed when the rollout before this one has ended; nil: there is none
	members atomic.Pointer[members]
	leading atomic.Bool // this gateway leads
	servers fleet
	wake    chan struct{}
	cancel  context.CancelFunc
	running sync.WaitGroup

	home keeper // of the goroutine alone

	mu sync.Mutex
	// guarded by mu
	machine  *Machine  // nil: this gateway does not lead, or has not begun
	window   *Window   // while it does not lead
	state    State     // the last that is known
	known    bool      // state is
	claim    time.Time // since when it waits for the one that leads to take its state over; zero: it does not
	dropped  bool      // the Home has the state of another plan, which is newer
	wrote    bool      // a state, into the Home
	peers    []string  // the names of those that are heard
	lost     []string  // and of those that were, and of which nobody was told
	lacking  time.Time // since when the Home says that there is none
	verdicts []Verdict
	looks    map[look]uint64
	events   []Event   // the last ones
	counted  uint64    // all
	troubles [3]string // why it cannot do its work, by trouble; empty: it can
}

// look is what a metric was thought of at one time.
type look struct {
	metric string
	result Result
}

func (c *Controller) newRollout(w want) (*rollout, error) {
	pool, err := poolOf(w.of)
	if err != nil {
		return nil, err
	}
	r := &rollout{
		c: c, object: w.plan.Object, plan: w.plan, print: w.plan.Fingerprint(), pool: pool, key: keyOf(w.plan.Object), names: publicNames(w.of, w.plan.Object.Rule),
		source: w.source, of: w.of, before: c.ending[w.plan.Object], wake: make(chan struct{}, 1), looks: map[look]uint64{},
	}
	r.hash = hashOf(r.print)
	r.members.Store(new(members))
	r.servers = fleet{r: r, of: map[*types.Load]*member{}}
	r.home = keeper{r: r}
	return r, nil
}

// is reports whether r is what is wanted.
func (r *rollout) is(w want) bool {
	if w.of == nil {
		return true
	}
	pool, err := poolOf(w.of)
	return err == nil && r.print == w.plan.Fingerprint() && r.source == w.source && r.pool == pool &&
		slices.Equal(r.names, publicNames(w.of, r.object.Rule))
}

// start begins its work, until ctx is done or stop is called.
func (r *rollout) start(ctx context.Context) {
	ctx, r.cancel = context.WithCancel(ctx)
	r.running.Add(1)
	go func() {
		defer r.running.Done()
		r.c.panics.Loop(ctx, "a rollout", func() { r.work(ctx) })
	}()
}

// stop ends its work, and returns when it has ended.
func (r *rollout) stop() {
	if r.cancel != nil {
		r.cancel()
	}
	r.running.Wait()
}

// kick has it look at the world at once.
func (r *rollout) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// breath is how long it waits between two looks at least, whatever happens.
const breath = 10 * time.Millisecond

func (r *rollout) work(ctx context.Context) {
	if r.before != nil {
		<-r.before
	}
	tick := time.NewTicker(r.c.o.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		r.step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(breath):
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-r.wake:
		}
	}
}

// step looks at the world once, and does what follows.
func (r *rollout) step(ctx context.Context) {
	now := r.c.o.Now()
	leads, trouble := r.c.leads(now)
	r.leading.Store(leads)
	record, err := r.home.read(ctx, now)
	if err != nil {
		trouble = err.Error()
	}
	r.grumble(looking, trouble)
	r.servers.sync(r.endpoints())
	r.miss()
	if leads {
		r.lead(ctx, now, record)
	} else {
		r.follow(ctx, now, record)
	}
	if ctx.Err() == nil && r.live() {
		r.servers.probe(ctx, now, leads)
	}
}

// endpoints returns the servers of the pool.
func (r *rollout) endpoints() []*types.Endpoint {
	if p := r.c.o.Store.Snapshot().Pool(r.pool); p != nil {
		return p.Endpoints()
	}
	return nil
}

// live reports whether requests and servers are still to be looked at: not when it has failed.
func (r *rollout) live() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.known || r.state.Phase != Failed
}

// lead asks the Machine what to do, and does it.
func (r *rollout) lead(ctx context.Context, now time.Time, record *Record) {
	w := World{
		Record: record, Servers: r.servers.world(r.plan.Canary),
		InFlight: r.inFlight(), Saturation: r.saturation(),
	}
	heard := r.c.peers.windows(r, now)
	if r.yield(ctx, record) {
		return
	}

	actions, lost, ok := r.tick(now, record, &w, heard)
	if !ok {
		return
	}
	for _, name := range lost {
		r.tell(Event{At: now, Kind: Warned, Text: "gateway " + name + " is not heard any more: it goes on with what the others see"})
	}
	var byID map[string]*member
	wrote := false
	for _, a := range actions {
		switch a.Do {
		case DoLoad, DoUnload:
			if byID == nil {
				byID = r.servers.byID()
			}
			if s := byID[a.Server]; s != nil {
				r.servers.order(ctx, a.Do, s, a.Target)
			}
		case DoWrite:
			wrote = true
			r.write(ctx, a.Record)
		case DoTell:
			r.tell(a.Event)
		}
	}
	if !wrote && w.Record != nil { // there is nothing to write any more
		r.grumble(writing, "")
	}
	r.tend(ctx, w.Servers)
}

// tick asks the Machine, if there is one. It also returns the gateways that are not heard any more.
func (r *rollout) tick(now time.Time, record *Record, w *World, heard map[string]*Window) (actions []Action, lost []string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrote && record != nil && len(record.State) == 0 && r.machine != nil {
		if r.lacks(now) {
			r.machine, r.wrote = nil, false // the manifest is another one of the same name
		} else {
			w.Record = nil
		}
	} else {
		r.lacking = time.Time{}
	}
	if r.machine == nil && !r.open(now, record) {
		return nil, nil, false
	}
	r.claim = time.Time{}
	lost, r.lost = r.lost, nil
	for peer, window := range heard {
		r.machine.Hear(peer, window)
	}
	actions = r.machine.Tick(now, *w)
	r.learn()
	for _, v := range append(r.machine.Verdicts(), r.machine.stopped...) {
		r.looks[look{v.Metric, v.Result}]++
	}
	if r.machine.Over() && r.state.Phase != Done && r.state.Phase != Failed {
		r.machine, r.dropped = nil, true // another gateway has a newer plan
	}
	return actions, lost, true
}

// believed is how long a Home may say that there is no state, although it has kept one, before that is believed: it
// may have been read from a cache that is late.
const believed = 5 * time.Second

// lacks reports whether it is to be believed that the state has gone. Caller must hold r.mu.
func (r *rollout) lacks(now time.Time) bool {
	if r.lacking.IsZero() || now.Before(r.lacking) {
		r.lacking = now
	}
	return now.Sub(r.lacking) >= believed
}

// miss notes which gateways are not heard any more.
func (r *rollout) miss() {
	now := r.c.peers.names()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range r.peers {
		if !slices.Contains(now, name) && len(r.lost) < r.c.o.MaxEvents {
			r.lost = append(r.lost, name)
		}
	}
	r.peers = now
}

// open makes the Machine. It reports whether there is one. Caller must hold r.mu.
func (r *rollout) open(now time.Time, record *Record) bool {
	if record == nil {
		return false
	}
	if r.dropped {
		if s, err := DecodeState(record.State); err == nil && s.Plan != r.print {
			r.troubles[opening] = "another plan is in force, by another gateway"
			return false
		}
	}
	m, err := Open(r.plan, *record, now)
	if err != nil {
		r.troubles[opening] = err.Error()
		return false
	}
	r.machine, r.window, r.dropped, r.troubles[opening] = m, nil, false, ""
	r.learn()
	if r.state.Weight(r.plan.Canary) > 0 {
		r.servers.presume()
	}
	return true
}

// yield takes over the state of another gateway that led by itself, if that is safer than the one here. Then it reports
// true: it is read with the next look.
func (r *rollout) yield(ctx context.Context, record *Record) bool {
	strangers := r.c.peers.strangers(r)
	if len(strangers) == 0 || record == nil || !r.c.local {
		return false
	}
	r.mu.Lock()
	mine, known := r.state, r.machine != nil
	r.mu.Unlock()
	if !known {
		return false
	}
	safest := mine
	for _, s := range strangers {
		safest = safer(&r.plan, safest, s)
	}
	if danger(&r.plan, &safest) == danger(&r.plan, &mine) {
		r.c.peers.settle(r)
		return false
	}
	if !r.adopt(ctx, record, safest) {
		return false
	}
	r.c.peers.settle(r)
	r.mu.Lock()
	r.machine = nil
	r.mu.Unlock()
	r.tell(Event{At: r.c.o.Now(), Kind: Warned, Text: fmt.Sprintf(
		"gateways that had lost each other have met again: theirs in phase %s at %.4g %% is safer than %s at %.4g %% here, and is taken over",
		safest.Phase, percent(safest, &r.plan), mine.Phase, percent(mine, &r.plan))})
	r.kick()
	return true
}

// percent returns the share of the canary.
func percent(s State, p *Plan) float64 { return 100 * float64(s.Weight(p.Canary)) / TotalWeight }

// learn takes over what the Machine says of itself. Caller must hold r.mu.
func (r *rollout) learn() {
	before := r.state.Phase
	r.state, r.known = r.machine.State(), true
	switch v := r.machine.Verdicts(); {
	case r.machine.stopped != nil:
		r.verdicts = r.machine.stopped
	case v != nil || r.state.Phase == Loading || r.state.Phase == Stepping:
		r.verdicts = v // else it has ended, and people want to know by what
	}
	if (before == Failed) != (r.state.Phase == Failed) {
		r.c.look() // which servers requests may go to is another matter now
	}
}

// write has the Home keep a record, and tells the Machine what has become of it.
func (r *rollout) write(ctx context.Context, record Record) {
	revision, err := r.home.write(ctx, record)
	r.written(r.c.o.Now(), revision, err)
	if err != nil {
		r.grumble(writing, "weights could not be written: "+err.Error())
	} else {
		r.grumble(writing, "")
	}
	r.kick()
}

// written tells the Machine how a write has ended.
func (r *rollout) written(now time.Time, revision string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.machine != nil {
		r.machine.Written(now, revision, err)
		r.learn()
	}
	r.wrote = r.wrote || err == nil
}

// tend keeps the canary on the servers after it has won: one that comes, or begins anew, has not got it.
func (r *rollout) tend(ctx context.Context, servers []Server) {
	r.mu.Lock()
	over := r.known && r.state.Phase == Done && r.machine != nil && r.machine.Over()
	r.mu.Unlock()
	if !over || r.plan.Load.Source == "" {
		return
	}
	busy := 0
	for _, s := range servers {
		if s.Canary == HasLoading {
			busy++
		}
	}
	var byID map[string]*member
	for _, s := range servers {
		if !s.Ready || busy >= r.plan.Load.Parallel || s.Canary != HasNot && (s.Canary != HasFailed || s.Tries >= r.plan.Load.Tries) {
			continue
		}
		if byID == nil {
			byID = r.servers.byID()
		}
		busy++
		r.servers.order(ctx, DoLoad, byID[s.ID], r.plan.Canary)
	}
}

// follow does what a gateway does that does not lead: it counts, and takes over what the leader says.
func (r *rollout) follow(ctx context.Context, now time.Time, record *Record) {
	r.resign(now)
	state, ok := r.said(ctx, now, record)
	if !ok {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	moved := !r.known || state.Phase != r.state.Phase || state.Step != r.state.Step
	failed := (state.Phase == Failed) != (r.state.Phase == Failed)
	if r.window == nil || r.window.Epoch != state.Epoch {
		r.window = NewWindow(&r.plan, state.Epoch, now)
	}
	r.state, r.known = state, true
	if moved && state.Weight(r.plan.Canary) > 0 {
		r.servers.presume() // whoever leads has made sure
	}
	if failed {
		r.c.look()
	}
}

// resign has it lead no more, if it did. Its state is to be taken over by who leads now, if they led both.
func (r *rollout) resign(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.machine == nil {
		return
	}
	r.window, r.machine, r.verdicts, r.claim = r.machine.Window(), nil, nil, now
}

// said returns the state that the leader has said, or written into a Home that all have in common.
func (r *rollout) said(ctx context.Context, now time.Time, record *Record) (State, bool) {
	if !r.c.local {
		if record == nil {
			return State{}, false
		}
		state, err := DecodeState(record.State)
		return state, err == nil && state.Plan == r.print
	}
	state, leads, ok := r.c.peers.said(r)
	r.mu.Lock()
	mine, known, claim := r.state, r.known, r.claim
	r.mu.Unlock()
	if !claim.IsZero() {
		both := len(r.c.peers.strangers(r)) > 0
		waits := now.Sub(claim) >= 0 && now.Sub(claim) < insisting
		if waits && (!ok || !leads || both && danger(&r.plan, &mine) < danger(&r.plan, &state)) {
			return mine, known
		}
		r.c.peers.settle(r)
		r.mu.Lock()
		r.claim = time.Time{}
		r.mu.Unlock()
	}
	if !ok || !leads && known && state.Seq <= mine.Seq {
		if record == nil || known {
			return mine, known
		}
		state, err := DecodeState(record.State)
		return state, err == nil && state.Plan == r.print
	}
	r.adopt(ctx, record, state)
	return state, true
}

// adopt makes the weights in this gateway's own Home those of another one, and reports whether they are.
func (r *rollout) adopt(ctx context.Context, record *Record, state State) bool {
	if record == nil {
		return false
	}
	weights := state.Weights
	if state.Changed { // by somebody else, where the leader is
		weights = record.Weights
	}
	had, err := DecodeState(record.State)
	if err == nil && had.Plan == state.Plan && had.Seq == state.Seq && had.Phase == state.Phase && SameShares(record.Weights, weights) {
		return true
	}
	_, err = r.home.write(ctx, Record{Revision: record.Revision, Weights: weights, State: state.Encode()})
	if err != nil {
		r.grumble(writing, "the leader's weights could not be written: "+err.Error())
	} else {
		r.grumble(writing, "")
	}
	return err == nil
}

// inFlight returns how many requests both targets have, at all gateways.
func (r *rollout) inFlight() map[string]int {
	t := r.c.traffic.Load()
	if t == nil {
		return nil
	}
	n := r.c.peers.inFlight(r)
	for _, name := range []string{r.plan.Stable, r.plan.Canary} {
		n[name] += t.inFlight(name)
	}
	return n
}

func (r *rollout) saturation() (full float64) {
	if r.c.o.Saturation == nil {
		return math.NaN()
	}
	if !r.c.panics.Call("Options.Saturation", func() { full = r.c.o.Saturation(r.pool) }) {
		return math.NaN()
	}
	return full
}

// command does what a person wants.
func (r *rollout) command(f func(*Machine, time.Time) error) error {
	now := r.c.o.Now()
	leads, _ := r.c.leads(now)
	if !leads {
		return fmt.Errorf("rollout: %s: %w: ask %s", r.object, ErrFollows, r.c.leader(now))
	}
	defer r.kick()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.machine == nil {
		if trouble := r.trouble(); trouble != "" {
			return fmt.Errorf("rollout: %s: %w: %s", r.object, ErrNotBegun, trouble)
		}
		return fmt.Errorf("rollout: %s: %w", r.object, ErrNotBegun)
	}
	err := f(r.machine, now)
	if err == nil {
		r.learn()
	}
	return err
}

// forget has the Home forget the rollout: its manifest asks for it no more.
func (r *rollout) forget() {
	ctx, stop := context.WithTimeout(context.Background(), homeTime)
	defer stop()
	if leads, _ := r.c.leads(r.c.o.Now()); leads || r.c.local {
		r.home.forget(ctx)
	}
}

// tell tells people of an event.
func (r *rollout) tell(e Event) {
	e.Object = r.object
	r.mu.Lock()
	if most := r.c.o.MaxEvents; len(r.events) >= most {
		r.events = slices.Delete(r.events, 0, len(r.events)-most+1)
	}
	r.events = append(r.events, e)
	r.counted++
	r.mu.Unlock()
	r.c.o.Logger.Info("rollout: "+e.Text, "object", r.object.String(), "event", string(e.Kind))
	if r.c.o.OnEvent == nil {
		return
	}
	r.c.panics.Call("Options.OnEvent", func() { r.c.o.OnEvent(e) })
}

// trouble is a part of the work that something may be in the way of.
type trouble uint8

const (
	looking trouble = iota // who leads, and what the Home has
	opening                // the plan and the state
	writing                // the weights
)

// trouble returns all that is in the way. Caller must hold r.mu.
func (r *rollout) trouble() string {
	var all []string
	for _, text := range r.troubles {
		if text != "" {
			all = append(all, text)
		}
	}
	return strings.Join(all, "; ")
}

// grumble says what is in the way of a part of the work, and tells the Logger if that is new. Empty: nothing is.
func (r *rollout) grumble(about trouble, text string) {
	r.mu.Lock()
	same := r.troubles[about] == text
	r.troubles[about] = text
	r.mu.Unlock()
	if !same && text != "" {
		r.c.o.Logger.Warn("rollout: "+text, "object", r.object.String())
	}
}
