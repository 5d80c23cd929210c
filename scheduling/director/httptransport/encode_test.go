package httptransport_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

// encoding is the encode stage of a gateway whose encoders are asked in turn.
func (a *apart) encoding(t testing.TB, ec dt.EC) *director.Encoding {
	ejection, err := plugins.NewEjection(plugins.EjectionOptions{})
	require.NoError(t, err)
	scheduler, err := scheduling.New(scheduling.Profile{
		Filters: []scheduling.Named{{Filter: plugins.Healthy{}}, {Filter: ejection}},
		Scorers: []scheduling.Weighted{{Name: "least", Weight: 1, Scorer: scheduling.EachScorer(func(_ *types.Request, ep *types.Endpoint) float64 {
			return 0.9/(1+float64(ep.Load.Requests())) - float64(ep.ID[1]-'0')/1000
		})}},
		Picker: plugins.MaxScore{}, Seed: 1,
		Hooks: scheduling.Hooks{Finished: func(e scheduling.Event) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.encodes = append(a.encodes, e.Outcome)
		}},
	})
	require.NoError(t, err)
	encoder := disagg.EncoderNIXL(disagg.Options{})
	if ec == dt.ECStorage {
		encoder = disagg.EncoderStorage()
	}
	return &director.Encoding{
		Encoder: func(_, _ *types.Endpoint) disagg.Encoder { return encoder }, Scheduler: scheduler,
		OnDone: func(_ *director.Route, s director.EncodeStats) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.encoded = append(a.encoded, s)
		},
	}
}

// stats returns what was told of the encode stage of the only request.
func (a *apart) stats(t testing.TB) director.EncodeStats {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Len(t, a.encoded, 1)
	return a.encoded[0]
}

const (
	image1 = `{"type":"image_url", "image_url":{"url":"data:image\/png;base64,AAAA","detail":"low"}}`
	image2 = `{"type": "image_url","image_url":{"url":"https://example.com/2.png"}}`
	sound  = `{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}`
	film   = `{"type":"video_url","video_url":{"url":"https://example.com/3.mp4"}}`
)

// seen is a chat request with parts beside text.
func seen(more string, parts ...string) string {
	return `{"model":"m", "messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"what is \u00e9 this"},` +
		strings.Join(parts, ",") + `]}],"user":"u1","seed":12345678901234567890` + more + `}`
}

// fleets are what encoders are in front of.
var fleets = map[string]dt.Options{
	"one that answers alone":  {Plain: 1, Encode: 2},
	"prefill":                 {Prefill: 2, Decode: 2, Encode: 2},
	"prefill at once":         {Protocol: dt.Mooncake, Prefill: 2, Decode: 2, Encode: 2},
	"storage, one alone":      {Plain: 1, Encode: 2, EC: dt.ECStorage},
	"storage and one encoder": {Prefill: 1, Decode: 1, Encode: 1, EC: dt.ECStorage},
}

// Each distinct item goes to an encoder once, and what comes of it to who computes the prompt.
func TestEncode(t *testing.T) {
	tests := map[string]func(testing.TB){}
	for fleet, o := range fleets {
		for name, body := range map[string]string{
			"one":         seen(``, image1),
			"several":     seen(`,"max_completion_tokens":3,"max_tokens":null`, image1, image2, sound, film),
			"repeated":    seen(`,"temperature":0`, image1, sound, image1, image2, image2),
			"stream":      seen(`,"stream":true,"stream_options":{"include_usage":true},"min_tokens":2`, image2, image1),
			"two answers": seen(`,"n":2,"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"auto"`, image1),
		} {
			tests[fleet+" "+name] = func(t testing.TB) {
				a := newApart(t, o, nil)
				a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
				a.quietNow(t)
				items := map[string]int{"one": 1, "several": 4, "repeated": 3, "stream": 2, "two answers": 1}[name]
				s := a.c.Stats()
				require.Equal(t, []int{items, items, 0}, []int{s.Encode, s.EncodedElsewhere, s.EncodedHere})
				require.Equal(t, director.EncodeStats{Items: items, Encoded: items, Legs: items}, a.stats(t))
				require.Equal(t, name != "two answers" && o.Prefill > 0, s.Transferred == 1)
				for _, leg := range a.c.Legs()[:items] {
					require.Equal(t, dt.Encode, leg.Leg, "it is the first to be asked")
					require.Regexp(t, `^client1-[A-Z2-7]{16}-enc-[0-3]$`, leg.RequestID)
				}
				for _, out := range a.encodes {
					require.True(t, out.Served(), "%+v", out)
				}
				a.told(t, 1, min(s.Prefill, 1))
			}
		}
	}
	together(t, tests)
}

// What has nothing to be encoded, or nobody to do it, is served as ever.
func TestNotEncoded(t *testing.T) {
	for name, c := range map[string]struct {
		o    dt.Options
		path string
		body string
		edit func(*setup)
	}{
		"no media":            {o: fleets["prefill"], body: streamedChat},
		"a completion":        {o: fleets["prefill"], path: completionsPath, body: bodies["completion"].body},
		"no encoder":          {o: dt.Options{Plain: 1}, body: seen(``, image1), edit: func(s *setup) { s.director.Encode = new(apart).encoding(t, dt.ECNIXL) }},
		"no stage":            {o: dt.Options{Plain: 1, Encode: 1}, body: seen(``, image1), edit: func(s *setup) { s.encode = noEncoder }},
		"a file":              {o: fleets["prefill"], body: seen(``, `{"type":"file","file":{"file_id":"f"}}`)},
		"what is cached":      {o: fleets["prefill"], body: seen(``, `{"type":"image_url","image_url":null,"uuid":"x"}`)},
		"who encodes answers": {o: dt.Options{Plain: 1, Encode: 1}, body: seen(``, image1), edit: func(s *setup) { s.roles = map[string]string{"x0": "encode-prefill-decode"} }},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, c.o, c.edit)
			if c.path == "" {
				c.path = chatPath
			}
			a.right(t, c.path, c.body, a.ask(t.Context(), c.path, c.body))
			a.quietNow(t)
			require.Zero(t, a.c.Stats().Encode)
			require.Empty(t, a.encoded)
		})
	}
}

// noEncoder is a stage in which no two endpoints go together.
func noEncoder(e *director.Encoding) {
	e.Encoder = func(_, _ *types.Endpoint) disagg.Encoder { return nil }
}

// Whatever encoders do, the client gets its answer: from another encoder, or from who computes the
// prompt without any.
func TestEncodersFail(t *testing.T) {
	body := seen(``, image1, image2, sound)
	at := func(f dt.Fault) dt.Fault { f.Leg = dt.Encode; return f }
	faults := map[string]dt.Fault{
		"die before":   at(dt.Fault{Kind: dt.Die}),
		"reset":        at(dt.Fault{Kind: dt.Refuse, Phase: dt.BeforeTransfer}),
		"die in head":  at(dt.Fault{Kind: dt.Die, Phase: dt.Head}),
		"die in body":  at(dt.Fault{Kind: dt.Die, Phase: dt.Body}),
		"500":          at(dt.Fault{Kind: dt.Status}),
		"429":          at(dt.Fault{Kind: dt.Status, Code: 429}),
		"503":          at(dt.Fault{Kind: dt.Status, Code: 503}),
		"404":          at(dt.Fault{Kind: dt.Status, Code: 404}),
		"401":          at(dt.Fault{Kind: dt.Status, Code: 401}),
		"hang":         at(dt.Fault{Kind: dt.Hang, Phase: dt.BeforeTransfer}),
		"hang in body": at(dt.Fault{Kind: dt.Hang, Phase: dt.Body}),
	}
	tests := map[string]func(testing.TB){}
	for fleet, o := range fleets {
		for name, fault := range faults {
			for _, all := range []bool{false, true} {
				if !all && (o.Encode < 2 || fault.Kind == dt.Hang) {
					continue
				}
				tests[fmt.Sprintf("%s: %s all=%v", fleet, name, all)] = func(t testing.TB) {
					o := o
					o.Settle = 4 * time.Second
					a := newApart(t, o, func(s *setup) {
						s.encode = func(e *director.Encoding) {
							if fault.Kind == dt.Hang {
								e.Timeout = 100 * time.Millisecond
							}
						}
					})
					a.c.Encode[0].Fail(fault)
					if all {
						a.c.Encode[o.Encode-1].Fail(fault)
					}
					a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
					a.quietNow(t)
					s, told := a.c.Stats(), a.stats(t)
					if all {
						require.Zero(t, told.Encoded)
						require.Error(t, told.Err)
						require.Contains(t, a.logged(), "media of a request were not encoded before")
						return
					}
					require.Equal(t, []int{3, 0}, []int{s.EncodedElsewhere, s.EncodedHere}, "another one has done it")
					require.NoError(t, told.Err)
				}
			}
		}
	}
	short := tests
	if testing.Short() {
		short = map[string]func(testing.TB){}
		for name, test := range tests {
			if strings.HasPrefix(name, "one") || strings.Contains(name, "500") {
				short[name] = test
			}
		}
	}
	together(t, short)
}

// An encoder that has gone is not asked by every request.
func TestEncoderIsEjected(t *testing.T) {
	a := newApart(t, dt.Options{Plain: 1, Encode: 2}, nil)
	a.c.Encode[0].Kill()
	for range 5 {
		body := seen(``, image1)
		require.Equal(t, 200, a.ask(t.Context(), chatPath, body).status)
	}
	failed := 0
	for _, s := range a.encoded {
		require.Equal(t, 1, s.Encoded)
		failed += s.Legs - 1
	}
	require.Equal(t, 1, failed)
	a.empty(t)
}

// An encoder without a connector encodes in vain, which is told, and once.
func TestEncoderIgnores(t *testing.T) {
	for name, b := range map[string]dt.Behaviour{"no connector": {NoConnector: true}, "null": {NullParams: true}} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, dt.Options{Plain: 1, Encode: 1}, nil)
			a.c.Encode[0].SetBehaviour(b)
			for range 2 {
				body := seen(``, image1, image2)
				a.ask(t.Context(), chatPath, body)
			}
			a.empty(t)
			require.Equal(t, director.EncodeStats{Items: 2, Ignored: 2, Legs: 2}, a.encoded[1])
			require.Equal(t, 4, a.c.Stats().EncodedHere)
			require.Equal(t, 1, strings.Count(a.logged(), "is its connector configured?"))
		})
	}
}

// What an encoder says of the client's fault the client gets, and no other engine is asked.
func TestEncoderRefuses(t *testing.T) {
	for _, code := range []int{400, 413, 415, 422} {
		for _, fleet := range []string{"one that answers alone", "prefill", "prefill at once"} {
			t.Run(fmt.Sprint(fleet, code), func(t *testing.T) {
				a := newApart(t, fleets[fleet], nil)
				for _, e := range a.c.Encode {
					e.Fail(dt.Fault{Leg: dt.Encode, Phase: dt.BeforeTransfer, Kind: dt.Status, Code: code})
				}
				g := a.ask(t.Context(), chatPath, seen(`,"stream":true`, image1, image2))
				require.Equal(t, code, g.status)
				require.Contains(t, string(g.body), `"message":"the engine fails by a fault`)
				require.Regexp(t, `^e[01]$`, g.header.Get(httptransport.HeaderEndpoint))
				a.quietNow(t)
				s := a.c.Stats()
				require.Zero(t, s.Prefill+s.Decode+s.Ordinary)
				require.Eventually(t, func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.finished) == 1 }, time.Second, time.Millisecond)
				require.Equal(t, code, a.finished[0].Status)
				require.True(t, a.finished[0].Unsent, "who was to answer has done nothing")
				require.NoError(t, a.finished[0].Err)
			})
		}
	}
}

// A client that leaves leaves nothing behind.
func TestEncodeClientLeaves(t *testing.T) {
	tests := map[string]func(testing.TB){}
	for fleet, o := range fleets {
		for _, after := range []time.Duration{time.Nanosecond, 30 * time.Millisecond, 150 * time.Millisecond, 250 * time.Millisecond} {
			tests[fmt.Sprint(fleet, after)] = func(t testing.TB) {
				o := o
				o.Settle, o.Behaviour = 4*time.Second, dt.Behaviour{EncodeTime: 60 * time.Millisecond, PrefillTime: 60 * time.Millisecond, TokenTime: 20 * time.Millisecond}
				a := newApart(t, o, func(s *setup) {
					s.encode = func(e *director.Encoding) { e.AtOnce = 1 }
				})
				ctx, leave := context.WithTimeout(t.Context(), after)
				defer leave()
				a.ask(ctx, chatPath, seen(``, image1, image2))
				a.quietNow(t)
			}
		}
	}
	together(t, tests)
}

// What the encoders take is bounded, and the request goes on without the rest.
func TestEncodeBounds(t *testing.T) {
	body := seen(``, image1, image2, sound)
	for name, c := range map[string]struct {
		change  func(*director.Encoding)
		b       dt.Behaviour
		encoded int
		legs    int
		err     string
	}{
		"items":  {change: func(e *director.Encoding) { e.MaxItems = 2 }, encoded: 2, legs: 2},
		"bytes":  {change: func(e *director.Encoding) { e.MaxBytes = 500 }, encoded: 2, legs: 2},
		"answer": {change: func(e *director.Encoding) { e.MaxAnswer = 100 }, legs: -1, err: "the answer is too long"},
		"params": {change: func(e *director.Encoding) { e.MaxParams = 400 }, encoded: 2, legs: 3, err: "Options.Encode.MaxParams"},
		"time":   {change: func(e *director.Encoding) { e.Timeout = 50 * time.Millisecond }, b: dt.Behaviour{EncodeTime: 2 * time.Second}, legs: 3, err: "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, dt.Options{Plain: 1, Encode: 2}, func(s *setup) { s.encode = c.change })
			for _, e := range a.c.Encode {
				e.SetBehaviour(c.b)
			}
			a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
			a.quietNow(t)
			told := a.stats(t)
			require.Equal(t, c.encoded, told.Encoded)
			require.Equal(t, c.encoded, a.c.Stats().EncodedElsewhere)
			if c.legs >= 0 {
				require.Equal(t, c.legs, told.Legs)
			}
			if c.err == "" {
				require.NoError(t, told.Err)
			} else {
				require.ErrorContains(t, told.Err, c.err)
			}
		})
	}
}

// At most so many items of a request are encoded at the same time.
func TestEncodeAtOnce(t *testing.T) {
	most, now := 0, 0
	var mu sync.Mutex
	a := newApart(t, dt.Options{Plain: 1, Encode: 2, Behaviour: dt.Behaviour{EncodeTime: 20 * time.Millisecond}}, func(s *setup) {
		s.encode = func(e *director.Encoding) { e.AtOnce = 2 }
		s.transport = func(tr *httptransport.Transport) {
			tr.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
				if strings.Contains(r.Header.Get("X-Request-Id"), "-enc-") {
					mu.Lock()
					now++
					most = max(most, now)
					mu.Unlock()
					defer func() { mu.Lock(); now--; mu.Unlock() }()
				}
				return http.DefaultTransport.RoundTrip(r)
			})
		}
	})
	body := seen(``, image1, image2, sound, film)
	a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
	a.quietNow(t)
	require.Equal(t, 2, most)
}

// What encoders have made goes with one attempt: if that fails, nobody knows why.
func TestEncodedOnce(t *testing.T) {
	for name, o := range map[string]dt.Options{"alone": {Plain: 2, Encode: 1}, "prefill": {Prefill: 2, Decode: 1, Encode: 1}} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, o, nil)
			first := a.c.Prefill
			if o.Plain > 0 {
				first = a.c.Plain
			}
			first[0].Fail(dt.Fault{Phase: dt.BeforeTransfer, Kind: dt.Status, Code: 503})
			body := seen(``, image1)
			a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
			a.quietNow(t)
			s := a.c.Stats()
			require.Equal(t, []int{1, 1, 1}, []int{s.Encode, s.EncodedElsewhere, s.EncodedHere})
		})
	}
}

// Functions of the embedder's may panic.
func TestEncodePanics(t *testing.T) {
	for name, change := range map[string]func(*director.Encoding){
		"encoder": func(e *director.Encoding) { e.Encoder = func(_, _ *types.Endpoint) disagg.Encoder { panic("encoder") } },
		"protocol": func(e *director.Encoding) {
			e.Encoder = func(_, _ *types.Endpoint) disagg.Encoder { return panicking{} }
		},
		"hook": func(e *director.Encoding) { e.OnDone = func(*director.Route, director.EncodeStats) { panic("hook") } },
	} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, dt.Options{Plain: 1, Encode: 1}, func(s *setup) { s.encode = change })
			body := seen(``, image1)
			a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
			a.empty(t)
			require.Contains(t, a.logged(), "panicked")
		})
	}
}

type panicking struct{}

func (panicking) Encoded([]byte) (disagg.Encoded, error) { panic("protocol") }

// Nothing goes on after all this.
func TestEncodeLeaks(t *testing.T) {
	noLeaks(t, func() {
		for fleet, o := range fleets {
			s := &side{TB: t, name: fleet}
			o.Behaviour.EncodeTime = 10 * time.Millisecond
			a := newApart(s, o, nil)
			a.c.Encode[0].Fail(dt.Fault{Leg: dt.Encode, Kind: dt.Hang, Phase: dt.Body, Times: 1})
			ctx, leave := context.WithTimeout(t.Context(), 30*time.Millisecond)
			a.ask(ctx, chatPath, seen(``, image1, image2, sound))
			leave()
			a.c.Encode[0].Fail(dt.Fault{Leg: dt.Encode, Kind: dt.Die, Phase: dt.Body, Times: 1})
			a.ask(t.Context(), chatPath, seen(``, image1, image2, sound))
			for _, f := range s.cleanup {
				f()
			}
		}
	})
}

// Clients may not say what encoders say.
func TestEncodeTrust(t *testing.T) {
	a := newApart(t, dt.Options{Plain: 1, Encode: 1}, nil)
	g := a.ask(t.Context(), chatPath, seen(`,"ec_transfer_params":{"x":{"remote_host":"10.9.9.9"}}`, image1))
	require.Equal(t, 400, g.status)
	require.Empty(t, a.c.Legs())
	g = a.ask(t.Context(), chatPath, seen(`,"ec_transfer_params":null`, image1))
	require.Equal(t, 200, g.status)
	a.quietNow(t)
	require.Equal(t, 1, a.c.Stats().EncodedElsewhere)
}

// An endpoint that is not ready is not asked.
func TestEncoderNotReady(t *testing.T) {
	a := newApart(t, dt.Options{Plain: 1, Encode: 2}, nil)
	require.NoError(t, a.store.UpsertEndpoint(pool, datastore.EndpointSpec{
		ID: "e0", Address: a.c.Encode[0].Address(), Labels: map[string]string{types.RoleLabel: "encode"}, State: types.Draining,
	}))
	body := seen(``, image1, image2)
	a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
	a.quietNow(t)
	for _, leg := range a.c.Legs()[:2] {
		require.Equal(t, a.c.Encode[1].Address(), leg.Engine)
	}
}

// One item that nobody encodes ends the wait for the others.
func TestEncodeGivesUp(t *testing.T) {
	a := newApart(t, dt.Options{Plain: 1, Encode: 2}, nil)
	for _, e := range a.c.Encode {
		e.Fail(dt.Fault{Leg: dt.Encode, Kind: dt.Status, Match: func(r *dt.Record) bool { return strings.Contains(string(r.Body), "2.png") }})
		e.Fail(dt.Fault{Leg: dt.Encode, Kind: dt.Hang, Phase: dt.BeforeTransfer})
	}
	body := seen(``, image1, image2)
	a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body)) // long before Encoding.Timeout
	a.quietNow(t)
	require.ErrorContains(t, a.stats(t).Err, "answered with status 500")
	cancelled := 0
	for _, out := range a.encodes {
		if out.Cancelled {
			cancelled++
		}
	}
	require.Equal(t, 1, cancelled, "it is not to blame")
}

// An encoder that gives no sign of life for long is not waited for.
func TestEncodePatience(t *testing.T) {
	a := newApart(t, dt.Options{Plain: 1, Encode: 2}, func(s *setup) {
		s.encode = func(e *director.Encoding) {
			patient := always{patience: 50 * time.Millisecond}
			e.Scheduler = scheduling.Must(scheduling.New(scheduling.Profile{Picker: plugins.MaxScore{}, Scorers: []scheduling.Weighted{{Weight: 1, Scorer: patient}}}))
		}
	})
	a.c.Encode[0].Fail(dt.Fault{Leg: dt.Encode, Kind: dt.Hang, Phase: dt.BeforeTransfer, Times: 1})
	a.c.Encode[1].Fail(dt.Fault{Leg: dt.Encode, Kind: dt.Hang, Phase: dt.Body, Times: 1})
	body := seen(``, image1)
	a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
	a.quietNow(t)
	require.ErrorContains(t, a.stats(t).Err, "no sign of life")
}

// Memory that the stage takes is given back, however it ends.
func TestEncodeMemory(t *testing.T) {
	for name, fault := range map[string]dt.Fault{
		"served": {Leg: dt.Prefill}, "refused": {Leg: dt.Encode, Kind: dt.Status, Code: 400}, "failed": {Leg: dt.Encode, Kind: dt.Die, Phase: dt.Body},
	} {
		t.Run(name, func(t *testing.T) {
			a := newApart(t, dt.Options{Plain: 1, Encode: 1}, func(s *setup) {
				s.transport = func(tr *httptransport.Transport) { tr.MaxBodies = 1 << 20 }
				s.encode = func(e *director.Encoding) {
					e.Scheduler = scheduling.Must(scheduling.New(scheduling.Profile{Picker: plugins.MaxScore{}})) // which ejects nobody
				}
			})
			a.c.Encode[0].Fail(fault)
			body := seen(``, image1, strings.Replace(image2, "2.png", strings.Repeat("2", 100<<10), 1))
			for range 12 {
				require.Equal(t, map[bool]int{true: 400, false: 200}[name == "refused"], a.ask(t.Context(), chatPath, body).status)
			}
			if name == "served" {
				require.Equal(t, 24, a.c.Stats().EncodedElsewhere)
			}
			a.empty(t)
		})
	}
}

// The default policy decides who computes prompts, and who encodes: the same picture goes to who has it.
func TestEncodeByDefault(t *testing.T) {
	a := newApart(t, dt.Options{Prefill: 2, Decode: 2, Encode: 3, Behaviour: dt.Behaviour{EncodeTime: 5 * time.Millisecond}}, func(s *setup) {
		s.profile = plugins.Default()
		s.profile.Splitter = always{}
		s.encode = func(e *director.Encoding) { e.Scheduler = scheduling.Must(scheduling.New(plugins.Default())) }
	})
	pictures := make([]string, 3)
	for i := range pictures {
		pictures[i] = strings.Replace(image1, "AAAA", strings.Repeat(fmt.Sprint(i), 8<<10), 1)
	}
	var clients sync.WaitGroup
	for n := range 4 {
		clients.Go(func() {
			for i := range 6 {
				body := strings.Replace(seen(``, pictures[(n+i)%3]), `"u1"`, fmt.Sprintf(`"%d-%d"`, n, i), 1)
				a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
			}
		})
	}
	clients.Wait()
	a.quietNow(t)
	s := a.c.Stats()
	require.Equal(t, []int{24, 24, 0}, []int{s.Encode, s.EncodedElsewhere, s.EncodedHere})
	for i := range 6 {
		body := strings.Replace(seen(``, pictures[i%3]), `"u1"`, fmt.Sprintf(`"after %d"`, i), 1)
		a.right(t, chatPath, body, a.ask(t.Context(), chatPath, body))
	}
	a.quietNow(t)
	at := map[string]map[string]bool{} // who has a picture: requests at the same moment may have given it to several
	for _, leg := range a.c.Legs() {
		if leg.Leg != dt.Encode {
			continue
		}
		picture := string(leg.Body[len(leg.Body)-100:])
		if strings.HasPrefix(leg.User, "after") {
			require.Contains(t, at[picture], leg.Engine)
		}
		if at[picture] == nil {
			at[picture] = map[string]bool{}
		}
		at[picture][leg.Engine] = true
	}
	require.Len(t, at, 3)
}
