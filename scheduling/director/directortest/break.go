package directortest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// How is how a server breaks off.
type How uint8

// The ways to break off.
const (
	Close How = iota // the connection is closed
	Reset            // the connection is reset
	Hang             // nothing more is sent until the client leaves
)

// String returns the name as used in names of subtests.
func (h How) String() string { return [...]string{"closed", "reset", "hangs"}[h] }

func (h How) do(x *Exchange) {
	switch h {
	case Close:
		x.Close()
	case Reset:
		x.Reset()
	case Hang:
		x.Hang()
	}
}

// Break returns an engine that breaks off each request of a client at a point. Except at AtAccept, it
// answers the requests of gateways, such as for metrics, so that it looks idle.
func (e Engine) Break(at Point, how How) Behaviour {
	name := how.String() + "_at_" + at.String()
	switch at {
	case AtAccept:
		return Behaviour{Name: name, Accept: func(x *Exchange) bool { how.do(x); return false }, Serve: func(x *Exchange) { how.do(x) }}
	case AtRequestHead:
		return Behaviour{Name: name, Serve: func(x *Exchange) {
			r := x.ReadHead()
			if r == nil || own(r) && e.answerOwn(x, r, &load{}) {
				return
			}
			x.Skip()
			how.do(x)
		}}
	case AtRequestBody:
		return e.Instead(name, func(x *Exchange, _ *Request, _ Answer) { how.do(x) })
	}
	return e.Instead(name, func(x *Exchange, _ *Request, a Answer) {
		if x.answerTo(a, at) {
			how.do(x)
		}
	})
}

// Always returns an engine that answers every request of a client with a.
func (e Engine) Always(name string, a Answer) Behaviour {
	return e.Instead(name, func(x *Exchange, r *Request, _ Answer) {
		a := a
		a.First = e.Prefill
		x.Answer(a.to(r))
	})
}

// Raw returns an engine that answers every request of a client with the given bytes and closes the
// connection.
func (e Engine) Raw(name string, b []byte) Behaviour {
	return e.Instead(name, func(x *Exchange, _ *Request, _ Answer) { x.Write(b); x.Close() })
}

// Edited returns an engine whose answers are changed by f. They take as long as before.
func (e Engine) Edited(name string, f func(Answer) Answer) Behaviour {
	return e.Instead(name, func(x *Exchange, _ *Request, a Answer) {
		first, each := a.First, a.Each
		a = f(a)
		a.First = first
		if each > 0 && a.Each == 0 {
			a.Each = each / time.Duration(max(1, len(a.Parts)))
		}
		x.Answer(a)
	})
}

// Refusing returns a server whose port is closed.
func Refusing() Behaviour { return Behaviour{Name: "refuses", Refuse: true, Serve: (*Exchange).Close} }

// FirstThen returns a server that behaves as first for n requests, and then as rest. Accept is that of
// first.
func FirstThen(n int, first, rest Behaviour) Behaviour {
	var served atomic.Int64
	return Behaviour{Name: first.Name + "_then_" + rest.Name, Accept: first.Accept, Idle: rest.Idle, Serve: func(x *Exchange) {
		if served.Add(1) <= int64(n) {
			first.Serve(x)
		} else {
			rest.Serve(x)
		}
	}}
}

// Poisoned returns a server that behaves as bad for requests with a word in the body, and as good for
// others. bad must read its requests.
func Poisoned(word string, bad, good Behaviour) Behaviour {
	return Behaviour{Name: "poisoned_" + bad.Name, Idle: good.Idle, Serve: func(x *Exchange) {
		if r := x.Read(); r == nil {
			return
		} else if bytes.Contains(r.Body, []byte(word)) {
			bad.Serve(x)
		} else {
			good.Serve(x)
		}
	}}
}

// Harm is how a misbehaviour affects a request, and what must happen then.
type Harm uint8

// The harms.
const (
	// Good: the response is valid, however unusual. It must be delivered byte for byte and not count
	// against the server.
	Good Harm = iota
	// ClientFault: the server says that the request is invalid. The client must get that response,
	// and it must not count against the server.
	ClientFault
	// Before: there is no response, or it breaks off before its body. Another server must answer.
	Before
	// Says: the server says that it cannot answer. The client gets this, or the response of another
	// server.
	Says
	// Refuses is Says with an invalid status; the gateway may also answer a 5xx itself.
	Refuses
	// After: the body of the response breaks off. The client must be able to see that.
	After
)

// Case is a misbehaviour, or a behaviour that looks like one.
type Case struct {
	Name string
	Harm Harm
	Make func(Engine) Behaviour
	// Want returns the server's answer to a request. Nil: that of the Engine.
	Want func(e Engine, r Ask) Answer
	// Ask is the request that shows it. The zero value: chat completions, every other one streamed.
	Ask  Ask
	Slow bool // takes long or much memory
}

// answer returns the server's answer.
func (c Case) answer(e Engine, r Ask) Answer {
	if c.Want == nil {
		return e.Answer(r.path(), r.Body())
	}
	return c.Want(e, r)
}

func always(name string, harm Harm, a Answer) Case {
	return Case{Name: name, Harm: harm, Make: func(e Engine) Behaviour { return e.Always(name, a) },
		Want: func(Engine, Ask) Answer { return a }}
}

func edited(name string, harm Harm, ask Ask, f func(Answer) Answer) Case {
	return Case{Name: name, Harm: harm, Ask: ask, Make: func(e Engine) Behaviour { return e.Edited(name, f) },
		Want: func(e Engine, r Ask) Answer { return f(e.Answer(r.path(), r.Body())) }}
}

// after is an engine that sends first n times before its answer.
func after(name string, harm Harm, first string, n int) Case {
	return Case{Name: name, Harm: harm, Make: func(e Engine) Behaviour {
		return e.Instead(name, func(x *Exchange, _ *Request, a Answer) {
			if x.Wait(e.Prefill) && x.Write([]byte(strings.Repeat(first, n))) {
				a.First = 0
				x.Answer(a)
			}
		})
	}}
}

func raw(name string, harm Harm, b string) Case {
	return Case{Name: name, Harm: harm, Make: func(e Engine) Behaviour { return e.Raw(name, []byte(b)) }}
}

func broken(at Point, how How) Case {
	c := Case{Name: how.String() + "_at_" + at.String(), Harm: Before, Make: func(e Engine) Behaviour { return e.Break(at, how) }}
	if at.Sent() {
		c.Harm = After
	}
	return c
}

var garbage = bytes.Repeat([]byte("\x00\xff\x10 no HTTP \r\r\n\xfe"), 40)

func errorData(code int) string {
	return fmt.Sprintf(`{"error":{"message":"kit says %d","type":"Error","param":null,"code":%d}}`, code, code)
}

// Cases returns the misbehaviours that Run and Chaos use. For servers that hang see [Engine.Break].
func Cases() []Case {
	return slices.Concat(endings(), interim(), clientFaults(), says(), before(), middle())
}

// endings are answers that are valid but unusual.
func endings() []Case {
	stream, plain := Ask{Stream: true}, Ask{}
	parts := func(f func([][]byte) [][]byte) func(Answer) Answer {
		return func(a Answer) Answer { a.Parts = f(a.Parts); return a }
	}
	typed := func(lines ...string) func(Answer) Answer {
		return func(a Answer) Answer { a.Header = lines; return a }
	}
	framed := func(f Framing, proto string) func(Answer) Answer {
		return func(a Answer) Answer { a.Framing, a.Proto = f, proto; return a }
	}
	first := func(s string) func([][]byte) [][]byte {
		return func(p [][]byte) [][]byte { return append([][]byte{[]byte(s)}, p...) }
	}
	image := `{"type":"image_generation.completed","b64_json":"` + strings.Repeat("A", 3<<19) + `","usage":{"total_tokens":9,"input_tokens":5,"output_tokens":4}}`
	return []Case{
		edited("stream_without_done", Good, stream, parts(func(p [][]byte) [][]byte { return p[:len(p)-1] })),
		edited("finish_reason_only", Good, stream, parts(func(p [][]byte) [][]byte { return p[len(p)-3 : len(p)-2] })),
		edited("done_only", Good, stream, parts(func(p [][]byte) [][]byte { return p[len(p)-1:] })),
		edited("all_events_in_one_chunk", Good, stream, parts(func(p [][]byte) [][]byte { return [][]byte{bytes.Join(p, nil)} })),
		edited("byte_by_byte", Good, stream, parts(func(p [][]byte) [][]byte {
			var each [][]byte
			for _, b := range bytes.Join(p, nil) {
				each = append(each, []byte{b})
			}
			return each
		})),
		edited("events_with_crlf", Good, stream, parts(func(p [][]byte) [][]byte {
			var crlf [][]byte
			for _, e := range p {
				crlf = append(crlf, bytes.ReplaceAll(e, []byte("\n"), []byte("\r\n")))
			}
			return crlf
		})),
		edited("last_event_without_its_empty_line", Good, stream, parts(func(p [][]byte) [][]byte {
			last := bytes.TrimRight(p[len(p)-1], "\n")
			return append(p[:len(p)-1:len(p)-1], last)
		})),
		edited("comments_before_the_data", Good, stream, parts(first(": keep-alive\n\n: ping\n\n"))),
		edited("comments_after_the_data", Good, stream, parts(func(p [][]byte) [][]byte { return append(p, []byte(": bye\n\n")) })),
		edited("byte_order_mark_before_events", Good, stream, parts(first("\ufeff"))),
		edited("stream_with_a_length", Good, stream, framed(Length, "")),
		edited("stream_until_close", Good, stream, framed(UntilClose, "")),
		edited("stream_of_http_1_0", Good, stream, framed(Bare, "HTTP/1.0")),
		edited("stream_with_trailers", Good, stream, func(a Answer) Answer { return a.With("Trailer: X-Kit") }),
		edited("stream_as_text_plain", Good, stream, typed("Content-Type: text/plain")),
		edited("stream_in_upper_case", Good, stream, typed("content-type: TEXT/EVENT-STREAM;charset=UTF-8")),
		edited("json_to_a_stream_request", Good, stream, func(Answer) Answer { return Engine{}.chat("x", false) }),
		edited("json_chunked", Good, plain, framed(Chunked, "")),
		edited("json_until_close", Good, plain, framed(UntilClose, "")),
		edited("json_of_http_1_0", Good, plain, framed(Bare, "HTTP/1.0")),
		edited("json_without_a_type", Good, plain, typed()),
		edited("json_as_text", Good, plain, typed("Content-Type: text/plain; charset=utf-8")),
		edited("json_after_white_space", Good, plain, parts(first("\n  \r\n\t"))),
		edited("json_before_white_space", Good, plain, parts(func(p [][]byte) [][]byte { return append(p, []byte("\n\n")) })),
		edited("json_after_a_byte_order_mark", Good, plain, parts(first("\ufeff"))),
		edited("json_with_nan", Good, plain, parts(func([][]byte) [][]byte {
			return [][]byte{[]byte(`{"id":"x","choices":[{"message":{"content":" w"},"logprob":NaN}],"usage":{"prompt_tokens":NaN,"completion_tokens":-Infinity}}`)}
		})),
		edited("json_with_huge_usage", Good, plain, parts(func([][]byte) [][]byte {
			return [][]byte{[]byte(`{"choices":[],"usage":{"prompt_tokens":1e308,"completion_tokens":-5,"total_tokens":99999999999999999999}}`)}
		})),
		edited("json_without_usage", Good, plain, func(Answer) Answer { return Engine{NoUsage: true}.chat("x", false) }),
		edited("json_with_null_error", Good, plain, parts(func(p [][]byte) [][]byte {
			return [][]byte{append([]byte(`{"error":null,`), p[0][1:]...)}
		})),
		edited("json_with_empty_error", Good, plain, parts(func(p [][]byte) [][]byte {
			return [][]byte{append([]byte(`{"error":{},`), p[0][1:]...)}
		})),
		edited("json_two_values", Good, plain, parts(func(p [][]byte) [][]byte { return append(p, p...) })),
		edited("text_about_errors", Good, plain, parts(func([][]byte) [][]byte {
			return [][]byte{[]byte(`{"choices":[{"message":{"content":"{\"error\":{\"code\":503}} data: [DONE]"}}]}`)}
		})),
		edited("gzip", Good, Ask{Header: []string{"Accept-Encoding: gzip"}}, func(a Answer) Answer {
			return Answer{Header: []string{"Content-Type: application/json", "Content-Encoding: gzip"}, Parts: [][]byte{gzipped(a.Body())}}
		}),
		edited("gzip_events", Good, Ask{Stream: true, Header: []string{"Accept-Encoding: gzip"}}, func(a Answer) Answer {
			return Answer{Header: []string{"Content-Type: text/event-stream", "Content-Encoding: gzip"}, Framing: Chunked, Parts: [][]byte{gzipped(a.Body())}}
		}),
		edited("last_event_of_1_5_mb", Good, Ask{Path: "/v1/images/generations", Stream: true}, func(Answer) Answer { return named([]string{image}) }),
		{Name: "triton_stream", Ask: Ask{Path: "/v2/models/tiny/generate_stream", Stream: true}, Make: Engine.Behaviour},
		{Name: "tgi_stream", Ask: Ask{Path: "/generate_stream", Stream: true}, Make: Engine.Behaviour},
		{Name: "llama_cpp_stream", Ask: Ask{Path: "/completion", Stream: true}, Make: Engine.Behaviour},
		{Name: "responses_stream", Ask: Ask{Path: "/v1/responses", Stream: true}, Make: Engine.Behaviour},
		{Name: "messages_stream", Ask: Ask{Path: "/v1/messages", Stream: true}, Make: Engine.Behaviour},
		{Name: "health", Ask: Ask{Method: "GET", Path: "/health?" + Probe}, Make: Engine.Behaviour},
		{Name: "head", Ask: Ask{Method: "HEAD", Path: "/health"}, Make: Engine.Behaviour, Want: func(Engine, Ask) Answer { return Answer{Framing: Bare} }},
		asked(always("no_body_and_no_type", Good, Answer{}), Ask{Path: "/v1/custom"}),
		asked(always("no_body_of_type_json", Good, Answer{Header: []string{"Content-Type: application/json"}}), Ask{Path: "/v1/custom"}),
		asked(always("no_body_of_type_events", Good, Answer{Header: []string{"Content-Type: text/event-stream"}, Framing: Chunked}), Ask{Path: "/v1/custom"}),
		asked(always("status_204", Good, Answer{Status: 204, Framing: Bare}), Ask{Path: "/v1/custom"}),
		asked(always("status_304", Good, Answer{Status: 304, Framing: Bare}), Ask{Method: "GET", Path: "/v1/files/x"}),
		asked(always("status_307", Good, Answer{Status: 307, Header: []string{"Location: /v1/elsewhere"}}), Ask{Path: "/v1/custom"}),
		asked(always("audio", Good, Answer{Header: []string{"Content-Type: audio/mpeg"}, Framing: Chunked, Parts: [][]byte{garbage, garbage}}), Ask{Path: "/v1/audio/speech"}),
	}
}

func asked(c Case, a Ask) Case {
	c.Ask = a
	return c
}

// interim are answers that follow interim ones.
func interim() []Case {
	return []Case{
		after("100_unasked", Good, "HTTP/1.1 100 Continue\r\n\r\n", 1),
		after("102", Good, "HTTP/1.1 102 Processing\r\n\r\n", 2),
		after("103", Good, "HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n", 1),
		after("199", Good, "HTTP/1.1 199 Kit\r\n\r\n", 1),
		after("1000_times_100", Before, "HTTP/1.1 100 Continue\r\n\r\n", 1000),
		raw("100_and_no_more", Before, "HTTP/1.1 100 Continue\r\n\r\n"),
		raw("101_unasked", Before, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
		raw("101_unasked_and_bytes", Before, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello from nowhere"),
	}
}

// clientFaults are answers to invalid requests.
func clientFaults() []Case {
	var cases []Case
	for _, status := range []int{400, 401, 403, 404, 413, 422} {
		cases = append(cases, always(fmt.Sprint("status_", status), ClientFault, JSON(status, errorData(status))))
	}
	return append(cases,
		always("status_400_without_a_body", ClientFault, Answer{Status: 400}),
		always("status_400_as_html", ClientFault, Answer{Status: 400, Header: []string{"Content-Type: text/html"}, Parts: [][]byte{[]byte("<h1>no")}}),
		always("error_400_in_a_200", ClientFault, JSON(200, errorData(400))),
		asked(always("error_event_400", ClientFault, Events(errorData(400))), Ask{Stream: true}),
		asked(always("error_event_400_and_done", ClientFault, Events(errorData(400), "[DONE]")), Ask{Stream: true}),
		asked(always("error_event_404", ClientFault, Events(errorData(404))), Ask{Stream: true}),
		asked(always("named_error_event", ClientFault, Answer{Header: []string{"Content-Type: text/event-stream"}, Framing: Chunked, Parts: [][]byte{
			[]byte("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"kit says 400\"}}\n\n")}}),
			Ask{Path: "/v1/messages", Stream: true}),
	)
}

// says are answers of servers that cannot serve a request.
func says() []Case {
	cases := []Case{
		always("status_429", Says, JSON(429, errorData(429))),
		always("status_429_with_retry_after", Says, JSON(429, errorData(429)).With("Retry-After: 1")),
		always("status_500", Says, JSON(500, errorData(500))),
		always("status_500_without_a_body", Says, Answer{Status: 500}),
		always("status_501", Says, JSON(501, errorData(501))),
		always("status_529", Says, JSON(529, errorData(529))),
		always("error_503_in_a_200", Says, JSON(200, errorData(503))),
	}
	for _, code := range []int{503, 429, 500} {
		cases = append(cases, asked(always(fmt.Sprint("error_event_", code), Says, Events(errorData(code))), Ask{Stream: true}))
	}
	for _, line := range []string{"600 Six", "700 Seven", "999 Nine"} {
		a := JSON(0, errorData(0))
		a.Line = "HTTP/1.1 " + line
		_, _ = fmt.Sscan(line, &a.Status)
		cases = append(cases, always("status_"+line[:3], Refuses, a))
	}
	return cases
}

// before are failures before the body.
func before() []Case {
	cases := []Case{{Name: "refuses", Harm: Before, Make: func(Engine) Behaviour { return Refusing() }}}
	for _, how := range []How{Close, Reset} {
		for at := AtAccept; at <= AtHead; at++ {
			cases = append(cases, broken(at, how))
		}
	}
	for _, status := range []int{502, 503, 504} {
		cases = append(cases, always(fmt.Sprint("status_", status), Before, JSON(status, errorData(status))))
	}
	ok := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	return append(cases,
		always("status_503_with_retry_after", Before, JSON(503, errorData(503)).With("Retry-After: 1")),
		always("status_503_with_a_date", Before, JSON(503, errorData(503)).With("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT")),
		always("status_503_with_a_huge_retry_after", Before, JSON(503, errorData(503)).With("Retry-After: 99999999999999999999")),
		always("status_503_without_a_body", Before, Answer{Status: 503}),
		raw("status_001", Before, "HTTP/1.1 001 X\r\nContent-Length: 2\r\n\r\n{}"),
		raw("status_000", Before, "HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\n{}"),
		raw("status_without_a_number", Before, "HTTP/1.1 OK\r\n\r\n"),
		raw("half_a_status_line", Before, "HTTP/1.1 2"),
		raw("garbage", Before, string(garbage)),
		raw("tls", Before, "\x15\x03\x01\x00\x02\x02\x46"),
		raw("http_2", Before, "\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80\x00\x04\x00\x01\x00\x00\x00\x05\x00\xff\xff\xff"),
		raw("ssh", Before, "SSH-2.0-OpenSSH_9.6\r\n"),
		raw("an_empty_line", Before, "\r\n\r\n"),
		raw("header_without_a_colon", Before, ok+"no colon\r\n\r\n"),
		raw("length_below_zero", Before, ok+"Content-Length: -1\r\n\r\n{}"),
		raw("two_lengths", Before, ok+"Content-Length: 2\r\nContent-Length: 20\r\n\r\n{}"),
		raw("bad_transfer_encoding", Before, ok+"Transfer-Encoding: kit\r\n\r\n{}"),
		raw("bad_chunk_size", Before, ok+"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
		raw("long_length_and_no_body", Before, ok+"Content-Length: 500\r\n\r\n"),
		Case{Name: "head_too_large", Harm: Before, Slow: true, Make: func(e Engine) Behaviour {
			return e.Instead("head_too_large", func(x *Exchange, _ *Request, _ Answer) {
				line := []byte("X-Kit: " + strings.Repeat("x", 1<<16) + "\r\n")
				for ok := x.Write([]byte(ok)); ok; ok = x.Write(line) {
					continue
				}
			})
		}},
	)
}

// middle are failures after the body has begun.
func middle() []Case {
	var cases []Case
	for _, how := range []How{Close, Reset} {
		for _, at := range []Point{AtFirstByte, AtMiddle, AtLastChunk} {
			cases = append(cases, broken(at, how))
		}
	}
	return append(cases,
		Case{Name: "garbage_in_the_middle", Harm: After, Ask: Ask{Stream: true}, Make: func(e Engine) Behaviour {
			return e.Instead("garbage_in_the_middle", func(x *Exchange, _ *Request, a Answer) {
				if x.answerTo(a, AtMiddle) && x.Wait(5*time.Millisecond) {
					if a.Framing == Chunked { // else nobody could tell
						x.Write(garbage)
					}
					x.Close()
				}
			})
		}},
		inTheMiddle(503), inTheMiddle(400),
	)
}

// inTheMiddle is a stream with an error after its first tokens.
func inTheMiddle(code int) Case {
	return edited(fmt.Sprintf("error_event_%d_in_the_middle", code), Says, Ask{Stream: true}, func(a Answer) Answer {
		if len(a.Parts) > 3 { // it is a stream
			a.Parts = append(a.Parts[:3:3], []byte("data: "+errorData(code)+"\n\n"))
		}
		return a
	})
}
