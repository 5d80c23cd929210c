package plugins

import (
	"sync"
	"sync/atomic"

	"github.com/inferpick/inferpick/internal/cost"
	"github.com/inferpick/inferpick/types"
)

// costCell is what Cost keeps of one endpoint: first what decisions read, without a lock and
// in one line of the processor's cache, then what few of them do, and what is behind a lock.
type costCell struct {
	row    cost.Row
	claims cost.Claims // decisions for it that are under way
	// reading is the reading that the row comes from.
	reading atomic.Pointer[types.Endpoint]
	partly  atomic.Bool  // its reading is not believed in full
	media   atomic.Int32 // 1 + its slot in the index of media; 0: it has none
	place   uint64       // see cost.HomeRank; it does not change
	server  *costServer
	// kin says with whom it can serve a request together; nil: it is not known, as where nobody
	// computes prompts for others.
	kin    atomic.Pointer[kinship]
	moving cost.Float // tokens of prompts that are handed over, from here or to here
	// backlog is what it has to denoise; nil: nothing is known, as where nobody asks for pictures.
	backlog atomic.Pointer[cost.Backlog]
}

// costServer is the state of one endpoint, and its lock.
type costServer struct {
	cell *costCell // what it publishes to

	mu sync.Mutex
	// guarded by mu
	*cost.Server
	reading *types.Endpoint
	rate    float64 // of prefill, as the server told it when that was learned from; 0: it does not tell
	gone    bool    // it was forgotten: only the requests that are there know it
}

// publish makes the state what decisions see. Caller must hold s.mu.
func (s *costServer) publish() {
	f := s.Figures()
	s.cell.row.Store(&f)
	if b := s.Backlog(); b != nil {
		if old := s.cell.backlog.Load(); old == nil || *old != *b {
			now := *b
			s.cell.backlog.Store(&now)
		}
	}
	if s.cell.reading.Load() != s.reading {
		s.cell.reading.Store(s.reading)
	}
}

// speed is cost.Server.Speed.
func (s *costServer) speed(m *cost.Model, v *cost.View) (token, step, sequence float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Speed(m, v)
}

// requests returns how many of this process are there, and how many of them wait for a first token.
func (s *costServer) requests() (n, prefilling int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Requests()
}

// facts returns what explanations say of it.
func (s *costServer) facts() cost.Facts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Facts()
}
