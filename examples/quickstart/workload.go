package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
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

// runner sends requests to both fleets and takes the results in.
type runner struct {
	clients []*client // the policy's gateway and, if compared, the other
	tallies []*tallies
	skipped atomic.Int64 // arrivals left out
}

// both makes a call to each gateway at the same time and returns the policy's
// result, and whether all went well.
func (r *runner) both(ctx context.Context, c call) (result, bool) {
	results := make([]result, len(r.clients))
	var wg sync.WaitGroup
	for i := range r.clients {
		wg.Go(func() { results[i] = r.one(ctx, i, c) })
	}
	wg.Wait()
	good := true
	for _, res := range results {
		good = good && res.err == nil
	}
	return results[0], good
}

// one makes a call to one gateway. A call that ends with ctx counts nowhere.
func (r *runner) one(ctx context.Context, fleet int, c call) result {
	res := r.clients[fleet].do(ctx, c)
	if ctx.Err() == nil {
		r.tallies[fleet].add(res, c.priority, time.Now())
	}
	return res
}

// message is one of a chat.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// chatBody returns a streaming chat request.
func chatBody(model string, messages []message) []byte {
	body, _ := json.Marshal(map[string]any{ // strings and numbers cannot fail
		"model":          model,
		"messages":       messages,
		"max_tokens":     maxReplies,
		"stream":         true,
		"stream_options": map[string]bool{"include_usage": true},
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
	runner  *runner
	rate    float64
	rng     *rand.Rand // of the arrivals and of what they are
	text    *writer
	systems []string  // system prompts by tenant
	popular []float64 // cumulative share of the tenants
	started int       // conversations

	mu      sync.Mutex
	waiting []*conversation // for their next turn, in the order of their answers
}

func newWorkload(r *runner, rate float64, seed uint64) *workload {
	w := &workload{
		runner: r,
		rate:   rate,
		rng:    rand.New(rand.NewPCG(seed, 1)),
		text:   newWriter(seed, 2),
	}
	var sum float64
	for i := range tenants {
		intro := fmt.Sprintf("You are the assistant of tenant %d. ", i+1)
		w.systems = append(w.systems, intro+w.text.prose(w.between(systemMin, systemMax)))
		sum += math.Pow(float64(i+1), -zipfExponent)
		w.popular = append(w.popular, sum)
	}
	for i := range w.popular {
		w.popular[i] /= sum
	}
	return w
}

// run sends requests until ctx is done, and returns when all have ended. Those
// under way are cut off when calls is done.
func (w *workload) run(ctx, calls context.Context) {
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, maxOpen)
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := time.Now()
	for {
		timer.Reset(time.Until(next))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		next = next.Add(time.Duration(w.rng.ExpFloat64() / w.rate * float64(time.Second)))
		select {
		case slots <- struct{}{}:
		default:
			w.runner.skipped.Add(1)
			continue
		}
		turn := w.next(time.Now())
		open.Go(func() {
			defer func() { <-slots }()
			w.take(calls, turn)
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
		return w.batch()
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
		return w.tool()
	}
	tenant := w.tenant()
	return w.begin(tenant, model, priority, w.systems[tenant], w.between(questionMin, questionMax))
}

// begin starts a conversation of a tenant.
func (w *workload) begin(tenant int, model string, priority int, system string, question int) *conversation {
	w.started++
	return &conversation{
		id:       fmt.Sprintf("conversation-%d", w.started),
		tenant:   tenantName(tenant + 1),
		model:    model,
		priority: priority,
		messages: []message{
			{"system", system},
			{"user", w.text.prose(question)},
		},
	}
}

// batch is a job of one request: instructions that all share, a text of its own.
func (w *workload) batch() *conversation {
	c := w.begin(w.tenant(), "batch", types.PrioritySheddable, w.systems[tenants-1][:systemMin/2], w.between(documentMin, documentMax))
	c.turns = maxTurns // no more
	return c
}

// tool is a conversation with one of the adapters.
func (w *workload) tool() *conversation {
	i := w.rng.IntN(3)
	return w.begin(w.tenant(), adapters()[1+i], types.PriorityStandard, w.systems[tenants-2-i], w.between(questionMin, questionMax))
}

// resume takes a conversation of a priority that is ready for its next turn; nil if none
// is.
func (w *workload) resume(priority int, now time.Time) *conversation {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range w.waiting {
		if c.priority == priority && !c.ready.After(now) {
			w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			c.messages = append(c.messages, message{"user", w.text.prose(w.between(questionMin, questionMax))})
			return c
		}
	}
	return nil
}

// take makes a turn and puts the conversation where next finds it again. If one of
// the fleets failed it, it ends for both, so that they go on with the same work.
func (w *workload) take(ctx context.Context, c *conversation) {
	res, good := w.runner.both(ctx, call{
		path: "/v1/chat/completions", body: chatBody(c.model, c.messages), session: c.id, tenant: c.tenant, priority: c.priority,
	})
	c.turns++
	if !good || c.turns >= maxTurns {
		return
	}
	c.messages = append(c.messages, message{"assistant", res.text})
	c.ready = time.Now().Add(minPause)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) < maxSessions {
		w.waiting = append(w.waiting, c)
	}
}

func (w *workload) tenant() int {
	x := w.rng.Float64()
	for i, share := range w.popular {
		if x <= share {
			return i
		}
	}
	return tenants - 1
}

func (w *workload) between(least, most int) int { return least + w.rng.IntN(most-least+1) }
