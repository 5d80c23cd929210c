package rollout

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/types"
)

// This file is what is known of the canary at the servers of a rollout's pool: they are asked again and
// again, and told to load and to unload.

const (
	// probeEvery is how often a server is asked whether it has the canary, and probeSoon how often one of which
	// that is not known, or that another gateway may have told to load it.
	probeEvery = 30 * time.Second
	probeSoon  = 5 * time.Second
	// doubtEvery bounds how often a server is asked because of what it has answered to requests: clients can ask for
	// what no server has.
	doubtEvery = time.Second
	// probeTime is how long an answer may take, and probesAtOnce how many servers are asked at a time.
	probeTime    = 10 * time.Second
	probesAtOnce = 16
)

// member is one server of the pool.
type member struct {
	load *types.Load
	// open says that requests for the canary may go there.
	open atomic.Bool

	// guarded by fleet.mu
	ep          *types.Endpoint
	canary      Has
	stable      Has
	presumed    bool // it was there when the rollout went on with traffic, and is taken to have the canary until it was asked
	tries       int
	err         string
	incarnation uint64
	calling     bool      // to load or to unload
	probing     bool      // or it is queued for that
	stuck       bool      // a call does not return
	asked       time.Time // when it answered last, or did not; zero: it is to be asked
	doubted     time.Time // when that was made so by what a request was answered, last
	gone        bool
}

// settle makes open say what is known. Caller must hold fleet.mu.
func (s *member) settle() {
	s.open.Store(!s.gone && (s.canary == HasIt || s.canary == HasUnknown && s.presumed))
}

// fleet is the servers of a rollout.
type fleet struct {
	r *rollout

	mu sync.Mutex
	// guarded by mu
	of      map[*types.Load]*member
	queue   []*member // that are to be asked
	probers int
}

// sync makes the list that of the pool.
func (v *fleet) sync(eps []*types.Endpoint) {
	v.mu.Lock()
	defer v.mu.Unlock()
	changed := false
	for _, ep := range eps {
		s := v.of[ep.Load]
		if s == nil {
			s = &member{load: ep.Load}
			v.of[ep.Load] = s
			changed = true
		}
		s.ep, s.gone = ep, false
		s.settle()
	}
	if len(v.of) > len(eps) {
		there := make(map[*types.Load]bool, len(eps))
		for _, ep := range eps {
			there[ep.Load] = true
		}
		for load, s := range v.of {
			if !there[load] {
				s.gone = true
				s.settle()
				delete(v.of, load)
				changed = true
			}
		}
	}
	if changed {
		v.publishLocked()
	}
}

// publishLocked makes the list that requests look at. Caller must hold v.mu.
func (v *fleet) publishLocked() {
	most := 0
	for _, s := range v.of {
		most = max(most, int(s.ep.Slot)+1)
	}
	list := make(members, most)
	for _, s := range v.of {
		list[s.ep.Slot] = s
	}
	v.r.members.Store(&list)
}

// restarted forgets what a server had, if it is one of these.
func (v *fleet) restarted(load *types.Load) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.of[load]
	if s == nil {
		return
	}
	s.incarnation++
	s.presumed, s.tries, s.err, s.asked = false, 0, "", time.Time{}
	s.stable = HasUnknown
	if !s.calling {
		s.canary = HasUnknown
	}
	s.settle()
}

// doubt makes it a server's turn to be asked, unless that was so just now. It reports whether it is. What requests were
// answered is no proof: its doors are closed when it says itself that it has not got the canary.
func (v *fleet) doubt(s *member) bool {
	now := v.r.c.o.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if since := now.Sub(s.doubted); since >= 0 && since < doubtEvery {
		return false
	}
	s.asked, s.doubted = time.Time{}, now
	return true
}

// presume takes those that are said to lack the canary to have it, until they were asked again: another
// gateway has gone on, and must have loaded it.
func (v *fleet) presume() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.of {
		if s.canary == HasNot || s.canary == HasUnknown {
			s.canary, s.presumed, s.asked = HasUnknown, true, time.Time{}
			s.settle()
		}
	}
}

// world returns the servers as a Machine is told of them.
func (v *fleet) world(canary string) []Server {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]Server, 0, len(v.of))
	for _, s := range v.of {
		one := Server{
			ID: s.ep.ID, Ready: s.ep.State == types.Ready, Incarnation: s.incarnation,
			Canary: s.canary, Stable: s.stable, Tries: s.tries, Err: s.err,
		}
		if most, ok := s.ep.Metrics.MaxAdapters.Value(); ok && most > 0 {
			one.Slots, one.Used = int(most), adaptersBut(&s.ep.Metrics, canary)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// adaptersBut counts the adapters that are in use, but for one.
func adaptersBut(m *types.Metrics, one string) (n int) {
	for _, name := range m.RunningAdapters {
		if name != one {
			n++
		}
	}
	for _, name := range m.WaitingAdapters {
		if name != one && !slices.Contains(m.RunningAdapters, name) {
			n++
		}
	}
	return n
}

// byID returns the servers by their IDs.
func (v *fleet) byID() map[string]*member {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make(map[string]*member, len(v.of))
	for _, s := range v.of {
		all[s.ep.ID] = s
	}
	return all
}

// order tells a server to load or to unload a target, and returns at once.
func (v *fleet) order(ctx context.Context, do Do, s *member, target string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	has := v.place(s, target)
	if s.gone || s.calling {
		return
	}
	if s.stuck {
		*has, s.err = HasFailed, "a call before does not return"
		if do == DoLoad {
			s.tries++
		}
		s.settle()
		return
	}
	*has, s.calling, s.presumed = HasLoading, true, false
	s.settle() // before it is unloaded
	ep, incarnation := s.ep, s.incarnation
	v.r.running.Go(func() {
		defer v.r.kick()
		v.r.c.panics.Call("a call of the Loader", func() { v.carryOut(ctx, do, s, target, ep, incarnation) })
	})
}

// carryOut has a server load or unload a target.
func (v *fleet) carryOut(ctx context.Context, do Do, s *member, target string, ep *types.Endpoint, incarnation uint64) {
	plan := &v.r.plan
	call, stop := context.WithTimeout(ctx, plan.Load.Timeout)
	defer stop()
	hangs, err := contain(call, func(ctx context.Context) error {
		if do == DoLoad {
			return v.r.c.o.Loader.Load(ctx, ep, target, plan.Load.Source)
		}
		return v.r.c.o.Loader.Unload(ctx, ep, target)
	})
	if v.done(ctx, do, s, target, incarnation, err) {
		v.r.list(s.load)
	}
	v.loose(s, hangs)
}

// place returns what is known of one of both targets at a server. Caller must hold v.mu.
func (v *fleet) place(s *member, target string) *Has {
	if target == v.r.plan.Stable {
		return &s.stable
	}
	return &s.canary
}

// done says how a call has ended, and reports whether the canary is there now.
func (v *fleet) done(ctx context.Context, do Do, s *member, target string, incarnation uint64, err error) (there bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	has := v.place(s, target)
	s.calling = false
	switch {
	case ctx.Err() != nil, s.incarnation != incarnation: // the rollout ends; the server has begun anew meanwhile
		*has, s.asked = HasUnknown, time.Time{}
	case err != nil:
		*has, s.err = HasFailed, errorText(err)
		if do == DoLoad {
			s.tries++
			if permanent(err) {
				s.tries = max(s.tries, v.r.plan.Load.Tries)
			}
		}
	case do == DoLoad:
		*has, s.tries, s.err, s.asked = HasIt, 0, "", v.r.c.o.Now()
	default:
		*has, s.err = HasNot, ""
	}
	s.settle()
	return s.canary == HasIt
}

// loose asks nothing more of a server while a call hangs, if it does.
func (v *fleet) loose(s *member, hangs <-chan struct{}) {
	if hangs == nil {
		return
	}
	v.mu.Lock()
	s.stuck = true
	v.mu.Unlock()
	go func() { // it is the loader's: it ends when that returns
		<-hangs
		v.mu.Lock()
		defer v.mu.Unlock()
		s.stuck, s.asked = false, time.Time{}
	}()
}

// permanent reports whether an error says that the same call fails again, as those of package loader do.
func permanent(err error) bool {
	var p interface{ Permanent() bool }
	return errors.As(err, &p) && p.Permanent()
}

// maxErrorText bounds what is kept of an error, in bytes.
const maxErrorText = 500

func errorText(err error) string {
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText] + "…"
	}
	return text
}

// due reports whether it is a server's turn to be asked. leads says that this gateway loads: then nobody
// else does.
func (s *member) due(now time.Time, leads bool) bool {
	if s.calling || s.probing || s.stuck {
		return false
	}
	every := probeEvery
	if s.canary == HasUnknown || s.canary == HasNot && !leads {
		every = probeSoon
	}
	// A clock that was set back must not put it off.
	return s.asked.IsZero() || now.Before(s.asked) || now.Sub(s.asked) >= every
}

// probe asks those servers whose turn it is, the longest time first.
func (v *fleet) probe(ctx context.Context, now time.Time, leads bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := len(v.queue)
	for _, s := range v.of {
		if s.due(now, leads) {
			s.probing = true
			v.queue = append(v.queue, s)
		}
	}
	slices.SortFunc(v.queue[before:], func(a, b *member) int {
		return cmp.Or(a.asked.Compare(b.asked), cmp.Compare(a.ep.ID, b.ep.ID))
	})
	for free := len(v.queue); free > 0 && v.probers < probesAtOnce; free-- {
		v.probers++
		v.r.running.Go(func() { v.r.c.panics.Call("a probe", func() { v.prober(ctx) }) })
	}
}

// prober asks servers until there is none to ask.
func (v *fleet) prober(ctx context.Context) {
	for {
		v.mu.Lock()
		if len(v.queue) == 0 || ctx.Err() != nil {
			v.probers--
			v.mu.Unlock()
			v.r.kick()
			return
		}
		s := v.queue[0]
		v.queue = v.queue[1:]
		ep, incarnation := s.ep, s.incarnation
		v.mu.Unlock()
		if !v.r.c.panics.Call("a probe", func() { v.ask(ctx, s, ep, incarnation) }) {
			v.answered(ctx, s, incarnation, false, HasUnknown, errors.New("rollout: it panicked"))
		}
	}
}

// ask asks one server whether it has the canary, and the stable target if that is to be unloaded some day.
func (v *fleet) ask(ctx context.Context, s *member, ep *types.Endpoint, incarnation uint64) {
	plan := &v.r.plan
	call, stop := context.WithTimeout(ctx, min(probeTime, plan.Load.Timeout))
	defer stop()
	has, stable := false, HasUnknown
	hangs, err := contain(call, func(ctx context.Context) error {
		found, err := v.r.c.o.Loader.Loaded(ctx, ep, plan.Canary, plan.Load.Source)
		has = found
		if err == nil && plan.Load.Unload {
			stable = v.asked(ctx, ep, plan.Stable)
		}
		return err
	})
	v.loose(s, hangs)
	told := HasUnknown
	if hangs == nil { // else it may be written still
		told = stable
	}
	if v.answered(ctx, s, incarnation, err == nil && has, told, err) {
		if err == nil && has {
			v.r.list(s.load)
		}
		v.r.kick()
	}
}

// asked asks a server whether it has the stable target.
func (v *fleet) asked(ctx context.Context, ep *types.Endpoint, target string) Has {
	switch has, err := v.r.c.o.Loader.Loaded(ctx, ep, target, ""); {
	case err != nil:
		return HasUnknown
	case has:
		return HasIt
	}
	return HasNot
}

// answered takes over what a server has said, and reports whether it is something new.
func (v *fleet) answered(ctx context.Context, s *member, incarnation uint64, has bool, stable Has, err error) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	s.probing = false
	if s.incarnation != incarnation || s.calling || ctx.Err() != nil {
		return false // it says nothing of what is now
	}
	s.asked = v.r.c.o.Now()
	if stable != HasUnknown {
		s.stable = stable
	}
	before := s.canary
	switch {
	case err != nil:
		// What was known goes on being used: a busy server does not lose its adapters.
		if s.canary == HasUnknown {
			s.err = errorText(err)
		}
		return false
	case has:
		s.canary, s.tries, s.err = HasIt, 0, ""
	case s.canary != HasFailed: // else it is as it was
		s.canary, s.err = HasNot, ""
	}
	s.presumed = false
	s.settle()
	return s.canary != before
}

// counts returns how many servers are in which state, for people.
func (v *fleet) counts() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := map[string]int{}
	for _, s := range v.of {
		n[s.canary.String()]++
	}
	return n
}

// list returns what is known of each, in the order of their IDs.
func (v *fleet) list() []ServerStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := make([]ServerStatus, 0, len(v.of))
	for _, s := range v.of {
		all = append(all, ServerStatus{
			ID: s.ep.ID, Ready: s.ep.State == types.Ready, Canary: s.canary.String(), Stable: s.stable.String(),
			Open: s.open.Load(), Tries: s.tries, Error: s.err,
		})
	}
	slices.SortFunc(all, func(a, b ServerStatus) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
