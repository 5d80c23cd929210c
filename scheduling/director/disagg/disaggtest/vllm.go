package disaggtest

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// What a gateway edits in the body of a prefill leg for vLLM.
func vllmEdits() []string {
	return []string{"kv_transfer_params", "ec_transfer_params", "stream", "stream_options", "min_tokens", "min_completion_tokens", "n", "max_tokens", "max_completion_tokens"}
}

// oneToken refuses a prefill leg that asks for more than the prompt.
func (l *leg) oneToken() {
	q := l.q
	var r *refusal
	switch {
	case q.stream:
		r = invalid("stream", "A prefill request cannot be streamed: its kv_transfer_params would be lost.")
	case q.chat && q.has("max_tokens") && q.has("max_completion_tokens"):
		r = invalid("max_tokens", "Only one of `max_tokens` and `max_completion_tokens` can be set.")
	case q.n > 1:
		r = invalid("n", "n is %d: KV can be handed over for one choice.", q.n)
	case len(q.prompts) > 1:
		r = invalid("prompt", "%d prompts: KV can be handed over for one.", len(q.prompts))
	default:
		if q.limit != 1 {
			l.violate("it is not capped at one token: the prefiller generates an answer that nobody reads")
		}
		return
	}
	l.violate("%s", r.message)
	l.refuse(r)
}

// loadFailure is what happens if KV cannot be had.
func (l *leg) loadFailure() {
	if !l.b.Recompute {
		l.head0()
		l.refuse(&refusal{status: http.StatusInternalServerError, kind: "InternalServerError", message: "Internal server error"})
	}
	l.alone()
}

// head0 sends the head of a stream: vLLM does before it schedules the request.
func (l *leg) head0() {
	if l.q.stream {
		l.head()
	}
}

// alone serves a decode leg without its KV.
func (l *leg) alone() {
	l.c.mu.Lock()
	l.rec.Recomputed = true
	l.c.mu.Unlock()
	l.ordinary()
}

// nixlPrefill is a prefill leg of NIXL.
func (l *leg) nixlPrefill() {
	l.oneToken()
	l.pass(BeforeTransfer)
	l.sleep(l.b.PrefillTime)
	a := answer{cached: l.b.CachedTokens}
	if l.b.NullParams {
		a.extra = `,"kv_transfer_params":null`
	} else {
		a.extra = `,"kv_transfer_params":` + l.hand()
	}
	l.reply(l.thrownAway(), a)
}

// hand pins the KV and makes the object that the decode leg must bring. It has what versions to come may
// add, and what a parser may not keep: big numbers, escapes, white space, duplicate keys.
func (l *leg) hand() string {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	id := fmt.Sprintf("cmpl-%s-%d-0", l.e.id, c.serial)
	h := c.handoffLocked(id)
	h.p, h.prefill, h.q, h.cached = l.e, l, l.q, min(l.b.CachedTokens, l.q.promptTokens())
	l.rec.Key, l.keys = id, []string{id}
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"do_remote_prefill":true, "do_remote_decode":false,"remote_block_ids":[[%d, %d]],"remote_engine_id":%q,"remote_request_id":%q,"remote_host":"127.0.0.1","remote_port":%d,"tp_size":1,"remote_num_tokens":%d,"remote_blocks_expiry_time":null`,
		2*c.serial, 2*c.serial+1, l.e.id, id, 5600, l.q.promptTokens())
	if !l.b.OldUsage {
		fmt.Fprintf(&b, `,"remote_prefill_cached_tokens":%d`, h.cached)
	}
	fmt.Fprintf(&b, `,"unheard_of":{"big":123456789012345678901234567890,"exact":1.10,"big":9007199254740993, "text":"\u003c\/\u00e9"}`)
	if short := l.b.ParamsBytes - b.Len() - len(`,"padding":""}`); short > 0 {
		fmt.Fprintf(&b, `,"padding":"%s"`, strings.Repeat("0123456789abcdef", short/16+1)[:short])
	}
	b.WriteByte('}')
	h.relay = b.Bytes()
	c.computedLocked(h)
	return b.String()
}

// nixlDecode is a decode leg of NIXL.
func (l *leg) nixlDecode() {
	if l.q.n > 1 || len(l.q.prompts) > 1 {
		l.violate("n is %d, and there are %d prompts: KV can be handed over for one answer", l.q.n, len(l.q.prompts))
		l.refuse(invalid("n", "KV can be taken over for one choice of one prompt."))
	}
	for _, key := range []string{"remote_block_ids", "remote_engine_id", "remote_request_id", "remote_host", "remote_port"} {
		if !l.params.has(key) {
			l.violate("its kv_transfer_params lack %s: the prompt is computed again", key)
			l.alone()
			return
		}
	}
	h, ok := l.claim()
	if !ok {
		l.loadFailure()
		return
	}
	l.pass(BeforeTransfer)
	l.head0()
	l.sleep(l.b.TransferTime)
	l.takeOver(h)
}

// claim finds what the decode leg is to take.
func (l *leg) claim() (*handoff, bool) {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	h := l.c.handoffs[l.rec.Key]
	if h == nil {
		l.violateLocked("no prefiller handed out its kv_transfer_params")
		return nil, false
	}
	if h.taken || h.decode != nil {
		l.violateLocked("its KV went to another leg already")
		return nil, false
	}
	l.agreeLocked(h, vllmEdits()...)
	relay, raw := h.relay, l.q.get("kv_transfer_params")
	if !bytes.Equal(relay, raw) {
		l.violateLocked("its kv_transfer_params are not those handed out:\n%.1000s---\n%.1000s", raw, relay)
		given, err := readMembers(relay)
		if err != nil || len(l.params.rest()) == 0 {
			return nil, false
		}
		for _, key := range []string{"remote_block_ids", "remote_engine_id", "remote_host", "remote_port"} {
			if compact(given.get(key)) != compact(l.params.get(key)) {
				return nil, false
			}
		}
	}
	l.c.pinnedLocked(h) // the lease may have ended
	h.decode = l
	return h, true
}

func compact(raw []byte) string { return string(bytes.ReplaceAll(raw, []byte(" "), nil)) }

// takeOver moves the KV and answers.
func (l *leg) takeOver(h *handoff) {
	l.c.mu.Lock()
	ok := l.takeLocked(h)
	cached := l.q.promptTokens()
	if !l.b.OldUsage {
		cached = h.cached
	}
	l.c.mu.Unlock()
	if !ok {
		l.loadFailure()
		return
	}
	l.reply(l.q.generate(l.b.Tokens), answer{cached: cached})
}

// mooncakePrefill is a prefill leg of Mooncake.
func (l *leg) mooncakePrefill() {
	if l.rec.Key == "" {
		l.violate("its kv_transfer_params lack transfer_id: nobody can fetch its KV")
		l.ordinary()
		return
	}
	l.oneToken()
	l.c.mu.Lock()
	if h := l.c.handoffLocked(l.rec.Key); h.prefill != nil {
		l.violateLocked("its transfer id is in use")
		l.c.mu.Unlock()
		l.refuse(&refusal{status: http.StatusInternalServerError, kind: "InternalServerError", message: "Internal server error"})
	} else {
		h.p, h.prefill, h.q = l.e, l, l.q
		l.agreeLocked(h, vllmEdits()...)
		l.c.mu.Unlock()
	}
	l.pass(BeforeTransfer)
	l.sleep(l.b.PrefillTime)
	l.c.mu.Lock()
	h := l.c.handoffs[l.rec.Key]
	h.cached = min(l.b.CachedTokens, l.q.promptTokens())
	l.c.computedLocked(h)
	l.c.mu.Unlock()
	l.reply(l.thrownAway(), answer{cached: l.b.CachedTokens})
}

// rank is the data-parallel rank of a prefill leg; -1 if it names none that there is.
func (l *leg) rank() int {
	ranks := l.c.opts.Ranks
	rank, err := strconv.Atoi(l.rec.Header.Get("X-Data-Parallel-Rank"))
	if err == nil && rank >= 0 && rank < ranks {
		return rank
	}
	if err != nil && ranks == 1 {
		return 0
	}
	return -1
}

// mooncakeDecode is a decode leg of Mooncake.
func (l *leg) mooncakeDecode() {
	for _, key := range []string{"transfer_id", "remote_bootstrap_addr", "remote_engine_id"} {
		if !l.params.has(key) {
			l.violate("its kv_transfer_params lack %s: the prompt is computed again", key)
			l.alone()
			return
		}
	}
	if l.q.n > 1 || len(l.q.prompts) > 1 {
		l.violate("n is %d, and there are %d prompts: KV can be handed over for one answer", l.q.n, len(l.q.prompts))
		l.refuse(invalid("n", "KV can be taken over for one choice of one prompt."))
	}
	at, id := l.params.text("remote_bootstrap_addr"), l.params.text("remote_engine_id")
	p := l.c.byBootstrap(strings.TrimPrefix(at, "http://"))
	if p == nil || !strings.HasPrefix(at, "http://") {
		l.violate("no prefiller has the bootstrap address %q", at)
		l.loadFailure()
		return
	}
	if !p.hasRank(id) {
		l.violate("the prefiller at %s has no engine id %q", at, id)
		l.loadFailure()
		return
	}
	l.c.mu.Lock()
	h := l.c.handoffLocked(l.rec.Key)
	if h.taken || h.decode != nil {
		l.violateLocked("its transfer id is in use")
		l.c.mu.Unlock()
		l.loadFailure()
		return
	}
	l.c.pinnedLocked(h) // the lease may have ended
	h.decode = l
	l.agreeLocked(h, vllmEdits()...)
	l.c.mu.Unlock()
	l.pass(BeforeTransfer)
	l.head0()
	if !l.wait(h, func() bool { return h.ready && !h.lost }) {
		l.vain(h)
		l.loadFailure()
		return
	}
	l.sleep(l.b.TransferTime)
	l.takeOver(h)
}
