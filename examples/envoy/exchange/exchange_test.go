package exchange_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// newHandler returns a Handler in front of a pool.
func newHandler(t testing.TB, change exchangetest.Change) (*exchangetest.Fixture, *exchange.Handler) {
	t.Helper()
	f := exchangetest.New(t, change)
	h, err := exchange.New(f.Options)
	require.NoError(t, err)
	return f, h
}

// fields are headers of names and values.
func fields(pairs ...string) exchange.Fields {
	return func(yield func(name, value string) bool) {
		for i := 0; i < len(pairs); i += 2 {
			if !yield(pairs[i], pairs[i+1]) {
				return
			}
		}
	}
}

// chat are those of a chat request.
func chat(pairs ...string) exchange.Fields {
	return fields(append([]string{":method", "POST", ":path", "/v1/chat/completions", "content-type", "application/json"}, pairs...)...)
}

// open opens an exchange, and routes a chat request if route says so.
func open(t testing.TB, h *exchange.Handler, route bool) *exchange.Exchange {
	t.Helper()
	x, err := h.Open(t.Context(), exchange.Wishes{})
	require.NoError(t, err)
	if route {
		x.Request(exchange.Request{Fields: chat()})
		require.Nil(t, x.Begin())
		require.Nil(t, x.Body([]byte(exchangetest.ChatBody(1)), true))
		require.NotNil(t, x.Route())
	}
	return x
}

func TestMaxStreams(t *testing.T) {
	_, h := newHandler(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.MaxStreams = 2 })
	first, second := open(t, h, false), open(t, h, true)
	for range 3 { // what was refused takes no place
		_, err := h.Open(t.Context(), exchange.Wishes{})
		require.EqualError(t, err, "2 streams are open, the most that are allowed")
	}
	first.Close(nil)
	first.Close(nil) // gives back one place, not two
	third := open(t, h, false)
	_, err := h.Open(t.Context(), exchange.Wishes{})
	require.Error(t, err)
	second.Close(nil)
	third.Close(context.Canceled)
	for range 2 {
		open(t, h, false)
	}
}

// TestClose: the first time counts, wherever the exchange is; the span ends once.
func TestClose(t *testing.T) {
	spans := new(counting)
	f, h := newHandler(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.Tracer = spans })
	open(t, h, false).Close(nil) // before anything is known
	require.Zero(t, spans.started)

	x := open(t, h, false)
	x.Request(exchange.Request{Fields: chat()})
	x.Close(nil) // before Begin
	require.Nil(t, x.Route())

	x = open(t, h, true)
	x.Close(context.Canceled)
	x.Close(nil)
	require.True(t, f.Outcome(t).Cancelled)
	require.Equal(t, counting{started: 2, ended: 2}, *spans)

	x = open(t, h, true)
	x.Response(fields(":status", "200", "content-type", "application/json"), "", false)
	x.ResponseBody([]byte(exchangetest.Whole), true)
	x.Close(context.Canceled) // it has ended well
	require.False(t, f.Outcome(t).Cancelled)
	require.Empty(t, f.Outcomes)
	f.Free(t)
}

// counting is a Tracer, and its spans.
type counting struct{ started, ended int }

func (c *counting) Start(ctx context.Context, _, _ string, _ map[string][]string) (context.Context, exchange.Span) {
	c.started++
	return ctx, c
}
func (*counting) Routed(*director.Route)            {}
func (*counting) Refused(*director.Error)           {}
func (*counting) Response(int, *types.Endpoint)     {}
func (*counting) Propagate(pairs []string) []string { return append(pairs, "Trace-Parent", "mine") }
func (c *counting) End()                            { c.ended++ }

// TestWishes: what Options say counts where there are none.
func TestWishes(t *testing.T) {
	f, h := newHandler(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
		o.Pool, o.MaxDestinations = types.NamespacedName{Namespace: "default", Name: "other"}, 2
	})
	require.NoError(t, f.Store.SetEndpoints(types.NamespacedName{Name: "other"}, nil))
	ask := func(w exchange.Wishes) (*exchange.Exchange, *exchange.Answer) {
		x, err := h.Open(t.Context(), w)
		require.NoError(t, err)
		t.Cleanup(func() { x.Close(nil) })
		x.Request(exchange.Request{Fields: chat()})
		require.Nil(t, x.Begin())
		return x, x.Body([]byte(exchangetest.ChatBody(1)), true)
	}
	_, a := ask(exchange.Wishes{})
	require.Equal(t, 503, a.Status, "the pool of the options has no endpoint")
	llama := types.NamespacedName{Namespace: "default", Name: "llama"}
	x, a := ask(exchange.Wishes{Pool: llama})
	require.Nil(t, a)
	require.Equal(t, exchange.Destinations{All: "10.0.0.1:8000,10.0.0.2:8000", Fallback: "10.0.0.2:8000"}, x.Destinations())
	x, _ = ask(exchange.Wishes{Pool: llama, Destinations: 1})
	require.Equal(t, exchange.Destinations{All: "10.0.0.1:8000"}, x.Destinations())
}

func TestParse(t *testing.T) {
	for s, want := range map[string]types.NamespacedName{"llama": {Namespace: "default", Name: "llama"}, "a/b": {Namespace: "a", Name: "b"}} {
		got, err := exchange.ParsePool(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, s := range []string{"", "/", "a/", "/b", "a/b/c"} {
		_, err := exchange.ParsePool(s)
		require.ErrorContains(t, err, "want name or namespace/name", s)
	}
	for _, s := range append([]string{""}, exchangetest.NoDestinations...) {
		_, err := exchange.ParseDestinations(s)
		require.ErrorContains(t, err, "want a number from 1, or all", s)
	}
}

// TestRefuse: for what only the adapter knows, before there is an exchange, in one, and in one that was answered or
// routed.
func TestRefuse(t *testing.T) {
	f, h := newHandler(t, nil)
	why := func() *director.Error { return &director.Error{Status: 400, Code: "on_purpose", Message: "on purpose"} }
	a := h.Refuse("/v1/messages", why())
	require.Equal(t, 400, a.Status)
	require.Equal(t, "inferpick_on_purpose", a.Details)
	require.Contains(t, string(a.Body), `"type":"error"`, "as Anthropic's clients read it")
	header := map[string]string{}
	for name, value := range a.Fields() {
		header[name] = value
	}
	require.Equal(t, "application/json", header["content-type"])
	require.Equal(t, "on_purpose", header["x-inferpick-reason"])

	x := open(t, h, false)
	x.Request(exchange.Request{Fields: chat()})
	require.Nil(t, x.Begin())
	a = x.Refuse(why())
	require.Equal(t, 400, a.Status)
	require.False(t, a.Canceled())
	require.Equal(t, 400, x.Body([]byte(exchangetest.ChatBody(1)), true).Status, "it was answered")
	require.Equal(t, "on_purpose", x.Refuse(&director.Error{Status: 500, Code: "another"}).Err.Code, "it keeps its answer")
	x.Close(nil)

	x = open(t, h, true)
	require.Equal(t, 400, x.Refuse(why()).Status)
	require.EqualValues(t, 1, f.Load("a"), "until Close")
	x.Close(context.Canceled)
	f.Free(t)
}

// TestHead: the answer to one has no body.
func TestHead(t *testing.T) {
	_, h := newHandler(t, nil)
	for method, want := range map[string]bool{"GET": true, "HEAD": false} {
		x := open(t, h, false)
		x.Request(exchange.Request{Fields: fields(":method", method, ":path", "/v1/models"), End: true})
		require.True(t, x.HeadersOnly())
		a := x.Begin()
		require.Equal(t, 200, a.Status)
		require.Equal(t, want, len(a.Body) > 0, method)
		require.Nil(t, a.Err)
		x.Close(nil)
	}
}

// TestCanceled: nobody waits for the answer to a request that was given up.
func TestCanceled(t *testing.T) {
	_, h := newHandler(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	x, err := h.Open(ctx, exchange.Wishes{})
	require.NoError(t, err)
	x.Request(exchange.Request{Fields: chat()})
	require.Nil(t, x.Begin())
	a := x.Body([]byte(exchangetest.ChatBody(1)), true)
	require.NotNil(t, a)
	require.True(t, a.Canceled())
	x.Close(nil)
}

// TestHeaders: values of one name come in order, none of them is another's memory, and what is changed is in lower case.
func TestHeaders(t *testing.T) {
	var seen http.Header
	_, h := newHandler(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.Tracer = new(counting) })
	x := open(t, h, false)
	var pairs []string
	for i := range 40 { // more than what values have room for at once
		pairs = append(pairs, "x-"+strings.Repeat("a", i+1), "first", "x-same", string(rune('a'+i%26)))
	}
	for i := range 40 {
		pairs = append(pairs, "x-"+strings.Repeat("a", i+1), "second")
	}
	x.Request(exchange.Request{Fields: chat(pairs...)})
	require.Len(t, x.ID(), 36)
	require.Nil(t, x.Begin())
	require.Nil(t, x.Body([]byte(exchangetest.ChatBody(1)), true))
	seen = x.Route().Request.Header
	for i := range 40 {
		require.Equal(t, []string{"first", "second"}, seen.Values("x-"+strings.Repeat("a", i+1)))
	}
	require.Len(t, seen.Values("x-same"), 40)
	require.Equal(t, "abc", strings.Join(seen.Values("x-same")[:3], ""))
	changes := x.Changes(x.Destinations(), true)
	require.Contains(t, changes.Set, "trace-parent")
	require.Equal(t, exchangetest.RoutedBody(1), string(bytes.Join(x.Pieces(), nil)))
	x.Close(nil)
}

// TestAnswerWithoutRequest: a response to what nobody has heard of passes.
func TestAnswerWithoutRequest(t *testing.T) {
	_, h := newHandler(t, nil)
	x := open(t, h, false)
	require.False(t, x.Response(fields(":status", "403"), "10.0.0.1:8000", false))
	require.Equal(t, "denied", string(x.ResponseBody([]byte("denied"), true)))
	require.Empty(t, x.ResponseTrailers(fields()))
	require.Nil(t, x.Report())
	x.Close(nil)
}

// TestUntrusted: the destination is among them, once.
func TestUntrusted(t *testing.T) {
	names := exchange.Untrusted()
	names[0] = "changed" // it is the caller's
	require.Equal(t, exchangetest.DestinationKey, exchange.Untrusted()[0])
	require.Subset(t, exchange.Untrusted(), exchangetest.SidecarHeaders)
}
