package disaggtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// room is where two legs meet.
type room struct {
	host string
	port int
	id   int64
}

// rooms reads those of a request, one for each prompt.
func (q *request) rooms() ([]room, error) {
	raw := q.get("bootstrap_room")
	if raw == nil {
		return nil, errors.New("disaggregated request received without bootstrap room id")
	}
	if !q.batch {
		one, err := readRoom(q.get("bootstrap_host"), q.get("bootstrap_port"), raw)
		return []room{one}, err
	}
	var host, port, id []json.RawMessage
	for _, f := range []struct {
		key string
		to  *[]json.RawMessage
	}{{"bootstrap_host", &host}, {"bootstrap_port", &port}, {"bootstrap_room", &id}} {
		if err := json.Unmarshal(q.get(f.key), f.to); err != nil || len(*f.to) != len(q.prompts) {
			return nil, fmt.Errorf("%s is not an array of %d, one for each prompt", f.key, len(q.prompts))
		}
	}
	var all []room
	for i := range id {
		one, err := readRoom(host[i], port[i], id[i])
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func readRoom(host, port, id []byte) (r room, err error) {
	for _, f := range []struct {
		key string
		raw []byte
		to  any
	}{{"bootstrap_host", host, &r.host}, {"bootstrap_port", port, &r.port}, {"bootstrap_room", id, &r.id}} {
		if err := json.Unmarshal(f.raw, f.to); err != nil {
			return r, fmt.Errorf("%s is %s: %w", f.key, f.raw, err)
		}
	}
	if r.id < 0 {
		return r, fmt.Errorf("bootstrap_room is %d", r.id)
	}
	return r, nil
}

// sglang is a leg of SGLang.
func (l *leg) sglang() {
	rooms, err := l.q.rooms()
	if err != nil {
		l.violate("%v", err)
		l.refuse(&refusal{status: http.StatusBadRequest, kind: "BadRequestError", message: "Invalid request: " + strings.ToUpper(err.Error()[:1]) + err.Error()[1:]})
	}
	if l.rid != "" && l.e.ridInUse(l) {
		l.violate("its rid is in use")
		l.refuse(&refusal{status: http.StatusBadRequest, kind: "BadRequestError", message: "Duplicate request ID detected: " + l.rid})
	}
	var all []*handoff
	for _, r := range rooms {
		h, wrong := l.enter(r)
		if wrong != "" {
			l.violate("%s", wrong)
			l.kvError(r, wrong)
		}
		all = append(all, h)
	}
	l.pass(BeforeTransfer)
	if l.rec.Leg == Prefill {
		for i, h := range all {
			if !l.wait(h, func() bool { return h.decode != nil }) {
				l.vain(h)
				l.kvError(rooms[i], "the decode leg did not come")
			}
		}
		l.sleep(l.b.PrefillTime + l.b.TransferTime)
		for i, h := range all {
			if !l.deliver(h) {
				l.kvError(rooms[i], "the decode leg has gone")
			}
		}
		l.reply(l.thrownAway(), answer{cached: l.b.CachedTokens})
		return
	}
	for i, h := range all {
		if !l.wait(h, func() bool { return h.taken }) {
			l.vain(h)
			l.kvError(rooms[i], "the prefill leg did not send")
		}
	}
	l.c.mu.Lock()
	l.rec.Transferred = true
	cached := all[0].cached
	l.c.mu.Unlock()
	l.reply(l.q.generate(l.b.Tokens), answer{cached: cached})
}

func (l *leg) kvError(r room, message string) {
	l.refuse(&refusal{status: http.StatusInternalServerError, kind: "InternalServerError", message: fmt.Sprintf("KVTransferError(bootstrap_room=%d): %s", r.id, message)})
}

// enter brings a leg into its room.
func (l *leg) enter(r room) (h *handoff, wrong string) {
	at := net.JoinHostPort(r.host, strconv.Itoa(r.port))
	p := l.c.byBootstrap(at)
	switch {
	case p == nil:
		return nil, fmt.Sprintf("no prefiller has the bootstrap address %s", at)
	case l.rec.Leg == Prefill && p != l.e:
		return nil, fmt.Sprintf("its bootstrap address %s is another engine's", at)
	}
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	h = l.c.handoffLocked(strconv.FormatInt(r.id, 10))
	if h.prefill != nil && h.decode != nil && h.overLocked() { // and is about to be forgotten
		delete(l.c.handoffs, h.key)
		h = l.c.handoffLocked(h.key)
	}
	self := &h.prefill
	if l.rec.Leg == Decode {
		self = &h.decode
	}
	switch {
	case *self != nil:
		return nil, "its room is in use"
	case h.p != nil && h.p != p:
		return nil, "its two legs name different prefillers for its room"
	}
	*self, h.p = l, p
	l.agreeLocked(h, "routed_dp_rank", "data_parallel_rank", "disagg_prefill_dp_rank")
	h.tellLocked()
	return h, ""
}

// deliver sends the KV to the decode leg, if it has not ended.
func (l *leg) deliver(h *handoff) bool {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if h.decode.rec.Outcome != Running {
		return false
	}
	h.taken, l.rec.Transferred, h.cached = true, true, min(l.b.CachedTokens, l.q.promptTokens())
	h.tellLocked()
	return true
}

func (e *Engine) ridInUse(l *leg) bool {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for other := range e.live {
		if other != l && other.rid == l.rid && other.rec.Outcome == Running {
			return true
		}
	}
	return false
}

// abort is POST /abort_request: it ends the legs whose rid begins with the one given.
func (e *Engine) abort(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, e.c.opts.MaxBody))
	var all members
	if err == nil {
		all, err = readMembers(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	prefix := all.text("rid")
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	e.aborts++
	rids := map[string]bool{}
	for l := range e.live {
		if l.rid != "" && strings.HasPrefix(l.rid, prefix) || all.is("abort_all") || prefix == "" {
			rids[l.rid] = true
			l.cancel(errAborted)
		}
	}
	if len(rids) > 1 || prefix == "" {
		e.c.violations = append(e.c.violations, violation{text: fmt.Sprintf("/abort_request with rid %q at %s ends the legs of %d requests", prefix, e.address, len(rids))})
	}
}
