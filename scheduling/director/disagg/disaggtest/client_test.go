package disaggtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
)

const (
	chat        = "/v1/chat/completions"
	completions = "/v1/completions"
)

// ask is a client's request: what both legs have in common, and what a prefill leg has not.
type ask struct{ path, common, own string }

func (a ask) body() string { return "{" + a.common + a.own + "}" }

func with(body, more string) string { return strings.TrimSuffix(body, "}") + more + "}" }

func asks() map[string]ask {
	return map[string]ask{
		"chat":       {chat, `"model":"m", "messages":[{"role":"user","content":"why is the sky  blue \u00e9"}],"user":"u1","seed":12345678901234567890`, `,"max_completion_tokens":5`},
		"chat_all":   {chat, `"messages":[{"role":"user","content":"hi"}],"user":"u2"`, ``},
		"chat_sse":   {chat, `"messages":[{"role":"user","content":"hi"}],"user":"u3"`, `,"stream":true,"stream_options":{"include_usage":true},"max_tokens":20`},
		"completion": {completions, `"prompt":"once upon a time","user":"u4"`, `,"max_tokens":3`},
		"sse":        {completions, `"prompt":[1,2,3],"user":"u5"`, `,"stream":true`},
	}
}

// reply is an answer of an engine.
type reply struct {
	status int
	body   []byte
	err    error
}

// gateway is the least client that speaks the protocols rightly.
type gateway struct {
	c      *dt.Cluster
	http   *http.Client
	serial atomic.Int64
	tidy   bool // ends a leg if the other fails
}

func start(t *testing.T, opts dt.Options) *gateway {
	c := dt.New(opts)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() { transport.CloseIdleConnections(); c.Close() })
	return &gateway{c: c, http: &http.Client{Transport: transport}}
}

func (g *gateway) post(ctx context.Context, e *dt.Engine, path, id, body string, header ...string) reply {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL()+path, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("X-Request-Id", id)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := g.http.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, all, err}
}

// both sends two legs at once and returns both answers.
func both(prefill, decode func() reply) (p, d reply) {
	var wait sync.WaitGroup
	wait.Go(func() { p = prefill() })
	d = decode()
	wait.Wait()
	return p, d
}

// pair is both; a tidy client ends each leg if the other fails.
func (g *gateway) pair(ctx context.Context, prefill, decode func(context.Context) reply) reply {
	pctx, endPrefill := context.WithCancel(ctx)
	dctx, endDecode := context.WithCancel(ctx)
	defer endPrefill()
	defer endDecode()
	_, d := both(func() reply {
		p := prefill(pctx)
		if g.tidy && (p.err != nil || p.status != 200) {
			endDecode()
		}
		return p
	}, func() reply {
		d := decode(dctx)
		if g.tidy && (d.err != nil || d.status != 200) {
			endPrefill()
		}
		return d
	})
	return d
}

// capped is the prefill leg's body for vLLM.
func (a ask) capped(params string) string {
	limit := "max_tokens"
	if strings.Contains(a.own, "max_completion_tokens") {
		limit = "max_completion_tokens"
	}
	return "{" + a.common + fmt.Sprintf(`,%q:1,"stream":false,"kv_transfer_params":%s}`, limit, params)
}

const nixlAsk = `{"do_remote_decode":true,"do_remote_prefill":false,"remote_engine_id":null,"remote_block_ids":null,"remote_host":null,"remote_port":null}`

// member returns the raw value of a member.
func member(body []byte, keys ...string) string {
	for _, key := range keys {
		var m map[string]json.RawMessage
		if json.Unmarshal(body, &m) != nil {
			return ""
		}
		body = m[key]
	}
	return string(body)
}

// relay is the object of an answer of a NIXL prefill leg, cut out of its bytes.
func relay(answer []byte) string {
	at := bytes.Index(answer, []byte(`"kv_transfer_params":`))
	if at < 0 {
		return ""
	}
	var raw json.RawMessage
	_ = json.NewDecoder(bytes.NewReader(answer[at+len(`"kv_transfer_params":`):])).Decode(&raw)
	return string(raw)
}

// serve serves a request by two legs.
func (g *gateway) serve(ctx context.Context, p, d *dt.Engine, a ask, protocol dt.Protocol) reply {
	serial := g.serial.Add(1)
	id := fmt.Sprintf("r-%d", serial)
	switch protocol {
	case dt.NIXL:
		got := g.post(ctx, p, a.path, id, a.capped(nixlAsk))
		if got.err != nil || got.status != 200 {
			return got
		}
		params := relay(got.body)
		if params == "" || params == "null" {
			return g.post(ctx, d, a.path, id, a.body())
		}
		return g.post(ctx, d, a.path, id, with(a.body(), `,"kv_transfer_params":`+params))
	case dt.Mooncake:
		res, err := g.http.Get("http://" + p.Bootstrap() + "/query")
		if err != nil {
			return reply{err: err}
		}
		defer res.Body.Close()
		all, _ := io.ReadAll(res.Body)
		engine := member(all, "0", "engine_id")
		return g.pair(ctx, func(ctx context.Context) reply {
			return g.post(ctx, p, a.path, id, a.capped(fmt.Sprintf(`{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"xfer-%s"}`, id)), "X-data-parallel-rank", "0")
		}, func(ctx context.Context) reply {
			return g.post(ctx, d, a.path, id, with(a.body(), fmt.Sprintf(`,"kv_transfer_params":{"do_remote_decode":false,"do_remote_prefill":true,"transfer_id":"xfer-%s","remote_bootstrap_addr":"http://%s","remote_engine_id":%s}`, id, p.Bootstrap(), engine)))
		})
	case dt.SGLang:
		body := with(a.body(), room(p, serial)+`,"rid":"`+id+`-"`)
		return g.pair(ctx, func(ctx context.Context) reply { return g.post(ctx, p, a.path, id, body) }, func(ctx context.Context) reply { return g.post(ctx, d, a.path, id, body) })
	default:
		got := g.post(ctx, p, a.path, id, contextBody(a))
		if got.err != nil || got.status != 200 || strings.Contains(string(got.body), `"finish_reason":"stop"`) {
			return got
		}
		return g.post(ctx, d, a.path, id, generationBody(a, got.body))
	}
}

func room(p *dt.Engine, id int64) string {
	host, port, _ := strings.Cut(p.Bootstrap(), ":")
	return fmt.Sprintf(`,"bootstrap_host":%q,"bootstrap_port":%s,"bootstrap_room":%d`, host, port, id)
}

func contextBody(a ask) string {
	own, _, _ := strings.Cut(a.own, `,"stream`) // in asks() caps come after streams: they must stay
	if at := strings.Index(a.own, `,"max_`); at >= 0 {
		own = a.own[at:]
	}
	return "{" + a.common + own + `,"disaggregated_params":{"request_type":"context_only","disagg_request_id":77},"stream":false}`
}

func generationBody(a ask, answer []byte) string {
	var v struct {
		Choices []struct {
			Params json.RawMessage `json:"disaggregated_params"`
		} `json:"choices"`
		IDs   json.RawMessage `json:"prompt_token_ids"`
		Usage json.RawMessage `json:"usage"`
	}
	if json.Unmarshal(answer, &v) != nil || len(v.Choices) == 0 {
		return "{}"
	}
	params := strings.Replace(string(v.Choices[0].Params), "context_only", "generation_only", 1)
	params = with(params, `,"ctx_usage":`+string(v.Usage))
	body := with(a.body(), `,"disaggregated_params":`+params)
	if a.path == chat {
		return with(body, `,"prompt_token_ids":`+string(v.IDs))
	}
	return with(body, `,"prompt":`+string(v.IDs))
}

// right requires that a client got the right answer.
func (g *gateway) right(t *testing.T, a ask, got reply) dt.Answer {
	t.Helper()
	require.NoError(t, got.err)
	require.Equal(t, 200, got.status, "%s", got.body)
	answer, err := dt.Read(got.body)
	require.NoError(t, err)
	want, err := g.c.Want(a.path, []byte(a.body()))
	require.NoError(t, err)
	same := answer
	if same.Usage != nil {
		usage := *same.Usage
		usage.Details.Cached = 0
		same.Usage = &usage
	}
	require.Equal(t, want, same)
	return answer
}

func protocols() []dt.Protocol {
	return []dt.Protocol{dt.NIXL, dt.Mooncake, dt.SGLang, dt.TensorRT}
}
