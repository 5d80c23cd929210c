package modelserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// kept is a response that others go on from.
type kept struct {
	object
	read  prompt   // all that the model has read, and what it said
	items []object // of the input
}

func (k *kept) view() object { return k.object }
func (k *kept) size() int    { return len(k.read.data) + 4<<10 }
func (k *kept) drop()        {}

// conversation is what goes on from request to request under an id.
type conversation struct {
	fields object
	mu     sync.Mutex
	read   prompt
	items  []object
}

const (
	mostConversation = 1 << 20 // bytes
	mostItems        = 10_000
)

func (c *conversation) view() object { return c.fields }
func (c *conversation) size() int    { return mostConversation / 16 } // what most of them stay below
func (c *conversation) drop()        {}

func (c *conversation) add(read prompt, items []object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(read.data) <= mostConversation && len(c.items)+len(items) <= mostItems {
		c.read, c.items = read, append(c.items, items...)
	}
}

// history returns what a request goes on from.
func (a *responses) history(r *request) (p prompt, failure *apiError) {
	a.store = r.Store == nil || *r.Store
	if r.Previous != "" && !absent(r.Conversation) {
		return p, invalid("previous_response_id", "Give a previous_response_id or a conversation, not both.")
	}
	if r.Previous != "" {
		before, failure := a.p.responses.get(r.Previous)
		if failure != nil {
			failure.param, failure.code = "previous_response_id", "previous_response_not_found"
			return p, failure
		}
		a.from, p = r.Previous, before.read
	}
	if !absent(r.Conversation) {
		var id string
		var in struct{ ID string }
		if json.Unmarshal(r.Conversation, &id) != nil && json.Unmarshal(r.Conversation, &in) == nil {
			id = in.ID
		}
		if a.talk, failure = a.p.conversations.get(id); failure != nil {
			failure.param = "conversation"
			return p, failure
		}
		a.talk.mu.Lock()
		p = a.talk.read
		a.talk.mu.Unlock()
	}
	p.data, p.images, p.sounds = slices.Clip(p.data), 0, 0 // others go on from it, too
	return p, nil
}

// inputItems are the items of an input, as they are listed.
func (a *responses) inputItems(input json.RawMessage) (items []object) {
	var text string
	if json.Unmarshal(input, &text) == nil {
		items = []object{{"type": "message", "role": "user", "content": list{object{"type": "input_text", "text": text}}}}
	} else {
		json.Unmarshal(input, &items) // it is a list, whose items have been read as messages
	}
	return a.p.named(items)
}

// named gives items ids, and what else the lists of them need.
func (p *process) named(items []object) []object {
	for _, item := range items {
		if item["type"] == nil {
			item["type"] = "message"
		}
		var text string
		if raw, err := json.Marshal(item["content"]); err == nil && json.Unmarshal(raw, &text) == nil && item["content"] != nil {
			item["content"] = list{object{"type": "input_text", "text": text}}
		}
		item["id"], item["status"] = p.newID("msg"), "completed"
	}
	return items
}

// keep returns the response at its end, and stores it.
func (a *responses) keep(r *reply) object {
	body := a.response(r, true)
	read := a.read
	read.data = slices.Concat(read.data, r.text)
	if a.store {
		a.p.responses.put(r.id, &kept{object: body, read: read, items: a.given})
	}
	if a.talk != nil {
		a.talk.add(read, append(slices.Clip(a.given), a.message(r, true)))
	}
	return body
}

// serveInputItems is GET /v1/responses/{id}/input_items, and serveItems that of a conversation.
func (p *process) serveInputItems(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
	one, failure := p.responses.get(r.PathValue("id"))
	if failure != nil {
		return nil, failure
	}
	return paged(slices.Clone(one.items), r)
}

func (p *process) serveItems(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
	one, failure := p.conversations.get(r.PathValue("id"))
	if failure != nil {
		return nil, failure
	}
	one.mu.Lock()
	items := slices.Clone(one.items)
	one.mu.Unlock()
	return paged(items, r)
}

// serveConversation is POST /v1/conversations.
func (p *process) serveConversation(w http.ResponseWriter, r *http.Request) (any, *apiError) {
	var body struct {
		Items    json.RawMessage `json:"items"`
		Metadata object          `json:"metadata"`
	}
	if failure := p.readJSON(w, r, &body); failure != nil {
		return nil, failure
	}
	var c conversation
	if !absent(body.Items) && string(bytes.TrimSpace(body.Items)) != "[]" {
		var items []message
		if err := json.Unmarshal(body.Items, &items); err != nil {
			return nil, invalid("items", "'items': %v", err)
		}
		read := prompt{}
		if failure := read.messages(items); failure != nil {
			failure.param = "items"
			return nil, failure
		}
		read.data = read.data[:len(read.data)-tokenBytes] // nobody answers yet
		var listed []object
		json.Unmarshal(body.Items, &listed) // a list, as was seen
		c.add(read, p.named(listed))
	}
	c.fields = object{"id": p.newID("conv"), "object": "conversation", "created_at": time.Now().Unix(), "metadata": body.Metadata}
	p.conversations.put(c.fields["id"].(string), &c)
	return c.fields, nil
}
