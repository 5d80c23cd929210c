package scheduling

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/inferpick/inferpick/types"
)

// Errors for Hooks.Warned. They name the field to set.
var (
	// ErrNoPrompt: the prompt is unknown, so prefix caches cannot be taken into account.
	ErrNoPrompt = errors.New("scheduling: Request.Prompt has no Spans: fill it in with openai.Parse, types.TextPrompt, types.TokenPrompt or types.BlockPrompt; if there is no prompt, set Spans to an empty list that is not nil")
	// ErrNoSlots: several endpoints have the same Slot, which makes decisions slower.
	ErrNoSlots = errors.New("scheduling: endpoints have the same Slot: number them, or feed the scheduler from an EndpointList or a datastore")
	// ErrNoLoad: an endpoint cannot be booked, and so not be chosen.
	ErrNoLoad = errors.New("scheduling: each endpoint needs a Load: make it with types.NewEndpoint, or feed the scheduler from an EndpointList or a datastore")
	// ErrAddress: an endpoint has no Address, or the same one as another.
	ErrAddress = errors.New("scheduling: each endpoint needs an Address of its own")
)

// warnings are those already reported.
type warnings struct {
	prompt, slots, load, address atomic.Bool
	longest                      atomic.Int64 // list of endpoints checked
}

// warn reports what a decision lacks. A list is checked again only if it is more than twice as long
// as before, so that the total cost is that of the longest list.
func (s *Scheduler) warn(req *types.Request, eps []*types.Endpoint) {
	if s.profile.Hooks.Warned == nil {
		return
	}
	if req.Prompt.Spans == nil && s.estimator != nil {
		s.warnOnce(&s.warnings.prompt, req, ErrNoPrompt)
	}
	longest := s.warnings.longest.Load()
	if n := int64(len(eps)); n <= 2*longest || !s.warnings.longest.CompareAndSwap(longest, n) {
		return
	}
	s.warnOfList(req, eps)
}

func (s *Scheduler) warnOfList(req *types.Request, eps []*types.Endpoint) {
	slots := make(map[uint32]bool, len(eps))
	type place struct {
		address string
		rank    types.Rank
	}
	places := make(map[place]int, len(eps))
	for i, ep := range eps {
		if ep.Load == nil {
			s.warnOnce(&s.warnings.load, req, fmt.Errorf("%w (endpoint %d, ID %q, has none)", ErrNoLoad, i, ep.ID))
		}
		if slots[ep.Slot] {
			s.warnOnce(&s.warnings.slots, req, fmt.Errorf("%w (endpoint %d, ID %q, Slot %d)", ErrNoSlots, i, ep.ID, ep.Slot))
		}
		at := place{ep.Address, ep.Rank}
		if first, twice := places[at]; ep.Address == "" {
			s.warnOnce(&s.warnings.address, req, fmt.Errorf("%w: that of endpoint %d, ID %q, is empty, want host:port", ErrAddress, i, ep.ID))
		} else if twice {
			s.warnOnce(&s.warnings.address, req, fmt.Errorf("%w: that of endpoint %d, %q, is that of endpoint %d too", ErrAddress, i, ep.Address, first))
		}
		slots[ep.Slot], places[at] = true, i
	}
}

func (s *Scheduler) warnOnce(told *atomic.Bool, req *types.Request, err error) {
	if told.Swap(true) {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			s.failed(req, panicked("hook", "Warned", v))
		}
	}()
	s.profile.Hooks.Warned(req, err)
}
