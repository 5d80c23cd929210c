package filter_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/internal/logbuffer"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/examples/envoy/module/filter/hosttest"
)

// fixture is a filter in front of a pool.
type fixture struct {
	*exchangetest.Fixture
	filter *filter.Filter
	log    *logbuffer.Buffer // what is told of panics
}

func newFixture(t testing.TB, change exchangetest.Change) *fixture {
	t.Helper()
	return of(t, exchangetest.New(t, change), nil)
}

// of returns a filter in front of the pool of a Fixture.
func of(t testing.TB, common *exchangetest.Fixture, change func(*filter.Options)) *fixture {
	t.Helper()
	h, err := exchange.New(common.Options)
	require.NoError(t, err)
	f := &fixture{Fixture: common, log: new(logbuffer.Buffer)}
	o := filter.Options{Handler: h, Logger: slog.New(slog.NewTextHandler(f.log, nil))}
	if change != nil {
		change(&o)
	}
	f.filter = filter.New(o)
	return f
}

// open opens a stream.
func (f *fixture) open(t testing.TB) *hosttest.Stream {
	t.Helper()
	return hosttest.New(t, f.filter.Stream())
}

// post are the headers of a POST of a chat request.
func post(pairs ...string) []string {
	return append([]string{":method", "POST", ":path", "/v1/chat/completions", ":authority", "llm", ":scheme", "http", "content-type", "application/json"}, pairs...)
}

// get are those of a GET.
func get(path string, pairs ...string) []string {
	return append([]string{":method", "GET", ":path", path}, pairs...)
}

// upgrade are those that begin a websocket.
func upgrade() []string {
	return get("/v1/realtime?model=chat", "connection", "keep-alive, Upgrade", "upgrade", "websocket")
}

// ask sends a request for the model chat and waits for what becomes of it.
func ask(t testing.TB, s *hosttest.Stream, pairs ...string) {
	t.Helper()
	s.Request(false, post(pairs...)...)
	s.Body(true, exchangetest.ChatBody(1))
	s.Wait()
}

// begin is ask up to where a response is awaited.
func begin(t testing.TB, f *fixture) *hosttest.Stream {
	t.Helper()
	s := f.open(t)
	ask(t, s)
	require.Nil(t, s.Answer)
	require.True(t, s.Upstream.Ended, "%v", s)
	return s
}

// destinationOf returns where a request goes, which has to be the same in header and metadata.
func destinationOf(t testing.TB, s *hosttest.Stream) string {
	t.Helper()
	require.True(t, s.Upstream.Begun, "the request does not go on: %v", s)
	header, _ := s.Upstream.Get(exchangetest.DestinationKey)
	require.Equal(t, s.Dynamic["envoy.lb"][exchangetest.DestinationKey], header, "metadata and header")
	return header
}

// wantHeader fails the test unless a message has a header, once; or has none, if value is empty.
func wantHeader(t testing.TB, m *hosttest.Message, name, value string) {
	t.Helper()
	got, _ := m.Get(name)
	require.Equal(t, value, got, name)
}

// cut cuts a body into pieces of n bytes; there is at least one.
func cut(body string, n int) []string {
	pieces := []string{}
	for len(body) > n {
		pieces, body = append(pieces, body[:n]), body[n:]
	}
	return append(pieces, body)
}

// end plays the server's answer, and the stream's end.
func end(t testing.TB, s *hosttest.Stream) {
	t.Helper()
	s.Response(200, "text/event-stream", false)
	s.ResponseBody(true, exchangetest.Events)
	require.Equal(t, exchangetest.Restored(exchangetest.Events), string(s.Downstream.Body))
	s.Destroy()
}

// status is that of the answer in place of a server's.
func status(t testing.TB, s *hosttest.Stream) (code int, header map[string]string, body string) {
	t.Helper()
	require.NotNil(t, s.Answer, "there is no answer: %v", s)
	header = map[string]string{}
	for name, value := range s.Answer.Fields() {
		header[name] = value
	}
	require.True(t, strings.HasPrefix(s.Answer.Details, "inferpick_"), s.Answer.Details)
	require.NotContains(t, s.Answer.Details, " ", "Envoy's access log")
	return s.Answer.Status, header, string(s.Answer.Body)
}

// told returns how many panics were told of.
func (f *fixture) told() int { return strings.Count(f.log.String(), "panic while a request") }

// lengthOf is a content-length.
func lengthOf(s string) string { return fmt.Sprint(len(s)) }
