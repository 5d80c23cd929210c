package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// quick is a Host that does as little as it can.
type quick struct {
	filter.Host // of what is not used
	fields      exchange.Fields
	response    exchange.Fields
	pieces      [][]byte
	wakes       chan struct{}
	sets, body  int
}

func (q *quick) Fields(m filter.Map) exchange.Fields {
	if m == filter.ResponseHeaders {
		return q.response
	}
	return q.fields
}
func (q *quick) Set(filter.Map, string, string)         { q.sets++ }
func (*quick) Remove(filter.Map, string)                {}
func (q *quick) Pieces(filter.Body) [][]byte            { return q.pieces }
func (q *quick) Append(_ filter.Body, p []byte)         { q.body += len(p) }
func (q *quick) Drain(filter.Body, int)                 { q.pieces = nil }
func (*quick) Metadata(string, string) ([]string, bool) { return nil, false }
func (*quick) SetMetadata(namespace, key string, v any) {}
func (*quick) Route() *filter.Settings                  { return nil }
func (*quick) Go()                                      {}
func (q *quick) Waker() filter.Waker                    { return q }
func (q *quick) Wake()                                  { q.wakes <- struct{}{} }
func (*quick) Release()                                 {}

// headers are those of one of OpenAI's clients.
func headers(body string) []string {
	return post("user-agent", "OpenAI/Go 3.96.0", "accept", "application/json", "content-length", lengthOf(body),
		"authorization", "Bearer "+strings.Repeat("k", 50), "x-forwarded-proto", "http", "x-request-id", "f3e44403-2433-4590-958f-5d0c0697d937",
		"x-stainless-arch", "x64", "x-stainless-lang", "go", "x-stainless-os", "Linux", "x-stainless-runtime", "go", "x-stainless-retry-count", "0")
}

// pairs are fields of names and values.
func pairs(all []string) exchange.Fields {
	return func(yield func(name, value string) bool) {
		for i := 0; i < len(all); i += 2 {
			if !yield(all[i], all[i+1]) {
				return
			}
		}
	}
}

// newExchange returns what plays a whole exchange with the default policy: a chat request in pieces of 32 KiB, and a
// response in JSON.
func newExchange(t testing.TB, size int) (play func()) {
	f := newFixture(t, func(o *exchange.Options, _ *director.Options, p *scheduling.Profile) {
		*p = plugins.Default()
		o.OnRoute = func(*director.Route) {}
	})
	body := exchangetest.ChatBody(size / len("word "))
	q := &quick{fields: pairs(headers(body)), response: pairs([]string{":status", "200", "content-type", "application/json"}), wakes: make(chan struct{}, 1)}
	var sent [][][]byte
	for _, p := range cut(body, 32<<10) {
		sent = append(sent, [][]byte{[]byte(p)})
	}
	want := len(exchangetest.RoutedBody(size / len("word ")))
	answer := [][]byte{[]byte(exchangetest.Whole)}
	return func() {
		q.body = 0
		s := f.filter.Stream()
		s.RequestHeaders(q, false)
		for i, p := range sent {
			q.pieces = p
			s.RequestBody(q, i == len(sent)-1)
		}
		<-q.wakes
		s.Woken(q)
		if q.body != want {
			panic(fmt.Sprintf("%d bytes went on, want %d", q.body, want))
		}
		s.ResponseHeaders(q, false)
		q.pieces = answer
		s.ResponseBody(q, true)
		s.Destroy()
	}
}

// BenchmarkExchange is a whole exchange without Envoy.
func BenchmarkExchange(b *testing.B) {
	for _, size := range []int{2 << 10, 220_000} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			play := newExchange(b, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				play()
			}
		})
	}
}

// TestAllocations of a whole exchange are bounded.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for size, most := range map[int]float64{2 << 10: 70, 220_000: 75} {
		require.LessOrEqual(t, testing.AllocsPerRun(100, newExchange(t, size)), most, "body of %d bytes", size)
	}
}
