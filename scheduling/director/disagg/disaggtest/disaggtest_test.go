package disaggtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
)

// A client that does it right gets the right answers, and nothing is wrong.
func TestRightClient(t *testing.T) {
	for _, protocol := range protocols() {
		t.Run(protocol.String(), func(t *testing.T) {
			g := start(t, dt.Options{Protocol: protocol, Prefill: 2, Decode: 2, Behaviour: dt.Behaviour{CachedTokens: 2}})
			var wait sync.WaitGroup
			i := 0
			for name, a := range asks() {
				p, d := g.c.Prefill[i%2], g.c.Decode[(i+1)%2]
				i++
				if protocol == dt.TensorRT && name == "sse" {
					continue // a list of ids may be given as they are, but then it is not told from a replaced one
				}
				wait.Go(func() {
					got := g.serve(t.Context(), p, d, a, protocol)
					if got.err != nil || got.status != 200 {
						t.Errorf("%s: %d %s %v", name, got.status, got.body, got.err)
						return
					}
					answer := g.right(t, a, got)
					if answer.Usage != nil && answer.Usage.Details.Cached != min(2, answer.Usage.Prompt) {
						t.Errorf("%s: %+v, want what the prefiller found cached", name, answer.Usage)
					}
				})
			}
			wait.Wait()
			require.NoError(t, g.c.Check())
			s := g.c.Stats()
			require.Equal(t, s.Prefill, s.Transferred)
			require.GreaterOrEqual(t, s.Prefill, 4)
			require.Zero(t, s.Pinned+s.Running+s.Recomputed+s.Ordinary)
			for _, l := range g.c.Legs() {
				require.Equal(t, dt.Complete, l.Outcome)
				require.True(t, l.Transferred)
				require.False(t, l.Received.After(l.Answered) || l.Answered.After(l.FirstToken) || l.FirstToken.After(l.Ended), "%+v", l)
				require.True(t, strings.HasPrefix(l.RequestID, "r-"))
			}
		})
	}
}

// Requests may go to one engine alone, but for SGLang, whose engines of a pair refuse them.
func TestOrdinary(t *testing.T) {
	for _, protocol := range protocols() {
		g := start(t, dt.Options{Protocol: protocol, Decode: 1, Plain: 1})
		for _, a := range asks() {
			g.right(t, a, g.post(t.Context(), g.c.Plain[0], a.path, "r", a.body()))
		}
		a := ask{completions, `"prompt":["a","b"],"n":2,"user":"n"`, ``}
		got := g.post(t.Context(), g.c.Decode[0], a.path, "r", a.body())
		if protocol == dt.SGLang {
			require.Equal(t, 400, got.status)
			require.Contains(t, string(got.body), "without bootstrap room id")
			require.ErrorContains(t, g.c.Check(), "without bootstrap room")
			continue
		}
		require.Len(t, g.right(t, a, got).Choices, 4)
		require.NoError(t, g.c.Check())
		require.Equal(t, len(asks())+1, g.c.Stats().Ordinary)
	}
}

// What engines refuse, and what they suffer from in silence.
func TestViolations(t *testing.T) {
	a := asks()["chat"]
	one := func(path, common string) ask { return ask{path, common, ""} }
	type world = *gateway
	prefill := func(g world, body string, h ...string) reply {
		return g.post(context.Background(), g.c.Prefill[0], chat, "p", body, h...)
	}
	decode := func(g world, body string) reply {
		return g.post(context.Background(), g.c.Decode[0], chat, "p", body)
	}
	// nixl sends a right prefill leg and a decode leg with an edited relay.
	nixl := func(edit func(string) string) func(world) reply {
		return func(g world) reply {
			got := prefill(g, a.capped(nixlAsk))
			return decode(g, with(a.body(), `,"kv_transfer_params":`+edit(relay(got.body))))
		}
	}
	replace := func(old, new string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, old) {
				panic(old + " is not in " + s)
			}
			return strings.Replace(s, old, new, 1)
		}
	}
	// tensor sends a right context leg and an edited generation leg.
	tensor := func(a ask, edit func(string) string) func(world) reply {
		return func(g world) reply {
			got := g.post(context.Background(), g.c.Prefill[0], a.path, "p", contextBody(a))
			return g.post(context.Background(), g.c.Decode[0], a.path, "p", edit(generationBody(a, got.body)))
		}
	}
	mooncake := func(edit func(string) string) func(world) reply {
		return func(g world) reply {
			body := fmt.Sprintf(`{"do_remote_prefill":true,"transfer_id":"x","remote_bootstrap_addr":"http://%s","remote_engine_id":%q}`, g.c.Prefill[0].Bootstrap(), g.c.Prefill[0].EngineID(0))
			_, d := both(func() reply { return prefill(g, a.capped(`{"do_remote_decode":true,"transfer_id":"x"}`)) },
				func() reply { return decode(g, with(a.body(), `,"kv_transfer_params":`+edit(body))) })
			return d
		}
	}
	same := func(s string) string { return s }
	for _, c := range []struct {
		name     string
		protocol dt.Protocol
		do       func(world) reply
		status   int
		says     string // in the answer
		found    string // by Check
	}{
		{"prefill streamed", dt.NIXL, func(g world) reply { return prefill(g, with(a.capped(nixlAsk), `,"stream":true`)) }, 400, "cannot be streamed", "cannot be streamed"},
		{"stream options", dt.NIXL, func(g world) reply {
			return prefill(g, with(a.capped(nixlAsk), `,"stream_options":{"include_usage":true}`))
		}, 400, "Stream options can only be defined when", "Stream options"},
		{"both caps", dt.NIXL, func(g world) reply { return prefill(g, with(a.capped(nixlAsk), `,"max_tokens":1`)) }, 400, "Only one of", "Only one of"},
		{"min tokens", dt.NIXL, func(g world) reply { return prefill(g, with(a.capped(nixlAsk), `,"min_tokens":2`)) }, 400, "max_tokens=1, got 2", "max_tokens=1, got 2"},
		{"prefill of several", dt.NIXL, func(g world) reply { return prefill(g, with(a.capped(nixlAsk), `,"n":2`)) }, 400, "n is 2", "n is 2"},
		{"no cap", dt.NIXL, func(g world) reply { return prefill(g, with(a.body(), `,"kv_transfer_params":`+nixlAsk)) }, 200, "prefill-0", "not capped"},
		{"nobody decodes", dt.NIXL, func(g world) reply { return prefill(g, a.capped(nixlAsk)) }, 200, "kv_transfer_params", "pinned: nobody takes"},
		{"decode of several", dt.NIXL, nixl(func(s string) string { return s + `,"n":2` }), 400, "one choice", "one answer"},
		{"relay lacks a field", dt.NIXL, nixl(replace(`"remote_port":5600,`, ``)), 200, "w", "computed again"},
		{"relay changed", dt.NIXL, nixl(replace(`[[2, 3]]`, `[[2,4]]`)), 500, "Internal server error", "not those handed out"},
		{"relay unknown", dt.NIXL, nixl(replace(`cmpl-prefill`, `cmpl-other`)), 500, "Internal server error", "no prefiller handed out"},
		{"relay compacted", dt.NIXL, nixl(replace(`[[2, 3]]`, `[[2,3]]`)), 200, " w", "not those handed out"},
		{"relay rounded", dt.NIXL, nixl(replace(`123456789012345678901234567890`, `1.2345678901234568e29`)), 200, " w", "not those handed out"},
		{"relay without what is new", dt.NIXL, nixl(func(s string) string { return s[:strings.Index(s, `,"unheard_of"`)] + "}" }), 200, " w", "not those handed out"},
		{"body edited", dt.NIXL, nixl(func(s string) string { return s + `,"temperature":1` }), 200, " w", "differs from that of its prefill leg"},
		{"decoded twice", dt.NIXL, func(g world) reply {
			params := relay(prefill(g, a.capped(nixlAsk)).body)
			decode(g, with(a.body(), `,"kv_transfer_params":`+params))
			return decode(g, with(a.body(), `,"kv_transfer_params":`+params))
		}, 500, "Internal server error", "went to another leg already"},
		{"answered twice", dt.NIXL, func(g world) reply { decode(g, a.body()); return decode(g, a.body()) }, 200, " w", `2 answers for user "u1"`},
		{"request ids", dt.NIXL, func(g world) reply {
			params := relay(prefill(g, a.capped(nixlAsk)).body)
			return g.post(context.Background(), g.c.Decode[0], chat, "other", with(a.body(), `,"kv_transfer_params":`+params))
		}, 200, " w", "X-Request-Id differs"},
		{"alone at a prefiller", dt.NIXL, func(g world) reply { return prefill(g, a.body()) }, 200, " w", "role is prefill"},
		{"prefill at a decoder", dt.NIXL, func(g world) reply {
			params := relay(decode(g, a.capped(nixlAsk)).body)
			return decode(g, with(a.body(), `,"kv_transfer_params":`+params))
		}, 200, " w", "role is decode"},
		{"legs at a plain engine", dt.NIXL, func(g world) reply {
			return g.post(context.Background(), g.c.Plain[0], chat, "p", a.capped(nixlAsk))
		}, 200, " w", "not disaggregated"},

		{"mooncake unknown engine", dt.Mooncake, mooncake(replace(`-dp0`, `-dp7`)), 500, "Internal server error", "has no engine id"},
		{"mooncake unknown bootstrap", dt.Mooncake, mooncake(replace(`http://`, ``)), 500, "Internal server error", "no prefiller has"},
		{"mooncake no engine", dt.Mooncake, mooncake(replace(`"remote_engine_id"`, `"remote"`)), 200, " w", "lack remote_engine_id"},
		{"mooncake other transfer", dt.Mooncake, mooncake(replace(`"x"`, `"y"`)), 500, "Internal server error", "prefill leg never came"},
		{"mooncake used twice", dt.Mooncake, func(g world) reply { mooncake(same)(g); return mooncake(same)(g) }, 500, "Internal server error", "transfer id is in use"},
		{"mooncake body", dt.Mooncake, mooncake(func(s string) string { return s + `,"top_p":0.5` }), 200, " w", "does not edit"},
		{"mooncake no rank", dt.Mooncake, func(g world) reply {
			return prefill(g, a.capped(`{"do_remote_decode":true,"transfer_id":"x"}`), "X-data-parallel-rank", "5")
		}, 400, "data parallel rank", `"5"`},
		{"mooncake nobody decodes", dt.Mooncake, func(g world) reply {
			return prefill(g, a.capped(`{"do_remote_decode":true,"transfer_id":"x"}`))
		}, 200, "prefill-0", "pinned"},

		{"sglang one after the other", dt.SGLang, func(g world) reply {
			return prefill(g, with(a.body(), room(g.c.Prefill[0], 1)))
		}, 500, "KVTransferError(bootstrap_room=1)", "decode leg never came"},
		{"sglang decode alone", dt.SGLang, func(g world) reply {
			return decode(g, with(a.body(), room(g.c.Prefill[0], 1)))
		}, 500, "KVTransferError(bootstrap_room=1)", "prefill leg never came"},
		{"sglang room in use", dt.SGLang, func(g world) reply {
			body := with(a.body(), room(g.c.Prefill[0], 1))
			ctx, cancel := context.WithCancel(context.Background())
			_, d := both(func() reply { return g.post(ctx, g.c.Decode[0], chat, "p", body) }, func() reply {
				defer cancel()
				for g.c.Stats().Decode == 0 {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(50 * time.Millisecond) // it goes into the room at once
				return g.post(context.Background(), g.c.Decode[0], chat, "q", body)
			})
			return d
		}, 500, "in use", "room is in use"},
		{"sglang other prefiller", dt.SGLang, func(g world) reply {
			return prefill(g, with(a.body(), `,"bootstrap_host":"127.0.0.1","bootstrap_port":1,"bootstrap_room":1`))
		}, 500, "KVTransferError", "no prefiller has"},
		{"sglang arrays", dt.SGLang, func(g world) reply {
			return g.post(context.Background(), g.c.Prefill[0], completions, "p", `{"prompt":["a","b"],"bootstrap_host":["h","h"],"bootstrap_port":[1,1],"bootstrap_room":[1]}`)
		}, 400, "not an array of 2", "not an array of 2"},
		{"sglang abort of all", dt.SGLang, func(g world) reply {
			return g.post(context.Background(), g.c.Decode[0], "/abort_request", "p", `{"rid":""}`)
		}, 200, "", "ends the legs of"},

		{"tensorrt streamed", dt.TensorRT, func(g world) reply {
			return prefill(g, strings.Replace(contextBody(a), `"stream":false`, `"stream":true`, 1))
		}, 400, "cannot be streamed", "streamed"},
		{"tensorrt prompt kept", dt.TensorRT, tensor(a, func(s string) string { return s[:strings.Index(s, `,"prompt_token_ids"`)] + "}" }), 500, "cannot be continued", "is not the prompt_token_ids"},
		{"tensorrt completion kept", dt.TensorRT, tensor(one(completions, `"prompt":"a b","user":"x"`), func(s string) string { return s[:strings.LastIndex(s, `,"prompt"`)] + "}" }), 500, "cannot be continued", "is not the prompt_token_ids"},
		{"tensorrt state changed", dt.TensorRT, tensor(a, replace(`b3BhcXVl`, `b3BhcXVm`)), 500, "cannot be continued", "not those handed out"},
		{"tensorrt id rounded", dt.TensorRT, tensor(a, replace(`1152921504606846977`, `1152921504606847000`)), 500, "cannot be continued", "no engine handed out"},
		{"tensorrt no usage", dt.TensorRT, tensor(a, replace(`"ctx_usage"`, `"unused"`)), 500, "cannot be continued", "not those handed out"},
		{"tensorrt caps edited", dt.TensorRT, tensor(a, replace(`"max_completion_tokens":5`, `"max_completion_tokens":6`)), 200, " w", "does not edit"},
		{"tensorrt goes on after the end", dt.TensorRT, func(g world) reply {
			g.c.Prefill[0].SetBehaviour(dt.Behaviour{Complete: true})
			return tensor(a, same)(g)
		}, 500, "answered finally", "answered finally"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := dt.Options{Protocol: c.protocol, Prefill: 1, Decode: 1, Plain: 1, Settle: 20 * time.Millisecond}
			if strings.Contains(c.found, "never came") {
				opts.Wait = 50 * time.Millisecond
			}
			g := start(t, opts)
			got := c.do(g)
			require.NoError(t, got.err)
			require.Equal(t, c.status, got.status, "%s", got.body)
			require.Contains(t, string(got.body), c.says)
			err := g.c.Check()
			require.ErrorContains(t, err, c.found)
			require.NotContains(t, err.Error(), "itself panicked")
			if c.status >= 400 {
				require.True(t, json.Valid(got.body))
			}
		})
	}
}

// NIXL keeps KV until it is taken, the decode leg is cancelled, or the lease ends.
func TestLease(t *testing.T) {
	var now atomic.Int64
	a := asks()["chat_sse"]
	g := start(t, dt.Options{Lease: time.Minute, Settle: 2 * time.Second, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	p, d := g.c.Prefill[0], g.c.Decode[0]
	first := func(id string) string {
		return with(a.body(), `,"kv_transfer_params":`+relay(g.post(t.Context(), p, a.path, id, a.capped(nixlAsk)).body))
	}
	g.right(t, a, g.post(t.Context(), d, a.path, "1", first("1")))
	require.Zero(t, g.c.Stats().Pinned)

	// The clean-up after a client who leaves between the legs.
	d.SetBehaviour(dt.Behaviour{TransferTime: time.Hour})
	body := first("2")
	require.Equal(t, 1, g.c.Stats().Pinned)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for g.c.Stats().Running == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	require.Error(t, g.post(ctx, d, a.path, "2", body).err)
	require.NoError(t, g.c.Check())
	require.Equal(t, 1, g.c.Stats().Freed)
	last := g.c.Legs()[3]
	require.Equal(t, dt.Cancelled, last.Outcome)
	require.Zero(t, last.FirstToken)

	// Too late: the stream was begun already, so the error is an event, and nothing is transferred.
	d.SetBehaviour(dt.Behaviour{})
	body = first("3")
	now.Store(61)
	require.Equal(t, 1, g.c.Stats().Stranded)
	got := g.post(t.Context(), d, a.path, "3", body)
	require.Equal(t, 200, got.status)
	_, err := dt.Read(got.body)
	require.ErrorContains(t, err, "Internal server error")
	require.ErrorContains(t, g.c.Check(), "stranded")
	d.SetBehaviour(dt.Behaviour{Recompute: true})
	g.right(t, a, g.post(t.Context(), d, a.path, "3", body))
	require.Equal(t, 1, g.c.Stats().Recomputed)
}

func TestBehaviours(t *testing.T) {
	a := asks()["chat"]
	prompt := func(g *gateway) int {
		want, err := g.c.Want(a.path, []byte(a.body()))
		require.NoError(t, err)
		return want.Usage.Prompt
	}
	for _, c := range []struct {
		name   string
		b      dt.Behaviour
		cached func(*gateway) int
		legs   dt.Stats
	}{
		{"new usage", dt.Behaviour{CachedTokens: 3}, func(*gateway) int { return 3 }, dt.Stats{Prefill: 1, Decode: 1, Transferred: 1}},
		{"old usage", dt.Behaviour{CachedTokens: 3, OldUsage: true}, prompt, dt.Stats{Prefill: 1, Decode: 1, Transferred: 1}},
		{"large", dt.Behaviour{ParamsBytes: 3 << 20}, func(*gateway) int { return 0 }, dt.Stats{Prefill: 1, Decode: 1, Transferred: 1}},
		{"null", dt.Behaviour{NullParams: true}, func(*gateway) int { return 0 }, dt.Stats{Prefill: 1, Ordinary: 1}},
		{"no connector", dt.Behaviour{NoConnector: true}, func(*gateway) int { return 0 }, dt.Stats{Prefill: 1, Ordinary: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, dt.Options{Behaviour: c.b})
			got := g.serve(t.Context(), g.c.Prefill[0], g.c.Decode[0], a, dt.NIXL)
			require.Equal(t, c.cached(g), g.right(t, a, got).Usage.Details.Cached)
			require.NoError(t, g.c.Check())
			require.Equal(t, c.legs, g.c.Stats())
			if c.b.ParamsBytes > 0 {
				require.Greater(t, len(g.c.Legs()[1].Body), c.b.ParamsBytes)
			}
		})
	}
	t.Run("decoder without a connector", func(t *testing.T) {
		g := start(t, dt.Options{})
		g.c.Decode[0].SetBehaviour(dt.Behaviour{NoConnector: true})
		g.right(t, a, g.serve(t.Context(), g.c.Prefill[0], g.c.Decode[0], a, dt.NIXL))
		require.NoError(t, g.c.Check())
		require.Equal(t, 1, g.c.Stats().Recomputed)
	})
	t.Run("complete", func(t *testing.T) {
		g := start(t, dt.Options{Protocol: dt.TensorRT, Behaviour: dt.Behaviour{Complete: true}})
		short := asks()["chat_all"]
		g.right(t, short, g.serve(t.Context(), g.c.Prefill[0], g.c.Decode[0], short, dt.TensorRT))
		require.NoError(t, g.c.Check())
	})
	t.Run("ranks", func(t *testing.T) {
		g := start(t, dt.Options{Protocol: dt.Mooncake, Ranks: 4})
		g.right(t, a, g.serve(t.Context(), g.c.Prefill[0], g.c.Decode[0], a, dt.Mooncake))
		require.NoError(t, g.c.Check())
		require.Equal(t, 1, g.c.Stats().Queries)
	})
	t.Run("batch", func(t *testing.T) {
		g := start(t, dt.Options{Protocol: dt.SGLang})
		host, port, _ := net.SplitHostPort(g.c.Prefill[0].Bootstrap())
		batch := ask{completions, `"prompt":["a b","c"],"user":"b"`, ``}
		body := with(batch.body(), fmt.Sprintf(`,"bootstrap_host":[%q,%q],"bootstrap_port":[%s,%s],"bootstrap_room":[5,6]`, host, host, port, port))
		_, d := both(func() reply { return g.post(t.Context(), g.c.Prefill[0], completions, "1", body) }, func() reply { return g.post(t.Context(), g.c.Decode[0], completions, "1", body) })
		require.Len(t, g.right(t, batch, d).Choices, 2)
		require.NoError(t, g.c.Check())
	})
}

// The engines end when they are closed, whatever is going on, and leave nothing behind.
func TestNoGoroutineIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	c := dt.New(dt.Options{Protocol: dt.SGLang, Prefill: 2, Decode: 2})
	transport := &http.Transport{}
	g := &gateway{c: c, http: &http.Client{Transport: transport}}
	c.Decode[0].Fail(dt.Fault{Phase: dt.Before, Kind: dt.Hang})
	done := make(chan reply, 2)
	a := asks()["chat"]
	go func() {
		done <- g.post(context.Background(), c.Prefill[0], a.path, "1", with(a.body(), room(c.Prefill[0], 1)))
	}()
	go func() {
		done <- g.post(context.Background(), c.Decode[0], a.path, "1", with(a.body(), room(c.Prefill[0], 1)))
	}()
	require.Eventually(t, func() bool { return c.Stats().Running == 2 }, 5*time.Second, time.Millisecond)
	c.Close()
	c.Close()
	require.Error(t, (<-done).err)
	require.Error(t, (<-done).err)
	transport.CloseIdleConnections()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func TestOptions(t *testing.T) {
	require.PanicsWithError(t, "disaggtest: Options.Ranks is -1, not within 0 to 1024", func() { dt.New(dt.Options{Ranks: -1}) })
	g := start(t, dt.Options{})
	e := g.c.Decode[0]
	require.Same(t, e, g.c.Engine(e.Address()))
	require.Nil(t, g.c.Engine("nowhere"))
	require.Panics(t, func() { e.Fail(dt.Fault{Chance: 2}) })
	require.Panics(t, func() { e.Fail(dt.Fault{Code: 500}) })
	require.Equal(t, dt.Decode, e.Role())
}
