package directortest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// healthy: nothing is wrong.
func (r *runner) healthy(t *testing.T) {
	for _, path := range []string{"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/custom"} {
		for _, stream := range []bool{false, true} {
			r.sub(t, fmt.Sprintf("answers_of%s_stream_%t", underscored(path), stream), func(t *testing.T) {
				e := Engine{PerToken: time.Millisecond, Metrics: VLLM}
				f := r.fleet(t, e, same(3, e.Behaviour)...)
				f.all(9, 3, func(int) Ask { return Ask{Path: path, Stream: stream} }, func(a Ask, res Result) { f.good(notGood, a, res) })
			})
		}
	}
	for _, metrics := range []bool{true, false} {
		for _, stream := range []bool{true, false} {
			r.sub(t, fmt.Sprintf("bursts_metrics_%t_stream_%t", metrics, stream), func(t *testing.T) {
				e := Engine{Prefill: 5 * time.Millisecond, PerToken: time.Millisecond, Tokens: 20, Places: 8}
				if metrics {
					e.Metrics = VLLM
				}
				f := r.fleet(t, e, same(3, e.Behaviour)...)
				ask := func(int) Ask { return Ask{Stream: stream} }
				f.all(15, 1, ask, f.healthyOnly)
				for i := range 3 {
					f.spread(fmt.Sprintf("burst %d after requests one by one", i+1), f.burst(45, ask, f.healthyOnly), 0)
				}
			})
		}
	}
	r.sub(t, "a_slow_server", func(t *testing.T) {
		slow := standard
		slow.Prefill = 200 * time.Millisecond
		f := r.fleet(t, standard, three(standard, slow.Behaviour())...)
		for i := range 2 {
			counts := f.burst(3*perServer, mixed, f.healthyOnly)
			if counts[0] > 3*perServer/2 {
				f.wrong(uneven, "burst %d: %v, the first of them is slow", i, counts)
			}
		}
	})
}

func underscored(s string) string { return strings.ReplaceAll(s, "/", "_") }

// endings: one server's answers are good, but look odd.
func (r *runner) endings(t *testing.T) {
	for _, c := range Cases() {
		if c.Harm != Good && c.Harm != ClientFault || c.Slow && testing.Short() {
			continue
		}
		r.sub(t, c.Name, func(t *testing.T) {
			f := r.fleet(t, standard, three(standard, c.Make(standard))...)
			check := func(a Ask, res Result) { f.good(notGood, a, res, c.answer(standard, a)) }
			f.all(15, 3, c.ask, check)
			f.even("while the first of them answers so", 0, c.ask, check)
		})
	}
}

// ask returns the i-th request that shows the case.
func (c Case) ask(i int) Ask {
	if c.Ask.Path == "" && c.Ask.Header == nil && !c.Ask.Stream {
		return mixed(i)
	}
	return c.Ask
}

// faults: one server fails.
func (r *runner) faults(t *testing.T) {
	for _, c := range Cases() {
		if c.Harm == Good || c.Harm == ClientFault || c.Slow && testing.Short() {
			continue
		}
		r.sub(t, c.Name, func(t *testing.T) {
			f := r.fleet(t, standard, three(standard, c.Make(standard))...)
			check := f.checks(c)
			f.all(12, 3, c.ask, check)
			f.even("while the first of them fails", 1, c.ask, check)
		})
	}
}

// checks returns the check of answers while one server shows the case.
func (f *fleet) checks(c Case) func(Ask, Result) {
	return func(a Ask, res Result) {
		switch c.Harm {
		case Before:
			var passed []Answer // by a gateway that does not retry
			if f.r.o.NoRetries {
				passed = append(passed, c.answer(f.engine, a))
			}
			f.good(lost, a, res, passed...)
		case After:
			f.cut(a, res, f.engine.Answer(a.path(), a.Body()))
		case Refuses:
			if f.answered(a, res) && res.Status < 500 {
				f.good(notGood, a, res, c.answer(f.engine, a))
			}
		default:
			f.good(notGood, a, res, c.answer(f.engine, a))
		}
	}
}

// poison: one request makes every server misbehave.
func (r *runner) poison(t *testing.T) {
	e := standard
	status := func(code int) Case {
		return always(fmt.Sprint("status_", code), Says, JSON(code, errorData(code)))
	}
	event := func(code int) Case {
		return always(fmt.Sprint("error_event_", code), Says, Events(errorData(code)))
	}
	cases := []Case{
		status(500), status(502), status(503), status(504), event(500), event(503),
		broken(AtRequestBody, Close), broken(AtRequestBody, Reset), broken(AtStatusLine, Close), broken(AtHead, Close),
		broken(AtFirstByte, Close), broken(AtMiddle, Close), broken(AtRequestBody, Hang),
		raw("garbage", Before, string(garbage)), raw("status_001", Before, "HTTP/1.1 001 X\r\n\r\n"),
		raw("101_unasked", Before, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
	}
	for _, c := range []Case{status(400), status(404), event(400)} {
		c.Harm = ClientFault
		cases = append(cases, c)
	}
	hangs := broken(AtRequestBody, Hang).Name
	for _, c := range cases {
		r.sub(t, c.Name, func(t *testing.T) {
			f := r.fleet(t, e, same(6, func() Behaviour { return Poisoned("poison", c.Make(e), e.Behaviour()) })...)
			f.all(12, 6, mixed, f.healthyOnly)
			for i := range 2 {
				patience := 2 * time.Second
				if c.Name == hangs {
					patience = 200 * time.Millisecond
				}
				a, res := f.askFor(Ask{Stream: true, Extra: `"metadata":"poison"`}, patience)
				if c.Name != hangs {
					f.answered(a, res)
				}
				most := i + 1 // servers that so many such requests may put out
				if c.Harm == ClientFault {
					most = 0
				}
				out, counts := f.out()
				if out > most { // by chance, once
					out, counts = f.out()
				}
				if out > most {
					f.wrong(manyOut, "%d of 6 servers hardly get requests after %d of these: %v, want at most %d", out, i+1, counts, most)
				}
			}
		})
	}
}

// out returns how many servers hardly get requests.
func (f *fleet) out() (out int, counts []int) {
	counts = f.burst(perServer*len(f.servers), mixed, f.healthyOnly)
	for _, n := range counts {
		if n < perServer/4 {
			out++
		}
	}
	return out, counts
}

// clients: nothing that clients do puts out a server.
func (r *runner) clients(t *testing.T) {
	streaming := Engine{Prefill: 15 * time.Millisecond, PerToken: 2 * time.Millisecond, Metrics: VLLM}
	for _, at := range Leaves() {
		r.sub(t, "leave_"+at.String(), func(t *testing.T) {
			f := r.fleet(t, streaming, same(3, streaming.Behaviour)...)
			inParallel(24, 24, func(int) {
				if err := LeaveAt(f.client.Addr(), f.unlike(Ask{Stream: true}), at, f.r.o.Patience); err != nil {
					f.wrong(noStatus, "before the client left: %v", err)
				}
			})
			f.even("after clients left", 0, mixed, f.healthyOnly)
		})
	}
	r.sub(t, "leave_while_servers_are_slow", func(t *testing.T) {
		slow := streaming
		slow.Prefill = 300 * time.Millisecond
		f := r.fleet(t, streaming, same(3, slow.Behaviour)...)
		f.burst(18, mixed, func(Ask, Result) {})
		inParallel(18, 18, func(i int) { f.askFor(mixed(i), 30*time.Millisecond) })
		for i := range f.servers {
			f.set(i, streaming.Behaviour())
		}
		f.even("after clients left", 0, mixed, f.healthyOnly)
	})
	r.sub(t, "read_slowly", func(t *testing.T) {
		e := streaming
		e.Tokens = 40
		f := r.fleet(t, e, same(3, e.Behaviour)...)
		var slow sync.WaitGroup
		for range 6 {
			slow.Go(func() {
				a := f.unlike(Ask{Stream: true})
				f.good(notGood, a, ReadSlowly(f.client.Addr(), a, 512, 5*time.Millisecond, f.r.o.Patience))
			})
		}
		f.even("beside slow readers", 0, mixed, f.healthyOnly)
		slow.Wait()
	})
	for name, a := range map[string]Ask{
		"ask_for_a_model_that_is_not_there":        {Model: "nobody"},
		"send_what_the_server_refuses":             {Extra: `"temperature":-1`},
		"send_what_the_server_refuses_to_a_stream": {Extra: `"temperature":-1`, Stream: true},
	} {
		r.sub(t, name, func(t *testing.T) {
			f := r.fleet(t, standard, same(3, standard.Behaviour)...)
			f.all(24, 6, func(int) Ask { return a }, func(a Ask, res Result) {
				if f.answered(a, res) && res.Status/100 != 4 {
					f.wrong(notGood, "%v, want a 4xx", res)
				}
			})
			f.even("after requests that were wrong", 0, mixed, f.healthyOnly)
		})
	}
	r.sub(t, "send_half_a_body_and_say_so", func(t *testing.T) {
		f := r.fleet(t, standard, same(3, standard.Behaviour)...)
		for range 12 {
			a := f.unlike(Ask{})
			Raw(f.client.Addr(), "POST", append(a.Head(len(a.Body())), a.Body()[:20]...), 10*time.Millisecond)
		}
		f.even("after half bodies", 0, mixed, f.healthyOnly)
	})
}

// readings: one server lies about itself.
func (r *runner) readings(t *testing.T) {
	for _, lie := range Lies() {
		if lie.Slow && testing.Short() {
			continue
		}
		r.sub(t, lie.Name, func(t *testing.T) {
			liar := standard
			liar.Metrics = lie.Page
			f := r.fleet(t, standard, three(standard, liar.Behaviour())...)
			time.Sleep(120 * time.Millisecond) // let it be read
			for i := range 3 {
				f.even(fmt.Sprintf("burst %d, the first of them lies", i+1), 0, mixed, f.healthyOnly)
			}
		})
	}
	r.sub(t, "all_lie", func(t *testing.T) {
		var bs []Behaviour
		for _, lie := range Lies() {
			if !lie.Slow && len(bs) < 6 {
				e := standard
				e.Metrics = lie.Page
				bs = append(bs, e.Behaviour())
			}
		}
		f := r.fleet(t, standard, bs...)
		time.Sleep(120 * time.Millisecond)
		f.even("everybody lies", 0, mixed, f.healthyOnly)
	})
}

// connections: servers close connections in all permitted ways.
func (r *runner) connections(t *testing.T) {
	idle := standard
	idle.Prefill = 0
	for name, make := range map[string]func() Behaviour{
		"closed_when_idle": func() Behaviour {
			b := idle.Behaviour()
			b.Idle = 20 * time.Millisecond
			return b
		},
		"closed_after_each": func() Behaviour {
			return idle.Edited("close", func(a Answer) Answer { return a.With("Connection: close") })
		},
		"closed_after_each_without_a_word": func() Behaviour {
			return idle.Instead("close", func(x *Exchange, _ *Request, a Answer) { x.Answer(a); x.Close() })
		},
		"reset_after_each": func() Behaviour {
			return idle.Instead("reset", func(x *Exchange, _ *Request, a Answer) { x.Answer(a); x.Wait(3 * time.Millisecond); x.Reset() })
		},
		"answered_before_the_body": func() Behaviour {
			return Behaviour{Serve: func(x *Exchange) {
				h := x.ReadHead()
				if h == nil || own(h) && idle.answerOwn(x, h, &load{}) {
					return
				}
				x.Write([]byte("HTTP/1.1 103 Early Hints\r\n\r\n"))
				if r := x.Read(); r != nil {
					x.Answer(idle.Answer(r.Path(), r.Body).to(r))
				}
			}}
		},
	} {
		r.sub(t, name, func(t *testing.T) {
			f := r.fleet(t, idle, same(3, make)...)
			for i := range 40 {
				a, res := f.ask(mixed(i))
				f.healthyOnly(a, res)
				time.Sleep(time.Duration(17+i%5) * time.Millisecond)
			}
			f.all(60, 6, mixed, f.healthyOnly)
			for i := range f.servers {
				f.set(i, standard.Behaviour())
			}
			f.even("after connections were closed", 0, mixed, f.healthyOnly)
		})
	}
	r.sub(t, "answered_without_the_body", func(t *testing.T) {
		early := Answer{Status: 400, Header: []string{"Content-Type: application/json", "Connection: close"}, Parts: [][]byte{[]byte(errorData(400))}}
		f := r.fleet(t, standard, same(3, func() Behaviour {
			good := standard.Behaviour()
			return Behaviour{Serve: func(x *Exchange) {
				if h := x.ReadHead(); h == nil || x.raw.ContentLength < 1<<20 {
					good.Serve(x)
					return
				}
				x.Answer(early)
				x.HangFor(50 * time.Millisecond) // lets the client read before it closes
			}}
		})...)
		f.all(6, 2, func(int) Ask { return Ask{Extra: `"pad":"` + string(slices.Repeat([]byte{'x'}, 3<<20)) + `"`} }, func(a Ask, res Result) {
			if f.answered(a, res) && res.Status != 400 && res.Status != 413 {
				f.wrong(notGood, "%v, want the 400 of the server", res)
			}
		})
		f.even("after early answers", 0, mixed, f.healthyOnly)
	})
}

// hangs: one server hangs, and clients are impatient.
func (r *runner) hangs(t *testing.T) {
	for at := AtAccept; at <= AtHead; at++ {
		if testing.Short() && (at == AtRequestHead || at == AtStatusLine) {
			continue
		}
		r.sub(t, "at_"+at.String(), func(t *testing.T) {
			f := r.fleet(t, standard, three(standard, standard.Break(at, Hang))...)
			const rounds, each = 14, 9 // in the first ones the usual response time is still unknown
			var lost [rounds]int
			for i := range rounds {
				var mu sync.Mutex
				inParallel(each, each, func(j int) {
					if _, res := f.askFor(mixed(j), 300*time.Millisecond); res.Status != 200 || res.Err != nil {
						mu.Lock()
						defer mu.Unlock()
						lost[i]++
					}
				})
			}
			if last := lost[rounds-2] + lost[rounds-1]; last > 3 { // half of what an even spread would lose: trials are needed
				f.wrong(unlearned, "requests lost in each round of %d: %v, want at most 3 in the last two", each, lost)
			}
		})
	}
}

// recovery: a server that failed is healthy again.
func (r *runner) recovery(t *testing.T) {
	names := []string{"refuses", "status_503", "closed_at_middle", "101_unasked", "status_429", "status_500", "closed_at_accept",
		"closed_at_head", "reset_at_request_body", "garbage", "error_event_503"} // none that asks for a long pause
	if testing.Short() {
		names = names[:4]
	}
	for _, c := range Cases() {
		if !slices.Contains(names, c.Name) {
			continue
		}
		r.sub(t, c.Name, func(t *testing.T) {
			t.Parallel() // these mostly wait
			f := r.fleet(t, standard, three(standard, c.Make(standard))...)
			check := f.checks(c)
			f.all(18, 6, c.ask, check)
			f.set(0, standard.Behaviour())
			well, before := time.Now(), f.servers[0].Requests()
			for f.servers[0].Requests() < before+5 {
				if time.Since(well) > r.o.Recovery {
					f.wrong(unused, "it had %d requests in %v", f.servers[0].Requests()-before, r.o.Recovery)
					return
				}
				f.all(6, 6, mixed, f.healthyOnly)
				time.Sleep(5 * time.Millisecond)
			}
			t.Logf("used again after %v", time.Since(well).Round(time.Millisecond))
			f.even("after it was well again", 0, mixed, f.healthyOnly)
		})
	}
}

// leaks: the heap is flat.
func (r *runner) leaks(t *testing.T) {
	r.sub(t, "heap", func(t *testing.T) {
		e := Engine{Metrics: VLLM}
		f := r.fleet(t, e, three(e, e.Break(AtMiddle, Close))...)
		check := f.checks(broken(AtMiddle, Close))
		batch := func(n int) {
			f.all(n, 8, mixed, check)
			for i := range n / 40 {
				_ = LeaveAt(f.client.Addr(), f.unlike(Ask{Stream: true}), Leave(i%len(Leaves())), f.r.o.Patience)
			}
		}
		batch(500)
		before := heap()
		batch(1000)
		if grown := heap() - before; grown > r.o.HeapGrowth {
			f.wrong("the heap grows", "%d bytes in 1,000 requests, want at most %d", grown, r.o.HeapGrowth)
		}
	})
}

// heap returns the bytes in use.
func heap() int64 {
	var m runtime.MemStats
	for range 2 { // the second for what finalizers held
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
