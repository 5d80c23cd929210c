package filter_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter/hosttest"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
)

// TestSidecarHeaders: who computes the prompt for the endpoint that answers, and who encodes, is told in headers, under
// both of their names; whatever a client says of it is taken away.
func TestSidecarHeaders(t *testing.T) {
	for _, tt := range exchangetest.Sidecars {
		t.Run(tt.Name, func(t *testing.T) {
			ended := 0
			f := of(t, exchangetest.NewApart(t, tt.Roles, func(o *exchange.Options, _ *director.Options, p *scheduling.Profile) {
				if tt.Change != nil {
					tt.Change(o, p, func() { ended++ })
				}
			}), nil)
			headers := post()
			headers[3] = tt.Path
			for _, name := range exchangetest.SidecarHeaders {
				headers = append(headers, name, "10.9.9.9:1")
			}
			s := f.open(t)
			s.Request(false, headers...)
			s.Body(true, exchangetest.SidecarBody)
			s.Wait()
			require.Equal(t, tt.Destination, destinationOf(t, s))
			for _, name := range exchangetest.SidecarHeaders {
				wantHeader(t, &s.Upstream, name, tt.Want[name])
			}
			require.Zero(t, ended)
			s.Dynamic["envoy.lb"][exchangetest.ServedKey], _, _ = strings.Cut(tt.Destination, ",")
			s.Response(200, "application/json", true)
			f.Free(t)
			s.Destroy()
			require.Len(t, f.Outcomes, 1, "it was not moved elsewhere")
			if tt.Want["x-encoder-hosts-ports"] != "" {
				require.Equal(t, 1, ended)
			}
		})
	}
}

// TestSidecarLedger: a prompt is booked at who computes it until the answer begins, or the request ends before; so it
// is at encoders.
func TestSidecarLedger(t *testing.T) {
	for name, end := range map[string]func(*hosttest.Stream){
		"answered":  func(s *hosttest.Stream) { s.Response(200, "application/json", true) },
		"failed":    func(s *hosttest.Stream) { s.Response(502, "text/plain", true) },
		"cancelled": func(s *hosttest.Stream) { s.Destroy() },
	} {
		t.Run(name, func(t *testing.T) {
			encoded := make(chan bool, 9)
			f := of(t, exchangetest.NewApart(t, "pdd", func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) {
				o.Apart = func(context.Context, *director.Incoming, *director.Route) exchange.Apart {
					return exchange.Apart{Encoders: exchangetest.Encoders, Encoded: func() { encoded <- true }}
				}
			}), nil)
			s := begin(t, f)
			require.EqualValues(t, 1, f.Load("a"))
			require.EqualValues(t, 1, f.Load("b"))
			require.Empty(t, encoded)
			end(s)
			f.Free(t)
			require.Len(t, encoded, 1)
			s.Destroy()
			require.Len(t, encoded, 1, "once")
		})
	}
}

// TestRanks: a server is told which of its ranks is meant, and Envoy goes on to no endpoint for which the header would
// be another.
func TestRanks(t *testing.T) {
	f := newFixture(t, nil)
	f.Ranks(t)
	s := f.open(t)
	ask(t, s, "x-data-parallel-rank", "7")
	require.Equal(t, exchangetest.Addresses[0], destinationOf(t, s))
	wantHeader(t, &s.Upstream, "x-data-parallel-rank", "0")
	s.Destroy()
	f.Free(t)
}
