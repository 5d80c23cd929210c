package disaggtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// context is a context leg of TensorRT-LLM.
func (l *leg) context() {
	switch q := l.q; {
	case q.stream:
		l.violate("it is streamed: its disaggregated_params would be lost")
		l.refuse(&refusal{status: http.StatusBadRequest, kind: "BadRequestError", message: "A context-only request cannot be streamed."})
	case len(q.prompts) > 1 || q.n > 1:
		l.violate("n is %d, and there are %d prompts: KV can be handed over for one answer", q.n, len(q.prompts))
		l.refuse(&refusal{status: http.StatusBadRequest, kind: "BadRequestError", message: "Disaggregated serving supports one prompt and one choice."})
	}
	l.pass(BeforeTransfer)
	l.sleep(l.b.PrefillTime)

	c := l.c
	c.mu.Lock()
	c.serial++
	id := fmt.Sprint(1<<60 + int64(c.serial)) // more than a float64 can hold
	h := c.handoffLocked(id)
	h.p, h.prefill, h.q, h.cached, h.final = l.e, l, l.q, min(l.b.CachedTokens, l.q.promptTokens()), l.b.Complete
	h.ids = ids(l.q.prompts[0])
	l.rec.Key, l.keys = id, []string{id}
	own := orNull(l.params.get("disagg_request_id"))
	h.relay = fmt.Appendf(nil, `{"request_type":"context_only","first_gen_tokens":[%d],"ctx_request_id":%s,"encoded_opaque_state":"b3BhcXVl\/Zm9y%d=","draft_tokens":null,"ctx_usage":null,"disagg_request_id":%s}`,
		100+c.serial, id, c.serial, own)
	a := answer{
		cached: l.b.CachedTokens,
		choice: `,"disaggregated_params":` + string(h.relay),
		extra:  `,"prompt_token_ids":` + string(encode(h.ids)),
	}
	if h.final {
		c.mu.Unlock()
		l.reply(l.q.generate(l.b.Tokens), a)
		return
	}
	c.computedLocked(h)
	c.mu.Unlock()
	l.reply(l.thrownAway(), a)
}

// generation is a generation leg of TensorRT-LLM.
func (l *leg) generation() {
	h, wrong := l.continues()
	if wrong != "" {
		l.violate("%s", wrong)
		l.refuse(&refusal{status: http.StatusInternalServerError, kind: "InternalServerError", message: "the context phase cannot be continued: " + wrong})
	}
	l.pass(BeforeTransfer)
	l.sleep(l.b.TransferTime)
	l.c.mu.Lock()
	ok := l.takeLocked(h)
	q, cached := *h.q, h.cached
	l.c.mu.Unlock()
	if !ok {
		l.refuse(&refusal{status: http.StatusInternalServerError, kind: "InternalServerError", message: "KV cache transfer failed"})
	}
	l.reply(q.generate(l.b.Tokens), answer{cached: cached})
}

// continues finds the context leg, and what the generation leg lacks of it.
func (l *leg) continues() (h *handoff, wrong string) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	h = l.c.handoffs[l.rec.Key]
	switch {
	case h == nil:
		return nil, "no engine handed out its ctx_request_id"
	case h.final:
		return nil, "its context leg answered finally"
	case h.taken || h.decode != nil:
		return nil, "its KV went to another leg already"
	}
	l.agreeLocked(h, "disaggregated_params", "stream", "stream_options", "prompt", "prompt_token_ids")
	own := []string{"request_type", "schedule_style", "conversation_id", "ctx_usage", "disagg_request_id"}
	given, err := readMembers(h.relay)
	if err != nil {
		panic("disaggtest: " + err.Error())
	}
	if a, b := l.params.rest(own...), given.rest(own...); a != b {
		return nil, fmt.Sprintf("its disaggregated_params are not those handed out:\n%.1000s---\n%.1000s", a, b)
	}
	if a, b := l.params.get("disagg_request_id"), given.get("disagg_request_id"); string(a) != string(b) {
		return nil, fmt.Sprintf("its disagg_request_id is %s, that of its context leg %s", a, b)
	}
	if !l.params.has("ctx_usage") {
		l.violateLocked("its disaggregated_params lack ctx_usage: it does not know what the context leg found cached")
	}
	where := "prompt"
	if l.q.chat {
		where = "prompt_token_ids"
	}
	var got []uint32
	if err := json.Unmarshal(l.q.get(where), &got); err != nil || !slices.Equal(got, h.ids) {
		return nil, fmt.Sprintf("its %s is not the prompt_token_ids of its context leg", where)
	}
	l.c.pinnedLocked(h) // the lease may have ended
	h.decode = l
	return h, ""
}

// thrownAway is the answer of a prefill leg, which nobody may show to a client.
func (l *leg) thrownAway() []generated {
	var all []generated
	for range l.q.prompts {
		all = append(all, generated{[]string{" prefill-" + strings.ReplaceAll(l.e.id, " ", "")}, "length"})
	}
	return all
}
