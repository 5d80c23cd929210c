package kvevents

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// poller asks TensorRT-LLM for events by HTTP. An answer has all events since the last one, which
// are gone from the engine then; each has a number, so that it shows if some are missing. There is
// nothing to replay.
type poller struct {
	*target
	source rankSource
	health *health
	method string // POST, or GET where that is not allowed

	window int // of attention: what the blocks of smaller ones hold is less than the prefix
	ranks  map[int]*polled
}

// polled is one rank.
type polled struct {
	where  position
	teller teller
	batch  []Event
}

func (t *target) newPoller(s rankSource) *poller {
	return &poller{target: t, source: s, health: t.newHealth(s.rank, s.poll), method: http.MethodPost, ranks: map[int]*polled{}}
}

func (p *poller) loop(ctx context.Context) {
	p.health.persist(ctx, func(ctx context.Context) error {
		for {
			panicked, err := p.health.try(p.poll)
			for _, r := range p.ranks {
				if panicked { // in the middle of something
					p.forget(r)
				}
				if err != nil {
					r.teller.state(Unsynced)
				}
			}
			if err != nil {
				return err
			}
			p.health.works()
			if !sleep(ctx, p.opt.PollInterval) {
				return nil
			}
		}
	})
}

// poll asks once and tells what came.
func (p *poller) poll() error {
	body, status, err := p.request(p.method, p.source.poll)
	if err == nil && status == http.StatusMethodNotAllowed && p.method == http.MethodPost {
		p.method = http.MethodGet
		body, status, err = p.request(p.method, p.source.poll)
	}
	switch {
	case err != nil:
		return err
	case status != http.StatusOK:
		return fmt.Errorf("%w: TensorRT-LLM has events if kv_cache_config has event_buffer_max_size", statusError(p.method+" "+p.source.poll, status))
	}
	var events []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return fmt.Errorf("kvevents: the answer is no list of events: %w", err)
	}
	for _, raw := range events {
		var e polledEvent
		if err := json.Unmarshal(raw, &e); err != nil {
			p.counts.skipped.Add(1)
			p.health.tell(batchError, fmt.Errorf("kvevents: an event cannot be read: %w", err))
			continue
		}
		p.take(&e)
	}
	for _, r := range p.ranks {
		p.flush(r)
	}
	return nil
}

// take takes one event, in the order of its rank.
func (p *poller) take(e *polledEvent) {
	r := p.rankOf(e.Rank)
	if r == nil {
		p.counts.skipped.Add(1)
		return
	}
	if e.Window > p.window {
		if p.window > 0 { // what was told so far is of a smaller one
			for _, other := range p.ranks {
				p.forget(other)
			}
		}
		p.window = e.Window
	}
	if r.where.have && e.ID > r.where.next {
		p.counts.gaps.Add(1)
		p.forget(r)
	}
	r.where.same = true // there is no connection to tell by, only the numbers
	st := r.where.live(e.ID, 0, false)
	if st.reset {
		p.reset(r)
	}
	if st.do == apply && (e.Window == 0 || e.Window == p.window) {
		r.batch = e.appendTo(r.batch)
	}
}

// rankOf returns a rank of the endpoint, nil if there are too many.
func (p *poller) rankOf(rank int) *polled {
	rank += p.source.rank
	r := p.ranks[rank]
	if r == nil && rank >= 0 && len(p.ranks) < p.opt.MaxRanks {
		f := p.health.failure
		f.Rank = rank
		r = &polled{teller: teller{target: p.target, rank: rank, failure: f}}
		r.where.connect(false)
		p.ranks[rank] = r
	}
	return r
}

// forget forgets a rank.
func (p *poller) forget(r *polled) {
	r.where.forget()
	p.reset(r)
}

// reset tells that a rank is forgotten, instead of what was about to be told of it.
func (p *poller) reset(r *polled) {
	clear(r.batch)
	r.batch = r.batch[:0]
	r.teller.reset()
}

// flush tells what has come of a rank.
func (p *poller) flush(r *polled) {
	r.teller.state(r.where.state())
	if len(r.batch) > 0 {
		r.teller.apply(r.batch)
	}
	clear(r.batch)
	r.batch = r.batch[:0]
	if r.teller.panicked {
		r.teller.panicked = false
		p.forget(r)
	}
}
