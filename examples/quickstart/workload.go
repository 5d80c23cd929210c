package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/types"
)

// The built-in workload: what a company's gateway may see. Tenants with long system
// prompts, some much busier than others, hold conversations: with a person who waits for
// the answer, which is critical, or with an assistant in the background; three tools use
// LoRA adapters; batch jobs fill in.
const (
	tenants      = 24
	zipfExponent = 1.1 // of the tenants' popularity

	// The parts of the requests; the others are standard.
	criticalShare  = 0.2
	sheddableShare = 0.3
	// The part of the turns that go on with a conversation, if one is ready, and of the
	// new standard ones that are with a tool.
	resumeShare = 0.55
	toolShare   = 0.35

	systemMin, systemMax     = 4000, 14000 // bytes of a tenant's system prompt
	questionMin, questionMax = 120, 900    // bytes of a user's message
	documentMin, documentMax = 1500, 5000  // bytes of a batch job's text

	maxTurns    = 6
	maxReplies  = 200             // tokens, max_tokens of the requests
	minPause    = 3 * time.Second // between an answer and the next turn
	maxSessions = 4096            // conversations that wait for their next turn

	// maxOpen bounds the pairs of requests under way. Beyond it an arrival is
	// left out and counted: the machine, not the fleet, would be measured.
	maxOpen = 2048
)

// message is one of a chat.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// streamBody returns a streaming request for a chat, if input is messages, or a completion.
func streamBody(model string, input any, maxTokens int) []byte {
	field := "messages"
	if _, ok := input.(string); ok {
		field = "prompt"
	}
	body, _ := json.Marshal(map[string]any{ // strings and numbers cannot fail
		"model": model, field: input, "max_tokens": maxTokens,
		"stream": true, "stream_options": map[string]bool{"include_usage": true},
	})
	return body
}

// conversation is a chat under way.
type conversation struct {
	id       string
	tenant   string
	model    string
	priority int // of the model
	messages []message
	turns    int
	ready    time.Time // for its next turn
}

// workload makes requests up and sends them: arrivals are Poisson, whether or not
// earlier requests were answered (open loop).
type workload struct {
	clients []*client // of the policy's gateway and, if compared, the other
	rate    float64
	rng     *rand.Rand   // of the arrivals and of what they are
	text    *rand.Rand   // of the prompts
	popular *rand.Zipf   // of the tenants
	systems []string     // system prompts by tenant
	started int          // conversations
	skipped atomic.Int64 // arrivals left out

	mu      sync.Mutex
	waiting []*conversation // for their next turn, in the order of their answers
}

func newWorkload(clients []*client, rate float64, seed uint64) *workload {
	w := &workload{clients: clients, rate: rate, rng: rand.New(rand.NewPCG(seed, 1)), text: rand.New(rand.NewPCG(seed, 2))}
	w.popular = rand.NewZipf(w.rng, zipfExponent, 1, tenants-1)
	for i := range tenants {
		w.systems = append(w.systems, fmt.Sprintf("You are the assistant of tenant %d. ", i+1)+w.prose(systemMin, systemMax))
	}
	return w
}

func (w *workload) progress() (*progress, int64) { return nil, w.skipped.Load() }

func (w *workload) run(ctx, calls context.Context) {
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, maxOpen)
	for arrival := time.Now(); sleep(ctx, time.Until(arrival)); {
		arrival = arrival.Add(time.Duration(w.rng.ExpFloat64() / w.rate * float64(time.Second)))
		select {
		case slots <- struct{}{}:
		default:
			w.skipped.Add(1)
			continue
		}
		next := w.next(time.Now())
		open.Go(func() {
			defer func() { <-slots }()
			w.turn(calls, next)
		})
	}
}

// tenantName returns the name of the nth tenant, from 1.
func tenantName(n int) string { return fmt.Sprintf("tenant-%d", n) }

// isTenant reports whether there is a tenant of that name.
func isTenant(name string) bool {
	number, _ := strings.CutPrefix(name, "tenant-")
	n, err := strconv.Atoi(number)
	return err == nil && n >= 1 && n <= tenants && name == tenantName(n)
}

// next returns the conversation whose turn the next request is.
func (w *workload) next(now time.Time) *conversation {
	kind := w.rng.Float64()
	if kind < sheddableShare {
		// A batch job of one request: instructions that all share, a text of its own.
		c := w.begin("batch", types.PrioritySheddable, w.systems[tenants-1][:systemMin/2], documentMin, documentMax)
		c.turns = maxTurns // no more
		return c
	}
	priority, model := types.PriorityStandard, baseModel
	if kind < sheddableShare+criticalShare {
		priority, model = types.PriorityCritical, "chat"
	}
	if w.rng.Float64() < resumeShare {
		if c := w.resume(priority, now); c != nil {
			return c
		}
	}
	if priority == types.PriorityStandard && w.rng.Float64() < toolShare {
		i := w.rng.IntN(3)
		return w.begin(adapters()[1+i], priority, w.systems[tenants-2-i], questionMin, questionMax)
	}
	return w.begin(model, priority, "", questionMin, questionMax)
}

// begin starts a conversation of a tenant with a first message of least to most bytes. The
// system prompt is the tenant's own if none is given.
func (w *workload) begin(model string, priority int, system string, least, most int) *conversation {
	w.started++
	tenant := int(w.popular.Uint64())
	if system == "" {
		system = w.systems[tenant]
	}
	return &conversation{
		id: fmt.Sprintf("conversation-%d", w.started), tenant: tenantName(tenant + 1), model: model, priority: priority,
		messages: []message{{"system", system}, {"user", w.prose(least, most)}},
	}
}

// resume takes a conversation of a priority that is ready for its next turn; nil if none
// is.
func (w *workload) resume(priority int, now time.Time) *conversation {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.waiting, func(c *conversation) bool { return c.priority == priority && !c.ready.After(now) })
	if i < 0 {
		return nil
	}
	c := w.waiting[i]
	w.waiting = slices.Delete(w.waiting, i, i+1)
	c.messages = append(c.messages, message{"user", w.prose(questionMin, questionMax)})
	return c
}

// turn makes a turn at each gateway and puts the conversation where next finds it again. If
// one of them failed it, it ends for both, so that they go on with the same work.
func (w *workload) turn(ctx context.Context, c *conversation) {
	turn := call{path: "/v1/chat/completions", body: streamBody(c.model, c.messages, maxReplies), session: c.id, tenant: c.tenant}
	texts, errs := make([]string, len(w.clients)), make([]error, len(w.clients))
	var wg sync.WaitGroup
	for i, client := range w.clients {
		wg.Go(func() { texts[i], errs[i] = client.do(ctx, turn) })
	}
	wg.Wait()
	c.turns++
	if errors.Join(errs...) != nil || c.turns >= maxTurns {
		return
	}
	c.messages = append(c.messages, message{"assistant", texts[0]})
	c.ready = time.Now().Add(minPause)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) < maxSessions {
		w.waiting = append(w.waiting, c)
	}
}

// vocabulary is what made-up prompts are made of. What they say does not matter,
// only which of them begin alike.
var vocabulary = strings.Fields(`account agent alert amount answer archive article audit balance batch branch budget cache
	case chart check claim clause client commit contract copy credit customer data date deadline decision default delivery
	detail device draft error event example export factor field file filter form format gateway goal group guide history
	image import index invoice issue item journal key label language ledger legal letter limit line link list manager
	market member message method metric model module month name network note notice number object offer office option
	order owner package page partner path payment period plan point policy price process product profile project purpose
	quarter query question quota range rate reason record refund region release report request result review risk role
	rule sample schedule scope section series server service session share signal source stage standard state step stock
	summary supplier support system table target task team template tenant term test ticket title topic total trace
	transfer trend type unit update user value vendor version week window work year zone`)

// prose returns sentences of least to most bytes, and a little more.
func (w *workload) prose(least, most int) string {
	n := least + w.rng.IntN(most-least+1)
	var b strings.Builder
	for b.Len() < n {
		for i := range 6 + w.text.IntN(9) {
			word := vocabulary[w.text.IntN(len(vocabulary))]
			if i == 0 {
				b.WriteString(strings.ToUpper(word[:1]) + word[1:])
			} else {
				b.WriteString(" " + word)
			}
		}
		b.WriteString(". ")
	}
	return b.String()
}

// sleep waits and reports whether it was for all of d.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
