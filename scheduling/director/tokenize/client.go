package tokenize

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// Options say how engines are asked. The zero value works.
type Options struct {
	// Budget is how long a decision waits for an answer. Default 25 ms, at most 1 s.
	Budget time.Duration
	// Timeout bounds an answer that nobody waits for any more. Default 5 s.
	Timeout time.Duration
	// MaxTokens bounds the token ids that are remembered. Default 4,194,304, which take 16 MiB.
	MaxTokens int
	// MaxAtOnce bounds the requests under way; prompts beyond are not asked about. Default 64.
	MaxAtOnce int
	// URL is where the tokens of a prompt are asked for that may be served by an endpoint: each in turn.
	// Default: http://ADDRESS/tokenize.
	URL func(ep *types.Endpoint) string
	// Transport makes the requests. Default: a http.Transport without proxy.
	Transport http.RoundTripper
}

// Client asks engines for token ids. Make it with New. Safe for concurrent use.
type Client struct {
	o    Options
	seed maphash.Seed

	mu     sync.Mutex
	memory memory
	asked  map[uint64]*question // under way, by prompt
	turn   int                  // whose it is to be asked
	pause  time.Time            // nobody is asked before
	stats  Stats
}

// Stats counts prompts.
type Stats struct {
	Remembered uint64 // whose token ids were known
	Asked      uint64 // that an engine was asked about
	Late       uint64 // that were decided on before there was an answer
	Beginnings uint64 // of those, of which a beginning was known
	Refused    uint64 // that an engine gave no token ids of: it lacks the model, or the path
	Failed     uint64 // that were asked about in vain
}

type question struct {
	key   uint64
	heads []uint64
	bytes int
	done  chan struct{}
	ids   []uint32 // once it is done; nil: not known
}

// after is how long nobody is asked after a failure.
const after = time.Second

// New returns a Client, or an error that lists all options that are out of range.
func New(o Options) (*Client, error) {
	c := check.Checks{Package: "tokenize"}
	check.Default(&c, "Budget", &o.Budget, 25*time.Millisecond, 0, time.Second)
	check.Positive(&c, "Timeout", &o.Timeout, 5*time.Second)
	check.Default(&c, "MaxTokens", &o.MaxTokens, 1<<22, 1, 1<<30)
	check.Default(&c, "MaxAtOnce", &o.MaxAtOnce, 64, 1, 1<<16)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if o.URL == nil {
		o.URL = func(ep *types.Endpoint) string { return "http://" + ep.Address + "/tokenize" }
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}
	}
	return &Client{o: o, seed: maphash.MakeSeed(), memory: newMemory(o.MaxTokens), asked: map[uint64]*question{}}, nil
}

// Stats returns the current counts.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// Of returns the token ids of a prompt, or in time only those of its beginning, or none: it is for
// director.Options.Tokenize. Others than those of chats and completions are not asked about.
func (c *Client) Of(ctx context.Context, r *director.Route, among []*types.Endpoint) (ids []uint32, whole bool) {
	if api := r.API(); api != openai.ChatCompletions && api != openai.Completions || len(among) == 0 {
		return nil, false
	}
	key, heads := maphash.Bytes(c.seed, r.Body), headsOf(&r.Request)
	q, ids := c.ask(key, heads, r, among)
	if ids != nil {
		return ids, true
	}
	if q != nil && q.wait(ctx, c.o.Budget) {
		if q.ids != nil {
			return q.ids, true
		}
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Late++
	if ids = c.memory.beginning(heads); ids != nil {
		c.stats.Beginnings++
	}
	return ids, false
}

// headsOf are the chained hashes of the beginnings of a prompt.
func headsOf(req *types.Request) (heads []uint64) {
	h := prefixindex.NewHasher(headBytes, prefixindex.Seed(req.Target()))
	data := req.PromptData()
	for _, s := range req.Prompt.Spans {
		heads = h.Append(heads, data[s.Start:s.End])
	}
	return heads
}

// wait reports whether there was an answer in time.
func (q *question) wait(ctx context.Context, most time.Duration) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-q.done:
		return true
	case <-late.C:
	case <-ctx.Done():
	}
	return false
}

// ask returns the token ids if they are known, or else the question under way about them; neither if there
// are too many, or engines fail.
func (c *Client) ask(key uint64, heads []uint64, r *director.Route, among []*types.Endpoint) (*question, []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ids := c.memory.get(key); ids != nil {
		c.stats.Remembered++
		return nil, ids
	}
	if q := c.asked[key]; q != nil {
		return q, nil
	}
	if len(c.asked) >= c.o.MaxAtOnce || time.Now().Before(c.pause) {
		return nil, nil
	}
	c.stats.Asked++
	q := &question{key: key, heads: heads, bytes: r.Request.Prompt.Bytes, done: make(chan struct{})}
	c.asked[key] = q
	// The body may be somebody else's before this ends.
	go c.answer(q, c.next(r.Request.Target(), among), bytes.Clone(r.Body))
	return q, nil
}

// next returns whose turn it is to be asked, of those that are not known to lack the model or adapter.
func (c *Client) next(model string, among []*types.Endpoint) *types.Endpoint {
	for range among {
		c.turn++
		if ep := among[c.turn%len(among)]; ep.Models == nil || slices.Contains(ep.Models, model) {
			break
		}
	}
	return among[c.turn%len(among)]
}

// answer answers a question.
func (c *Client) answer(q *question, ep *types.Endpoint, body []byte) {
	ids, status, err := c.request(ep, body)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asked, q.key)
	switch {
	case err != nil || status >= 500:
		c.stats.Failed++
		c.pause = time.Now().Add(after)
	case len(ids) == 0:
		c.stats.Refused++
	default:
		q.ids = ids
		c.memory.add(q.key, q.heads, max(q.bytes, 1), ids)
	}
	close(q.done)
}

// request makes the request. There are no ids if the status is not 200.
func (c *Client) request(ep *types.Endpoint, body []byte) (ids []uint32, status int, err error) {
	defer func() { // Options.URL or Transport
		if v := recover(); v != nil {
			err = fmt.Errorf("tokenize: %v", v)
		}
	}()
	url := c.o.URL(ep)
	ctx, cancel := context.WithTimeout(context.Background(), c.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("tokenize: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.o.Transport.RoundTrip(req)
	if err != nil {
		return nil, 0, fmt.Errorf("tokenize: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, resp.StatusCode, nil
	}
	var answer struct {
		Tokens []uint32 `json:"tokens"`
	}
	// A token takes at least a byte of the prompt, and no more than eleven here.
	most := 4096 + 12*int64(len(body))
	if err := json.NewDecoder(io.LimitReader(resp.Body, most)).Decode(&answer); err != nil {
		return nil, 0, fmt.Errorf("tokenize: %s: %w", url, err)
	}
	return answer.Tokens, resp.StatusCode, nil
}
