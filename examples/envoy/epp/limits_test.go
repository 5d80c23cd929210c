package epp_test

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	modev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
	"github.com/inferpick/inferpick/examples/envoy/internal/envoyside"
)

// bodyOf returns a request whose body has exactly n bytes.
func bodyOf(n int) string {
	head, tail := `{"model": "chat", "messages": [{"role": "user", "content": "`, `"}]}`
	return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
}

// sendBody sends a body in pieces as Envoy does, and returns the first answer.
func (x *stream) sendBody(body string, pairs ...string) *extprocv3.ProcessingResponse {
	x.t.Helper()
	answer := make(chan *extprocv3.ProcessingResponse, 1)
	go func() {
		m, _ := x.s.Recv()
		answer <- m
	}()
	x.send(requestHeaders(pairs...))
	const piece = 1 << 20
	for len(body) > 0 {
		n := min(piece, len(body))
		if err := x.s.Send(envoyside.RequestBody(body[:n], n == len(body))); errors.Is(err, io.EOF) {
			break // refused: Recv says why
		} else {
			require.NoError(x.t, err)
		}
		body = body[n:]
	}
	return <-answer
}

// TestTrapAnotherLimit: the limit of bodies is Options.MaxBody and no other, to the
// byte, whatever it is, and its text says so; also where the length is announced.
func TestTrapAnotherLimit(t *testing.T) { // not parallel: bodies are large
	for _, limit := range []int{0, 1000, 1 << 20, 17 << 20, 64 << 20} {
		name, most := strconv.Itoa(limit), limit
		if limit == 0 {
			name, most = "default", 32<<20
		}
		t.Run(name, func(t *testing.T) {
			r := start(t, base, func(o *epp.Options) { o.MaxBody = limit })
			c := r.client()
			require.NotNil(t, open(t, c).sendBody(bodyOf(most)).GetRequestHeaders(), "a body of the limit's size")
			for _, pairs := range [][]string{nil, {"content-length", strconv.Itoa(most + 1)}} {
				i := open(t, c).sendBody(bodyOf(most+1), pairs...).GetImmediateResponse()
				require.EqualValues(t, 413, i.GetStatus().GetCode())
				require.Contains(t, string(i.GetBody()), fmt.Sprintf("%d bytes", most))
				for _, other := range []int{16 << 20, 32 << 20} {
					if other != most {
						require.NotContains(t, string(i.GetBody()), strconv.Itoa(other))
					}
				}
			}
		})
	}
}

// TestTrapAnotherLimitOfBuffered: so it is where Envoy sends a body as one message.
func TestTrapAnotherLimitOfBuffered(t *testing.T) { // not parallel, too
	const limit = 64 << 20
	c := start(t, base, func(o *epp.Options) { o.MaxBody = limit }).client()
	ask := func(n int) *extprocv3.ProcessingResponse {
		x := open(t, c)
		head := requestHeaders()
		head.ProtocolConfig.RequestBodyMode = modev3.ProcessingMode_BUFFERED
		x.send(head)
		x.recv()
		x.send(envoyside.RequestBody(bodyOf(n), true))
		return x.recv()
	}
	require.NotEmpty(t, ask(limit).GetRequestBody().GetResponse().GetHeaderMutation().GetSetHeaders())
	i := ask(limit + 1).GetImmediateResponse()
	require.EqualValues(t, 413, i.GetStatus().GetCode())
	require.Contains(t, string(i.GetBody()), fmt.Sprintf("%d bytes", limit))
}
