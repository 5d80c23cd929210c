package engines_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/vllm"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// envPair names a server that hands over KV caches and one that takes them, which run already.
const envPair = "VLLM_PAIR"

// lease is for how long vLLM keeps a KV cache that nobody fetches.
const lease = 30 * time.Second

// pair returns two servers, the first of which computes prompts for the second, until the end of the test.
func pair(t *testing.T) (in vllm.Install, p, d *vllm.Server) {
	t.Helper()
	in, err := vllm.Find(os.Getenv)
	if errors.Is(err, vllm.ErrNone) {
		t.Skip(err)
	}
	require.NoError(t, err)
	if all := vllm.Running(func(string) string { return os.Getenv(envPair) }); len(all) == 2 {
		return in, all[0], all[1]
	}
	logs := t.TempDir()
	start := func(role string) *vllm.Server {
		s, err := in.Start(filepath.Join(logs, role), vllm.Options{KVRole: role})
		if errors.Is(err, vllm.ErrNone) {
			t.Skip(err)
		}
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	p, d = start("kv_producer"), start("kv_consumer")
	ctx, cancel := context.WithTimeout(t.Context(), *starting)
	defer cancel()
	for _, s := range []*vllm.Server{p, d} {
		require.NoError(t, s.Ready(ctx, t.Logf), s.Tail(40))
	}
	return in, p, d
}

// apart has every prompt computed by the first that may.
type apart struct{}

func (apart) Split(_ context.Context, _ *types.Request, eps, prefill []*types.Endpoint, _ bool, by []int32, _ []float64) error {
	for i, ep := range eps {
		if ep.Load != prefill[0].Load {
			by[i] = 0
		}
	}
	return nil
}

// between counts hand-overs, and calls a function between the legs.
type between struct {
	disagg.Protocol
	do     atomic.Pointer[func()]
	handed atomic.Int64
}

func (b *between) Begin(ctx context.Context, r disagg.Request) (disagg.Handover, error) {
	h, err := b.Protocol.Begin(ctx, r)
	if err != nil {
		return nil, err
	}
	return &handoverBetween{h, b}, nil
}

type handoverBetween struct {
	disagg.Handover
	b *between
}

func (h *handoverBetween) Decode(answer []byte) (disagg.Decode, error) {
	if do := h.b.do.Load(); do != nil {
		(*do)()
	}
	d, err := h.Handover.Decode(answer)
	if err == nil && !d.Ignored {
		h.b.handed.Add(1)
	}
	return d, err
}

// Two real servers, of which one computes all prompts and the other answers.
func TestHandover(t *testing.T) {
	in, p, d := pair(t)
	ctx := t.Context()
	protocol := &between{Protocol: disagg.NIXL(disagg.Options{})}
	handed := &protocol.handed
	profile := plugins.Default()
	profile.Splitter = apart{}
	profile.Alone = scheduling.AloneLimits{Share: 1, Prefill: time.Minute}
	g := newGatewayWith(t, setup{
		profile: &profile, handover: protocol,
		roles: map[string]types.Roles{p.Address: types.RolePrefill, d.Address: types.RoleDecode},
	}, p.Address, d.Address)
	ready(t, g)

	usage := func(s *vllm.Server) float64 { return metric(t, s, "vllm:kv_cache_usage_perc") }
	// idle waits until nobody holds anything for a request any more, in the ledger or on the servers. The second is
	// shorter than the lease of what is not fetched.
	idle := func(t *testing.T) {
		t.Helper()
		unbooked(t, g)
		within(t, lease/3, "KV caches of 0 blocks in use", func() bool { return usage(p)+usage(d) == 0 })
	}
	// alone is what the second server says by itself to a body, with an empty cache.
	alone := func(t *testing.T, path, body string) string {
		t.Helper()
		require.NoError(t, d.Clear(ctx))
		status, text := post(ctx, t, "http://"+d.Address+path, body)
		require.Equal(t, http.StatusOK, status, "%s", text)
		require.NoError(t, d.Clear(ctx))
		return said(t, text)
	}

	for _, words := range []int{20, 400, 2500} {
		for _, stream := range []bool{false, true} {
			for _, api := range []string{"chat", "completion", "responses"} {
				t.Run(fmt.Sprintf("%s of %d words, streamed %t", api, words, stream), func(t *testing.T) {
					path, body := whole(api, fmt.Sprintf("%s-%d-%t ", t.Name(), words, stream), words, stream)
					want := alone(t, path, body)
					before, external := handed.Load(), metric(t, d, "vllm:external_prefix_cache_hits_total")
					began := time.Now()
					status, got := post(ctx, t, g.URL+path, body)
					took := time.Since(began)
					require.Equal(t, http.StatusOK, status, "%s", got)
					if stream && api == "responses" { // its text is in events of their own
						require.Contains(t, string(got), "response.completed")
					} else {
						require.NotEmpty(t, want)
						require.Equal(t, want, said(t, got))
					}
					require.Equal(t, before+1, handed.Load(), "not handed over")
					fetched := metric(t, d, "vllm:external_prefix_cache_hits_total") - external
					require.Greater(t, fetched, float64(words), "tokens that the second server has got from the first")
					if !stream || api != "responses" {
						require.Zero(t, cachedOf(t, got), "nobody had anything of it cached")
					}
					t.Logf("%g tokens handed over; %s", fetched, took.Round(time.Millisecond))
					idle(t)
				})
			}
		}
	}

	t.Run("the client of OpenAI", func(t *testing.T) {
		prompt := "a prompt for the client " + strings.Repeat("of another ", 200)
		ask := func(url string) (got []spoken) {
			out, err := exec.CommandContext(ctx, filepath.Join(filepath.Dir(in.Bin), "python"), "handover_client.py", url, prompt).Output()
			require.NoError(t, err, "%s", out)
			for line := range strings.Lines(string(out)) {
				var s spoken
				require.NoError(t, json.Unmarshal([]byte(line), &s))
				got = append(got, s)
			}
			require.Len(t, got, 2)
			return got
		}
		require.NoError(t, d.Clear(ctx))
		want := ask("http://" + d.Address)
		require.NoError(t, d.Clear(ctx))
		before := handed.Load()
		got := ask(g.URL)
		require.Equal(t, before+2, handed.Load())
		for i := range got {
			require.Equal(t, want[i].Text, got[i].Text)
			require.Equal(t, "length", got[i].Reason)
			require.Equal(t, want[i].Prompt, got[i].Prompt)
			require.Equal(t, 12, got[i].Generated)
		}
		require.Zero(t, got[0].Cached)
		require.Equal(t, (got[1].Prompt-1)/vllm.BlockSize*vllm.BlockSize, got[1].Cached, "what the first server had cached: all blocks but that of the last token")
		idle(t)
	})

	t.Run("what cannot be handed over", func(t *testing.T) {
		before := handed.Load()
		for _, body := range []string{
			`{"model":"tiny","max_tokens":4,"prompt":["one prompt of two","and the other one"]}`,
			`{"model":"tiny","max_tokens":4,"prompt":"its own log probabilities, please","prompt_logprobs":1}`,
		} {
			status, got := post(ctx, t, g.URL+"/v1/completions", body)
			require.Equal(t, http.StatusOK, status, "%s", got)
		}
		require.Equal(t, before, handed.Load())
		status, got := post(ctx, t, g.URL+"/v1/completions",
			`{"model":"tiny","max_tokens":4,"prompt":"a client's own","kv_transfer_params":{"do_remote_prefill":true,"remote_block_ids":[[1]],"remote_engine_id":"x","remote_request_id":"y","remote_host":"127.0.0.1","remote_port":1}}`)
		require.Equal(t, http.StatusBadRequest, status, "%s", got)
		require.Contains(t, string(got), "kv_transfer_params")
		idle(t)
	})

	t.Run("many at once", func(t *testing.T) {
		before := handed.Load()
		errs := make(chan error)
		const n = 24
		for i := range n {
			go func() {
				path, body := whole([]string{"chat", "completion"}[i%2], fmt.Sprintf("many %d ", i), 50+i*30, i%3 == 0)
				status, got, err := tryPost(ctx, g.URL+path, body)
				if err == nil && status != http.StatusOK {
					err = fmt.Errorf("status %d: %.300s", status, got)
				}
				errs <- err
			}()
		}
		for range n {
			require.NoError(t, <-errs)
		}
		require.Equal(t, before+n, handed.Load())
		idle(t)
	})

	t.Run("clients that leave", func(t *testing.T) {
		leave := func(name string, after func(cancel func())) {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				after(cancel)
				defer protocol.do.Store(nil)
				path, body := whole("chat", "one who leaves "+name, 3000, true)
				_, _, err := tryPost(ctx, g.URL+path, body)
				require.ErrorIs(t, err, context.Canceled)
				began := time.Now()
				idle(t)
				t.Logf("nothing was held after %s", time.Since(began).Round(10*time.Millisecond))
			})
		}
		leave("while the prompt is computed", func(cancel func()) { time.AfterFunc(150*time.Millisecond, cancel) })
		leave("between the legs", func(cancel func()) {
			do := func() { cancel(); time.Sleep(50 * time.Millisecond) }
			protocol.do.Store(&do)
		})
		leave("with the second leg under way", func(cancel func()) {
			do := func() { time.AfterFunc(30*time.Millisecond, cancel) }
			protocol.do.Store(&do)
		})
	})

	t.Run("where the default policy decides", func(t *testing.T) {
		protocol := &between{Protocol: disagg.NIXL(disagg.Options{})}
		g := newGatewayWith(t, setup{
			handover: protocol,
			roles:    map[string]types.Roles{p.Address: types.RolePrefill, d.Address: types.RoleDecode},
		}, p.Address, d.Address)
		ready(t, g)
		const n = 12
		for i := range n {
			path, body := whole("chat", fmt.Sprintf("by default %d ", i), 40+i*200, i%2 == 0)
			want := alone(t, path, body)
			status, got := post(ctx, t, g.URL+path, body)
			require.Equal(t, http.StatusOK, status, "%s", got)
			require.Equal(t, want, said(t, got))
		}
		unbooked(t, g)
		t.Logf("%d of %d were handed over", protocol.handed.Load(), n)
		idle(t)
	})

	t.Run("a server that ends", func(t *testing.T) {
		if !p.Ours() {
			t.Skip("the servers were running already")
		}
		path, body := whole("chat", "the last ", 600, false)
		want := alone(t, path, body)
		do := func() { _ = p.Kill() }
		protocol.do.Store(&do)
		began := time.Now()
		status, got := post(ctx, t, g.URL+path, body)
		protocol.do.Store(nil)
		t.Logf("ended between the legs: status %d after %s: %.200s", status, time.Since(began).Round(time.Millisecond), got)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, want, said(t, got))

		path, body = whole("chat", "after the last ", 600, true)
		want = alone(t, path, body)
		began = time.Now()
		status, got = post(ctx, t, g.URL+path, body)
		t.Logf("gone: status %d after %s", status, time.Since(began).Round(time.Millisecond))
		require.Equal(t, http.StatusOK, status, "%s", got)
		require.Equal(t, want, said(t, got))
		unbooked(t, g)
	})
}

// unbooked waits until nothing is booked on any server of a gateway.
func unbooked(t *testing.T, g *gateway) {
	t.Helper()
	within(t, 5*time.Second, "ledgers of 0", func() bool {
		for _, ep := range g.endpoints() {
			if ep.Load.Held() != (types.Booking{}) {
				return false
			}
		}
		return true
	})
}

// spoken is what handover_client.py prints.
type spoken struct {
	Text, Reason              string
	Prompt, Cached, Generated int
}

// whole is a request of one who knows nothing of legs. Prompts begin with what is first.
func whole(api, first string, words int, stream bool) (path, body string) {
	prompt := first + strings.Join(strings.Fields(strings.Repeat(prompted, words/8+1))[:words], " ")
	q := map[string]any{"model": "tiny", "temperature": 0}
	if stream {
		q["stream"] = true
	}
	if api == "responses" {
		q["input"], q["max_output_tokens"] = prompt, 12
	} else {
		q["max_tokens"], q["seed"], q["ignore_eos"] = 12, 7, true
		if stream {
			q["stream_options"] = map[string]bool{"include_usage": true}
		}
	}
	switch api {
	case "chat":
		path, q["messages"] = "/v1/chat/completions", []message{{"user", prompt}}
	case "completion":
		path, q["prompt"] = "/v1/completions", prompt
	default:
		path = "/v1/responses"
	}
	text, _ := json.Marshal(q)
	return path, string(text)
}

const prompted = "a server that computes what another one answers " // 8 words

func tryPost(ctx context.Context, url, body string) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func post(ctx context.Context, t *testing.T, url, body string) (int, []byte) {
	t.Helper()
	status, answer, err := tryPost(ctx, url, body)
	require.NoError(t, err)
	return status, answer
}
