package disagg

import (
	"context"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/internal/jsonedit"
)

// P2P is vLLM's OffloadingConnector with a peer-to-peer tier: the prefill engine stores the KV
// cache under an id that the gateway has made, and the decode engine fetches it there. The
// decode leg goes after the prefill leg: an engine that asks too early waits for what is not
// there yet, and computes the prompt in the end. Of the options it needs Port, PortLabel, Rank
// and Rand.
func P2P(o Options) Protocol { return &p2p{o.withDefaults(7777)} }

type p2p struct{ o Options }

func (p *p2p) Begin(_ context.Context, r Request) (Handover, error) {
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
	id := `"kv_request_id":"` + hex(p.o.Rand()) + hex(p.o.Rand()) + `"`
	body, err := a.oneToken([]byte(`{"remote_decoder":{` + id + `}}`))
	if err != nil {
		return nil, err
	}
	host := strings.Trim(hostOf(r.Prefill), "[]")
	params := append([]byte(`{"remote_prefiller":{`+id+`,"remote_host":`), jsonedit.Quote(host)...)
	params = append(params, `,"remote_port":`+strconv.Itoa(port)+`}}`...)
	decode, err := a.edit(jsonedit.Edit{Key: keyKV, Value: params})
	if err != nil {
		return nil, err
	}
	return &p2pHandover{prefill: r.leg(body, p.o.rankHeader(r.Prefill)), decode: r.leg(decode, p.o.rankHeader(r.Decode))}, nil
}

type p2pHandover struct{ prefill, decode Leg }

func (h *p2pHandover) AtOnce() bool       { return false }
func (h *p2pHandover) Prefill() Leg       { return h.prefill }
func (h *p2pHandover) Abort() (Leg, bool) { return Leg{}, false }

func (h *p2pHandover) Decode(answer []byte) (Decode, error) {
	f, err := readAnswer(answer, "usage")
	if err != nil {
		return Decode{}, err
	}
	return Decode{Leg: h.decode, Cached: cachedIn(f["usage"])}, nil
}
