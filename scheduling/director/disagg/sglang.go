package disagg

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/openai"
)

// SGLang is SGLang's protocol, whatever moves its KV caches: both engines get the same body at
// the same time, with the room in which they meet, at the prefill engine. Of the options it
// needs Port, PortLabel, Rank and Rand.
//
// A prefill engine that has several data-parallel ranks takes the one that the room names by
// its remainder; Endpoint.Rank or Options.Rank must tell it if Endpoints are ranks.
func SGLang(o Options) Protocol {
	p := &sglang{o: o.withDefaults(8998)}
	p.rooms = newIDs(p.o.Rand)
	return p
}

type sglang struct {
	o     Options
	rooms *ids
}

func (p *sglang) Begin(_ context.Context, r Request) (Handover, error) {
	a, err := judge(r, openai.ChatCompletions, openai.Completions)
	if err != nil {
		return nil, err
	}
	port, err := p.o.portOf(r.Prefill)
	if err != nil {
		return nil, err
	}
	const maxPrompts = 4096
	if a.prompts > maxPrompts {
		return nil, unsupported("it has %d prompts; the limit is %d", a.prompts, maxPrompts)
	}
	h := &sglangHandover{}
	// An engine aborts all whose id starts with the one it is told. Ids of one length are
	// no beginning of one another.
	rid := jsonedit.Quote(r.ID + "-" + hex(p.o.Rand()))
	h.abort = r.leg([]byte(`{"rid":`+string(rid)+`}`), "")
	h.abort.Path = "/abort_request"

	rank, size := p.o.rankOf(r.Prefill)
	edits := []jsonedit.Edit{
		{Key: "bootstrap_host", Value: a.each(func() string { return string(jsonedit.Quote(hostOf(r.Prefill))) })},
		{Key: "bootstrap_port", Value: a.each(func() string { return strconv.Itoa(port) })},
		{Key: "bootstrap_room", Value: a.each(func() string { return p.room(rank, size) })},
		{Key: "rid", Value: rid},
		{Key: "data_parallel_rank"},
		{Key: "routed_dp_rank"},
		{Key: "disagg_prefill_dp_rank"},
	}
	ranks := edits[len(edits)-2:]
	if size > 1 {
		ranks[0].Value = []byte(strconv.Itoa(rank))
	}
	prefill, err := a.edit(edits...)
	if err != nil {
		return nil, err
	}
	ranks[1].Value, ranks[0].Value = ranks[0].Value, nil
	if rank, size := p.o.rankOf(r.Decode); size > 1 {
		ranks[0].Value = []byte(strconv.Itoa(rank))
	}
	decode, err := a.edit(edits...)
	if err != nil {
		return nil, err
	}
	h.prefill, h.decode = r.leg(prefill, ""), r.leg(decode, "")
	return h, nil
}

// room returns a number that the engines keep in 63 bits, whose remainder is the rank.
func (p *sglang) room(rank, size int) string {
	n := p.rooms.below(uint64(math.MaxInt64) / uint64(size))
	return strconv.FormatUint(n*uint64(size)+uint64(rank), 10)
}

// each returns a value for each prompt: a list if they are in one.
func (a *asked) each(value func() string) []byte {
	if !a.list {
		return []byte(value())
	}
	values := make([]string, a.prompts)
	for i := range values {
		values[i] = value()
	}
	return []byte("[" + strings.Join(values, ",") + "]")
}

type sglangHandover struct{ prefill, decode, abort Leg }

func (h *sglangHandover) AtOnce() bool                  { return true }
func (h *sglangHandover) Prefill() Leg                  { return h.prefill }
func (h *sglangHandover) Decode([]byte) (Decode, error) { return Decode{Leg: h.decode}, nil }
func (h *sglangHandover) Abort() (Leg, bool)            { return h.abort, true }
