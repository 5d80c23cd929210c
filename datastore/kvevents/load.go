package kvevents

import (
	"context"
	"fmt"
	"time"

	"github.com/inferpick/inferpick/internal/msgpack"
)

// Load is what one rank of an engine pushes about its load.
type Load struct {
	Running int // requests in the batch
	Waiting int // requests in the queue

	MaxRunning int   // most requests that may run; 0: unknown
	KVUsed     int64 // tokens
	KVMax      int64 // tokens that there is room for

	WaitingTokens int64 // tokens of waiting requests that are not cached; 0 is none or unknown
	QueuedTokens  int64 // tokens that are held, those of waiting requests included; 0 is none or unknown

	// PrefillTokens are all tokens that were prefilled, and PrefillBusy the time that took, since
	// the engine started. Both 0 if unknown.
	PrefillTokens uint64
	PrefillBusy   time.Duration

	// PrefillRate is in tokens per second of prefill: since the reading before, if there was
	// enough prefill since then to tell, else since the start. 0 is unknown.
	PrefillRate float64
}

// loadStream follows the load of one rank. A reading replaces the one before, so nothing is
// missed by coming late.
type loadStream struct {
	*target
	source rankSource
	health *health
	rates  prefillRate
}

func (t *target) newLoadStream(s rankSource) *loadStream {
	return &loadStream{target: t, source: s, health: t.newHealth(s.rank, "tcp://"+s.load)}
}

func (s *loadStream) loop(ctx context.Context) { s.health.persist(ctx, s.session) }

func (s *loadStream) session(ctx context.Context) error {
	conn, err := s.dial(ctx, s.source.load, subscriber)
	if err != nil {
		return err
	}
	if err := conn.Subscribe(s.source.loadTopic); err != nil {
		return fmt.Errorf("kvevents: %w", err)
	}
	s.health.connects()
	s.rates = prefillRate{}
	for {
		frames, err := conn.Receive()
		if err != nil {
			return fmt.Errorf("kvevents: %w", err)
		}
		if len(frames) != 3 {
			return notBatch(frames)
		}
		if s.source.loadTopic != "" && string(frames[0]) != s.source.loadTopic {
			s.counts.foreign.Add(1)
			continue
		}
		load, err := decodeLoad(frames[2])
		if err != nil {
			s.health.tell(batchError, err)
			continue
		}
		load.PrefillRate = s.rates.next(load)
		s.counts.loads.Add(1)
		s.health.works()
		func() {
			defer s.recovered(s.health.failure)
			s.opt.OnLoad(s.plan.name, s.source.rank, load)
		}()
	}
}

// decodeLoad decodes ["LoadStat", …]. Older engines send fewer values, newer ones may send more.
func decodeLoad(payload []byte) (Load, error) {
	var r msgpack.Reader
	r.Reset(payload)
	n := r.Array()
	if tag := r.Bytes(); r.Err() == nil && (string(tag) != "LoadStat" || n < 5) {
		return Load{}, fmt.Errorf("kvevents: %d values that begin with %.40q, want 5 or more with LoadStat", n, tag)
	}
	var v [10]int64
	for i := range min(n-1, len(v)) {
		if r.Kind() == msgpack.Int {
			v[i] = max(0, r.Int())
		} else {
			r.Skip()
		}
	}
	if r.Err() != nil {
		return Load{}, fmt.Errorf("kvevents: a load cannot be read: %w", r.Err())
	}
	return Load{
		Running: clampInt(uint64(v[0])), Waiting: clampInt(uint64(v[1])), KVUsed: v[2], KVMax: v[3], // v[4] is the rank
		WaitingTokens: v[5], QueuedTokens: v[6], MaxRunning: clampInt(uint64(v[7])),
		PrefillTokens: uint64(v[8]), PrefillBusy: time.Duration(min(v[9], maxMicroseconds)) * time.Microsecond,
	}, nil
}

const maxMicroseconds = int64(1<<63-1) / int64(time.Microsecond)

// prefillRate makes a rate of counts that grow.
type prefillRate struct {
	before Load
	rate   float64
}

// next takes a reading and returns the rate. It stays what it was while there is too little
// prefill between two readings to tell.
func (p *prefillRate) next(l Load) float64 {
	const enough = 10 * time.Millisecond
	if l.PrefillBusy < p.before.PrefillBusy || l.PrefillTokens < p.before.PrefillTokens {
		*p = prefillRate{} // another process
	}
	tokens, busy := l.PrefillTokens-p.before.PrefillTokens, l.PrefillBusy-p.before.PrefillBusy
	if busy >= enough {
		p.rate = float64(tokens) / busy.Seconds()
		p.before = l
	}
	return p.rate
}
