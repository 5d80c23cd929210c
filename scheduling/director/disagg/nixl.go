package disagg

import (
	"context"

	"github.com/inferpick/inferpick/internal/jsonedit"
	"github.com/inferpick/inferpick/openai"
)

// askNIXL tells a prefill engine to keep the KV cache for another.
const askNIXL = `{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}`

// vllm are the APIs of vLLM that take kv_transfer_params.
var vllm = []openai.API{openai.ChatCompletions, openai.Completions, openai.Responses, openai.Generate}

// NIXL is vLLM's NixlConnector, and those that speak as it does (LMCache's, MoRI-IO's): the
// prefill engine answers with parameters by which the decode engine gets the KV cache from it.
// Of the options it needs MaxParams and Rank.
func NIXL(o Options) Protocol { return &nixl{o.withDefaults(0)} }

type nixl struct{ o Options }

func (p *nixl) Begin(_ context.Context, r Request) (Handover, error) {
	a, err := judge(r, vllm...)
	if err == nil {
		err = a.once()
	}
	if err != nil {
		return nil, err
	}
	body, err := a.oneToken([]byte(askNIXL))
	if err != nil {
		return nil, err
	}
	return &nixlHandover{p: p, a: a, prefill: r.leg(body, p.o.rankHeader(r.Prefill))}, nil
}

type nixlHandover struct {
	p       *nixl
	a       *asked
	prefill Leg
}

func (h *nixlHandover) AtOnce() bool       { return false }
func (h *nixlHandover) Prefill() Leg       { return h.prefill }
func (h *nixlHandover) Abort() (Leg, bool) { return Leg{}, false }

func (h *nixlHandover) Decode(answer []byte) (Decode, error) {
	f, err := readAnswer(answer, keyKV, "usage", "choices")
	if err != nil {
		return Decode{}, err
	}
	params, err := relayed(keyKV, f[keyKV], h.p.o.MaxParams)
	if err != nil {
		return Decode{}, err
	}
	d := Decode{Cached: cachedIn(f["usage"])}
	body := h.a.Body
	if params == nil {
		// An engine that was to stop after the first token and found that the answer ends
		// there has nothing to keep, and is configured well.
		reason := finishReason(f["choices"])
		d.Ignored = reason == "" || reason == "length"
	} else if body, err = h.a.edit(jsonedit.Edit{Key: keyKV, Value: params}); err != nil {
		return Decode{}, err
	}
	d.Leg = h.a.leg(body, h.p.o.rankHeader(h.a.Decode))
	return d, nil
}

// finishReason returns why the first choice ended, "" if it does not say.
func finishReason(choices []byte) string {
	reason := ""
	n := 0
	_ = jsonedit.Elements(choices, func(value []byte) {
		if n++; n > 1 {
			return
		}
		if f, err := read(value, "finish_reason"); err == nil {
			reason = jsonedit.Text(f["finish_reason"])
		}
	})
	return reason
}
