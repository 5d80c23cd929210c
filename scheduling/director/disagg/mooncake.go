package disagg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/jsonedit"
)

// Mooncake is vLLM's MooncakeConnector: the gateway makes the id of a transfer and sends both
// legs at once. Before, it asks the prefill engine's bootstrap port which engine it is, and
// remembers that. Of the options it needs Query, Port, PortLabel, Rank, Remember, MaxEngines,
// MaxParams, Now and Rand.
func Mooncake(o Options) (Protocol, error) {
	if o.Query == nil {
		return nil, errors.New("disagg: Options.Query is missing: Mooncake's protocol has to ask the prefill engines")
	}
	return &mooncake{o: o.withDefaults(8998), engines: map[string]*engine{}}, nil
}

type mooncake struct {
	o Options

	mu      sync.Mutex
	engines map[string]*engine // by the address of the bootstrap port
}

// engine is what a prefill engine said of itself.
type engine struct {
	asked time.Time
	done  chan struct{} // closed when the rest is set
	ranks []engineRank  // in order
	err   error
}

type engineRank struct {
	rank int
	id   []byte // JSON
}

func (p *mooncake) Begin(ctx context.Context, r Request) (Handover, error) {
	a, err := judge(r, vllm...)
	if err == nil {
		err = a.once()
	}
	if err != nil {
		return nil, err
	}
	port, err := p.o.portOf(r.Prefill)
	if err != nil {
		return nil, err
	}
	address := "http://" + hostOf(r.Prefill) + ":" + strconv.Itoa(port)
	e, err := p.engine(ctx, address)
	if err != nil {
		return nil, err
	}
	at, err := p.choose(e, r, address)
	if err != nil {
		return nil, err
	}

	id := `"transfer_id":"xfer-` + hex(p.o.Rand()) + hex(p.o.Rand()) + `"`
	prefill, err := a.oneToken([]byte(`{"do_remote_decode":true,"do_remote_prefill":false,` + id + `}`))
	if err != nil {
		return nil, err
	}
	params := append([]byte(`{"do_remote_decode":false,"do_remote_prefill":true,`+id+`,"remote_bootstrap_addr":`), jsonedit.Quote(address)...)
	params = append(append(append(params, `,"remote_engine_id":`...), at.id...), '}')
	decode, err := a.edit(jsonedit.Edit{Key: keyKV, Value: params})
	if err != nil {
		return nil, err
	}
	return &mooncakeHandover{
		p: p, address: address, engine: e,
		prefill: r.leg(prefill, strconv.Itoa(at.rank)), decode: r.leg(decode, p.o.rankHeader(r.Decode)),
	}, nil
}

// choose returns the rank that the endpoint stands for, or any.
func (p *mooncake) choose(e *engine, r Request, address string) (engineRank, error) {
	rank, size := p.o.rankOf(r.Prefill)
	if size < 2 {
		return e.ranks[p.o.Rand()%uint64(len(e.ranks))], nil
	}
	for _, at := range e.ranks {
		if at.rank == rank {
			return at, nil
		}
	}
	return engineRank{}, blame("%s/query knows no rank %d", address, rank)
}

// engine returns what the engine at the address has said of itself not long ago. It is asked
// once for all who want to know.
func (p *mooncake) engine(ctx context.Context, address string) (*engine, error) {
	for {
		p.mu.Lock()
		e := p.engines[address]
		now := p.o.Now()
		ask := e == nil || now.Sub(e.asked) >= p.o.Remember
		if ask {
			e = &engine{asked: now, done: make(chan struct{})}
			p.makeRoom(address)
			p.engines[address] = e
		}
		p.mu.Unlock()

		if ask {
			p.ask(ctx, address, e)
		}
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case e.err == nil:
			return e, nil
		case ask || !isDone(e.err):
			return nil, e.err
		}
		// Who asked has gone, and the answer with it.
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// isDone reports whether a query failed because the request that it was made for had ended.
func isDone(err error) bool { return !errors.Is(err, ErrPrefill) }

// ask asks the engine. One that gives no answer is not remembered.
func (p *mooncake) ask(ctx context.Context, address string, e *engine) {
	e.err = blame("%s/query: the query panicked", address)
	defer func() {
		if e.err != nil {
			p.forget(address, e)
		}
		close(e.done)
	}()
	const patience = 5 * time.Second // as long as vLLM's own waits
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := p.o.Query(asking, address+"/query")
	switch {
	case ctx.Err() != nil:
		e.err = ctx.Err()
	case err != nil:
		e.err = fmt.Errorf("disagg: %w: %s/query: %w", ErrPrefill, address, err)
	default:
		e.ranks, e.err = readEngine(answer, address, p.o.MaxParams)
	}
}

// forget is to be called when what an engine said of itself is not, or no longer, true.
func (p *mooncake) forget(address string, e *engine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.engines[address] == e {
		delete(p.engines, address)
	}
}

// makeRoom sees to it that there is room for the address. The caller holds p.mu.
func (p *mooncake) makeRoom(address string) {
	if _, ok := p.engines[address]; ok || len(p.engines) < p.o.MaxEngines {
		return
	}
	oldest := ""
	for a, e := range p.engines {
		if oldest == "" || e.asked.Before(p.engines[oldest].asked) {
			oldest = a
		}
	}
	delete(p.engines, oldest)
}

// readEngine reads the answer to a query: an object with an engine_id for each rank.
func readEngine(answer []byte, address string, limit int) ([]engineRank, error) {
	if len(answer) > limit {
		return nil, blame("%s/query answered with %d bytes; the limit is %d", address, len(answer), limit)
	}
	ids := map[int][]byte{}
	err := jsonedit.Each(answer, func(key, value []byte) {
		rank, err := strconv.ParseUint(string(key), 10, 31)
		if err != nil {
			return
		}
		delete(ids, int(rank))
		if f, err := read(value, "engine_id"); err == nil && jsonedit.Text(f["engine_id"]) != "" {
			ids[int(rank)] = slices.Clone(f["engine_id"])
		}
	})
	if err != nil {
		return nil, blame("%s/query: %v", address, err)
	}
	if len(ids) == 0 {
		return nil, blame("%s/query names no engine_id: %s", address, short(answer))
	}
	ranks := make([]engineRank, 0, len(ids))
	for _, rank := range slices.Sorted(maps.Keys(ids)) {
		ranks = append(ranks, engineRank{rank, ids[rank]})
	}
	return ranks, nil
}

type mooncakeHandover struct {
	p               *mooncake
	address         string
	engine          *engine
	prefill, decode Leg
}

func (h *mooncakeHandover) AtOnce() bool                  { return true }
func (h *mooncakeHandover) Prefill() Leg                  { return h.prefill }
func (h *mooncakeHandover) Decode([]byte) (Decode, error) { return Decode{Leg: h.decode}, nil }

// Abort forgets which engine it was: one that was started anew has another id.
func (h *mooncakeHandover) Abort() (Leg, bool) {
	h.p.forget(h.address, h.engine)
	return Leg{}, false
}
