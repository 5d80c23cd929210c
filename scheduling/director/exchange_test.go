package director_test

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// served is what came of a request in a data plane.
type served struct {
	Status   int
	Body     string // the client's
	Sent     string // the server's; empty: none was asked
	Outcomes []types.Outcome
	Refused  []int
}

// hooked is a data plane that is called with one piece after the other and keeps nothing
// but the Exchange.
type hooked struct {
	d   *director.Director
	x   *director.Exchange
	got *served
}

func (f *hooked) requestHeaders(in director.Incoming) (goOn bool) {
	x, a := f.d.Begin(ctx, in)
	f.x = x
	return f.local(a)
}

func (f *hooked) requestBody(piece string, last bool) (goOn bool) {
	return f.local(f.x.Body([]byte(piece), last))
}

// local answers in place of a server.
func (f *hooked) local(a *director.Answer) (goOn bool) {
	if a == nil {
		return true
	}
	f.got.Status, f.got.Body = a.Status, string(a.Body)
	return false
}

func (f *hooked) responseHeaders(status int, h http.Header) {
	if r := f.x.Route(); r != nil {
		f.got.Sent = r.Endpoint().Address[:3] + joined(r)
	}
	f.x.ResponseHeader(status, h)
	f.got.Status = status
}

func (f *hooked) responseBody(piece string, last bool) {
	f.got.Body += string(f.x.ResponseBody([]byte(piece), last))
}

// oneShot is a data plane that has the whole request when it asks.
func oneShot(d *director.Director, in director.Incoming, got *served, status int, h http.Header, response []string) {
	if a, ok := d.Answer(in); ok {
		got.Status, got.Body = a.Status, string(a.Body)
		return
	}
	in.HeadersOnly = len(in.Body) == 0
	route, err := d.Route(ctx, in)
	if err != nil {
		e := director.AsError(err)
		got.Status, got.Body = e.Status, string(e.Body())
		return
	}
	defer route.Done(context.Canceled)
	got.Sent = route.Endpoint().Address[:3] + string(route.Body)
	route.ResponseHeader(status, h)
	got.Status = status
	for _, piece := range response {
		got.Body += string(route.Data([]byte(piece)))
	}
	got.Body += string(route.End())
}

// A plane that meets headers and bodies in different places does the same with them as one
// that has the whole request, wherever they are cut.
func TestExchangeIsRoute(t *testing.T) {
	event := http.Header{"Content-Type": {"text/event-stream"}}
	stream := "data: {\"model\":\"food-v1\",\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: {\"model\":\"food-v1\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1}}\n\ndata: [DONE]\n\n"
	for name, tt := range map[string]struct {
		in       director.Incoming
		status   int
		h        http.Header
		response string
	}{
		"stream":        {incoming("food"), 200, event, stream},
		"cut off":       {incoming("food"), 200, event, stream[:80]},
		"whole answer":  {incoming("food"), 200, http.Header{"Content-Type": {"application/json"}}, `{"model":"food-v1","usage":{"prompt_tokens":9,"completion_tokens":1}}`},
		"busy":          {incoming("food"), 429, http.Header{"Retry-After": {"7"}}, "too much"},
		"headers only":  {director.Incoming{Method: "GET", Path: "/health"}, 200, nil, ""},
		"models":        {director.Incoming{Method: "GET", Path: "/v1/models"}, 0, nil, ""},
		"no JSON":       {director.Incoming{Path: "/v1/chat/completions", Body: []byte("{\"model\":")}, 0, nil, ""},
		"not for them":  {director.Incoming{Path: "/v1/load_lora_adapter", Body: []byte("{}")}, 0, nil, ""},
		"another error": {incoming("food", "Content-Encoding", "br"), 0, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			play := func(play func(d *director.Director, got *served)) served {
				var got served
				store := newStore(t, 3, datastore.Options{})
				p := plugins.RandomProfile()
				p.Seed = 1
				p.Hooks.Finished = func(e scheduling.Event) {
					e.Outcome.Duration, e.Outcome.TTFT, e.Outcome.Reads = 0, 0, 0
					got.Outcomes = append(got.Outcomes, e.Outcome)
				}
				d := newDirector(t, store, func(o *director.Options) {
					o.RestoreModel, o.Scheduler = true, schedulerOf(t, p)
					o.OnRefused = func(_ *types.Request, _ types.NamespacedName, err *director.Error) {
						got.Refused = append(got.Refused, err.Status)
					}
				})
				play(d, &got)
				zeroLedgers(t, endpoints(store))
				return got
			}
			want := play(func(d *director.Director, got *served) {
				oneShot(d, tt.in, got, tt.status, tt.h, []string{tt.response})
			})
			for _, size := range []int{1, 7, 1 << 20} {
				got := play(func(d *director.Director, got *served) {
					f := &hooked{d: d, got: got}
					in := tt.in
					in.HeadersOnly, in.Pieces = len(in.Body) == 0, size == 7
					defer func() { f.x.Close(context.Canceled) }()
					goOn := f.requestHeaders(in)
					if goOn && !in.HeadersOnly {
						goOn = eachPiece(string(in.Body), size, f.requestBody)
					}
					if !goOn {
						return
					}
					f.responseHeaders(tt.status, tt.h)
					eachPiece(tt.response, size, func(piece string, last bool) bool { f.responseBody(piece, last); return true })
				})
				require.Equal(t, want, got, "in pieces of %d bytes", size)
			}
		})
	}
}

// eachPiece cuts what there is of a body in pieces; the end comes by itself. It stops where
// a piece says so.
func eachPiece(body string, size int, f func(piece string, last bool) bool) bool {
	for len(body) > 0 {
		n := min(size, len(body))
		if !f(body[:n], false) {
			return false
		}
		body = body[n:]
	}
	return f("", true)
}

func schedulerOf(t testing.TB, p scheduling.Profile) *scheduling.Scheduler {
	t.Helper()
	s, err := scheduling.New(p)
	require.NoError(t, err)
	return s
}

func TestExchangeTooLarge(t *testing.T) {
	refused := 0
	store := newStore(t, 1, datastore.Options{})
	d := newDirector(t, store, func(o *director.Options) {
		o.OnRefused = func(*types.Request, types.NamespacedName, *director.Error) { refused++ }
	})
	in := incoming("food", "Content-Length", "99999999999")
	_, a := d.Begin(ctx, in)
	require.Equal(t, 413, a.Status, "no use in waiting for it")
	require.Equal(t, 413, a.Err.Status)

	x, a := d.Begin(ctx, incoming("food"))
	require.Nil(t, a)
	x.Incoming.MaxBody = 100
	require.Nil(t, x.Body(make([]byte, 60), false))
	a = x.Body(make([]byte, 60), false)
	require.Equal(t, 413, a.Status)
	require.Contains(t, string(a.Body), "100 bytes")
	require.Same(t, a, x.Body(nil, true), "the answer stays")
	require.Same(t, a, x.Refuse(&director.Error{Status: 400}))
	require.Nil(t, x.Route())
	require.Equal(t, 2, refused, "each is told once")
	x.Close(nil)
}

// An exchange may end at any point: nothing is left booked, and what passes without a route
// passes as it is.
func TestExchangeEndsEarly(t *testing.T) {
	store := newStore(t, 2, datastore.Options{})
	d := newDirector(t, store, nil)
	body := chat("food")
	for name, play := range map[string]func(x *director.Exchange){
		"after the headers":  func(*director.Exchange) {},
		"in the body":        func(x *director.Exchange) { x.Body(body[:9], false) },
		"once it was routed": func(x *director.Exchange) { x.Body(body, true) },
		"with the response":  func(x *director.Exchange) { x.Body(body, true); x.ResponseHeader(200, nil) },
		"in the response": func(x *director.Exchange) {
			x.Body(body, true)
			x.ResponseHeader(200, nil)
			x.ResponseBody([]byte("{"), false)
		},
		"after the end":        func(x *director.Exchange) { x.Body(body, true); x.ResponseHeader(200, nil); x.ResponseBody(nil, true) },
		"the plane's own":      func(x *director.Exchange) { x.Body(body[:9], false); x.ResponseHeader(403, nil) },
		"refused by the plane": func(x *director.Exchange) { x.Refuse(&director.Error{Status: 400, Code: "own"}) },
	} {
		t.Run(name, func(t *testing.T) {
			x, a := d.Begin(ctx, incoming("food"))
			require.Nil(t, a)
			play(x)
			if x.Route() == nil {
				require.Equal(t, "as it is", string(x.ResponseBody([]byte("as it is"), true)))
			}
			x.Close(context.Canceled)
			x.Close(nil)
			zeroLedgers(t, endpoints(store))
		})
	}
}

// A body in one piece is not copied; one in several is, so that a plane's buffers are free.
func TestExchangeBody(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	body := chat("other")
	x, _ := d.Begin(ctx, incoming(""))
	require.Nil(t, x.Body(body, true))
	require.Same(t, &body[0], &x.Incoming.Body[0])
	x.Close(nil)

	x, _ = d.Begin(ctx, incoming(""))
	buffer := make([]byte, 10)
	for rest := body; ; {
		n := copy(buffer, rest)
		rest = rest[n:]
		require.Nil(t, x.Body(buffer[:n], len(rest) == 0))
		if len(rest) == 0 {
			break
		}
	}
	require.Equal(t, string(body), string(x.Route().Body))
	require.True(t, strings.HasPrefix(x.Route().Endpoint().Address, "10."))
	x.Close(nil)
}

// Large pieces of a body that its plane keeps are not copied as they come; small ones are, and
// all of them where it does not.
func TestExchangeKeepBody(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	for _, keep := range []bool{false, true} {
		in := incoming("")
		in.KeepBody = keep
		x, a := d.Begin(ctx, in)
		require.Nil(t, a)
		pieces := []string{`{"model":"other",`, `"messages":[{"role":"user","content":"`, strings.Repeat("a", 5000), strings.Repeat("b", 5000), `"}]}`}
		for _, piece := range pieces {
			given := []byte(piece)
			require.Nil(t, x.Body(given, false))
			given[0] = '~'
		}
		require.Nil(t, x.Body(nil, true))
		want := strings.Join(pieces, "")
		if keep {
			want = strings.NewReplacer(pieces[2], "~"+pieces[2][1:], pieces[3], "~"+pieces[3][1:]).Replace(want)
		}
		require.Equal(t, want, string(x.Route().Body), "KeepBody is %v", keep)
		x.Close(nil)
	}
}

// A plane's own bound is known before the body comes, and only lowers that of the director.
func TestExchangeMaxBody(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
	in := incoming("food", "Content-Length", "101")
	in.MaxBody = 100
	_, a := d.Begin(ctx, in)
	require.Equal(t, 413, a.Status)
	require.Contains(t, string(a.Body), "larger than 100 bytes")
	in.MaxBody = 101
	x, a := d.Begin(ctx, in)
	require.Nil(t, a)
	x.Close(nil)
	in = incoming("food", "Content-Length", strconv.FormatInt(d.MaxBody()+1, 10))
	in.MaxBody = 1 << 40
	_, a = d.Begin(ctx, in)
	require.Equal(t, 413, a.Status)
}

// What a plane refuses after it was routed is booked until it is closed, and told once.
func TestExchangeRefusedLate(t *testing.T) {
	refused := 0
	store := newStore(t, 1, datastore.Options{})
	d := newDirector(t, store, func(o *director.Options) {
		o.OnRefused = func(*types.Request, types.NamespacedName, *director.Error) { refused++ }
	})
	x, _ := d.Begin(ctx, incoming("food"))
	require.Nil(t, x.Body(chat("food"), true))
	a := x.Refuse(&director.Error{Status: 400, Code: "own"})
	require.Equal(t, 400, a.Status)
	require.Same(t, a, x.Refuse(&director.Error{Status: 403}))
	require.Equal(t, 1, refused)
	require.EqualValues(t, 1, endpoints(store)[0].Load.Requests())
	x.Close(context.Canceled)
	zeroLedgers(t, endpoints(store))
}

// The zero Exchange is for a response of whose request the plane was told nothing.
func TestExchangeZero(t *testing.T) {
	var x director.Exchange
	require.Nil(t, x.Route())
	x.ResponseHeader(403, nil)
	require.Equal(t, "as it is", string(x.ResponseBody([]byte("as it is"), true)))
	x.Close(nil)
}
