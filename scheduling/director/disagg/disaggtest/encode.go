package disaggtest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
)

// This file is engines that encode media for those that compute prompts.

// EC is how what an encoder makes gets to the engine that computes the prompt.
type EC uint8

// The ways.
const (
	// ECNIXL is vLLM's NIXL connector for encoder caches: the encoder's answer has ec_transfer_params, by
	// the hashes of the items, which the engine that computes the prompt must be given unchanged. What an
	// encoder has made goes to one leg.
	ECNIXL EC = iota
	// ECStorage is a storage that all engines share, as with vLLM's example connector.
	ECStorage
)

// String returns the name.
func (e EC) String() string { return name(e, "NIXL", "storage") }

// embedding is what an encoder has made of an item. Its fields are guarded by c.mu.
type embedding struct {
	part  []byte // of the message
	relay []byte // what the leg must bring that takes it; nil: it is stored
	taken *leg
}

// medium is an item of a request.
type medium struct {
	hash string
	part []byte
}

// media returns the distinct images, audio and videos of a request, in their order.
func (q *request) media() (all []medium) {
	var messages []struct {
		Content json.RawMessage `json:"content"`
	}
	_ = json.Unmarshal(q.get("messages"), &messages)
	known := map[string]bool{}
	for _, m := range messages {
		var parts []json.RawMessage
		_ = json.Unmarshal(m.Content, &parts) // else it is a text
		for _, part := range parts {
			if hash := hashOf(part); hash != "" && !known[hash] {
				known[hash] = true
				all = append(all, medium{hash, part})
			}
		}
	}
	return all
}

// hashOf returns the name of a part's content among engines, "" of text.
func hashOf(part []byte) string {
	all, err := readMembers(part)
	if err != nil {
		return ""
	}
	kind := all.text("type")
	if !slices.Contains([]string{"image_url", "audio_url", "video_url", "input_audio"}, kind) {
		return ""
	}
	source := all.text(kind)
	if payload, err := readMembers(all.get(kind)); err == nil {
		source = payload.text("url") + payload.text("data")
	}
	if source == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(kind + source))
	return hex.EncodeToString(sum[:16])
}

var encodeID = regexp.MustCompile(`^.+-enc-\d+$`)

// encode is a leg at an encoder.
func (l *leg) encode() {
	q := l.q
	var messages []members
	var raw []json.RawMessage
	_ = json.Unmarshal(q.get("messages"), &raw)
	for _, one := range raw {
		m, _ := readMembers(one)
		messages = append(messages, m)
	}
	items := q.media()
	var parts []json.RawMessage
	if len(messages) == 1 {
		_ = json.Unmarshal(messages[0].get("content"), &parts)
	}
	wrong := ""
	switch {
	case !q.chat:
		wrong = "it is no chat request"
	case len(messages) != 1 || messages[0].text("role") != "user" || len(parts) != 1 || len(items) != 1:
		wrong = fmt.Sprintf("it is not for one item in one message of a user, but for %d in %d", len(items), len(messages))
	case q.stream:
		wrong = "it is streamed: its ec_transfer_params would be lost"
	case q.n > 1:
		wrong = fmt.Sprintf("n is %d", q.n)
	case q.has("max_tokens") && q.has("max_completion_tokens"):
		wrong = "only one of max_tokens and max_completion_tokens can be set"
	case q.has("tool_choice") || q.has("response_format"):
		wrong = "it asks for more than one token can say"
	case q.has("kv_transfer_params") || q.has("ec_transfer_params"):
		wrong = "it has what is for those that compute prompts"
	}
	if wrong != "" {
		l.violate("%s", wrong)
		l.refuse(invalid("", "%s", wrong))
	}
	if q.limit != 1 {
		l.violate("it is not capped at one token: the encoder generates an answer that nobody reads")
	}
	if !encodeID.MatchString(l.rec.RequestID) {
		l.violate("its X-Request-Id %q does not end with -enc- and a number", l.rec.RequestID)
	}
	l.pass(BeforeTransfer)
	l.sleep(l.b.EncodeTime)
	a := answer{}
	switch {
	case l.b.NoConnector:
	case l.b.NullParams:
		a.extra = `,"ec_transfer_params":null`
	default:
		a.extra = l.made(items[0])
	}
	l.reply(l.thrownAway(), a)
}

// made keeps what was made of an item, and returns what the answer has of it. The parameters have what a
// parser may not keep.
func (l *leg) made(item medium) string {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serial++
	e := &embedding{part: item.part}
	c.embeddings[item.hash] = append(c.embeddings[item.hash], e)
	if c.opts.EC == ECStorage {
		return ""
	}
	e.relay = fmt.Appendf(nil, `{"remote_host":"127.0.0.1", "remote_port":%d,"num_encoder_tokens":%d,"unheard_of":[1.10,123456789012345678901234567890,"\u003c\/\u00e9"]}`, 5600, c.serial)
	return fmt.Sprintf(`,"ec_transfer_params": {"%s" : %s}`, item.hash, e.relay)
}

// embed gets the media of a request that this engine computes the prompt of, and encodes what nobody
// else has.
func (l *leg) embed() {
	given, _ := readMembers(orNull(l.q.get("ec_transfer_params")))
	items := l.q.media()
	if l.rec.Leg == Decode {
		if l.q.has("ec_transfer_params") {
			l.violate("it has ec_transfer_params, and the prompt is computed elsewhere")
		}
		return
	}
	c := l.c
	c.mu.Lock()
	for _, m := range given {
		if !slices.ContainsFunc(items, func(i medium) bool { return i.hash == m.key }) {
			l.violateLocked("its ec_transfer_params have %q, which is none of its media", m.key)
		}
	}
	for _, item := range items {
		l.rec.Media++
		if l.takeEmbeddingLocked(item, given.get(item.hash)) {
			l.rec.Encoded++
		}
	}
	here := l.rec.Media - l.rec.Encoded
	c.mu.Unlock()
	l.sleep(0)
	for range here {
		l.sleep(l.b.EncodeTime)
	}
}

// takeEmbeddingLocked reports whether the embedding of an item is to be had. Caller must hold c.mu.
func (l *leg) takeEmbeddingLocked(item medium, relay []byte) bool {
	if l.c.opts.EC == ECNIXL && relay == nil {
		return false
	}
	for _, e := range l.c.embeddings[item.hash] {
		if string(e.relay) != string(relay) {
			continue
		}
		if relay != nil && string(e.part) != string(item.part) && !l.hasPart(e.part) {
			l.violateLocked("an encoder was sent an item that is not as it stands in the request:\n%.300s---\n%.300s", e.part, item.part)
		}
		// A leg may be sent once more, if it seems that its connection was closed before it came.
		if e.taken != nil && relay != nil && (e.taken.e != l.e || e.taken.rec.RequestID != l.rec.RequestID) {
			l.violateLocked("its ec_transfer_params of %s went to another leg already", item.hash)
		}
		e.taken = l
		return true
	}
	if relay != nil {
		l.violateLocked("its ec_transfer_params of %s are not those handed out: %.300s", item.hash, relay)
	}
	return false
}

// hasPart reports whether a request has a part byte for byte: of several with the same content any will do.
func (l *leg) hasPart(part []byte) bool {
	var messages []struct {
		Content json.RawMessage `json:"content"`
	}
	_ = json.Unmarshal(l.q.get("messages"), &messages)
	for _, m := range messages {
		var parts []json.RawMessage
		_ = json.Unmarshal(m.Content, &parts)
		if slices.ContainsFunc(parts, func(p json.RawMessage) bool { return string(p) == string(part) }) {
			return true
		}
	}
	return false
}
