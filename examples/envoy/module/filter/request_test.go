package filter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/internal/exchangetest"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// TestBodies: a body in any pieces goes on as it came but for the model's name, with headers that say where
// to; with trailers in chunks, without a length.
func TestBodies(t *testing.T) {
	for _, words := range []int{1, 44_000} { // 220 KB
		for _, piece := range []int{1, 7, 16_384, 65_536, 1 << 20} {
			if words > 1 && piece < 1000 {
				continue
			}
			for _, trailers := range []bool{false, true} {
				for _, parts := range []int{1, 3} { // of a piece, as Envoy's buffers have them
					t.Run(fmt.Sprint(words, piece, trailers, parts), func(t *testing.T) {
						f := newFixture(t, nil)
						s := f.open(t)
						body := exchangetest.ChatBody(words)
						s.Request(false, post("content-length", lengthOf(body))...)
						pieces := cut(body, piece)
						for i, p := range pieces {
							s.Body(i == len(pieces)-1 && !trailers, cut(p, max(1, len(p)/parts))...)
						}
						if trailers {
							s.Trailers("x-sum", "1")
						}
						require.False(t, s.Upstream.Begun, "before it is decided")
						s.Wait()
						require.Equal(t, exchangetest.AllThree, destinationOf(t, s))
						want := exchangetest.RoutedBody(words)
						require.True(t, want == string(s.Upstream.Body), "%d bytes became %d, want %d", len(body), len(s.Upstream.Body), len(want))
						require.True(t, s.Upstream.Ended)
						length := lengthOf(want)
						if trailers {
							require.Equal(t, [][2]string{{"x-sum", "1"}}, s.Upstream.Trailer)
							length = ""
						}
						wantHeader(t, &s.Upstream, "content-length", length)
						require.EqualValues(t, 1, f.Load("a"))
						s.Destroy()
						f.Free(t)
					})
				}
			}
		}
	}
}

// TestEndInAnEmptyPiece: HTTP/1 often ends a body so.
func TestEndInAnEmptyPiece(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	s.Request(false, post()...)
	s.Body(false, exchangetest.ChatBody(1))
	s.Body(true)
	s.Wait()
	require.Equal(t, exchangetest.RoutedBody(1), string(s.Upstream.Body))
	require.True(t, s.Upstream.Ended)
}

// TestKeptByOthers: what a filter before this one has kept of the body counts once, whether it is what comes, or the end of
// the body that Envoy puts behind it.
func TestKeptByOthers(t *testing.T) {
	body := exchangetest.ChatBody(3)
	for _, before := range []int{0, 20} {
		for _, apart := range []bool{false, true} {
			for _, trailers := range []bool{false, true} {
				t.Run(fmt.Sprint(before, apart, trailers), func(t *testing.T) {
					f := newFixture(t, nil)
					s := f.open(t)
					s.Request(false, post()...)
					if before > 0 {
						s.Body(false, body[:before])
					}
					s.Kept(!trailers, apart, body[before:50], body[50:])
					if trailers {
						s.Trailers("a", "b")
					}
					s.Wait()
					require.Equal(t, exchangetest.RoutedBody(3), string(s.Upstream.Body))
				})
			}
		}
	}
}

// TestHeadersOfTheProtocol: what a client sent of them leaves nowhere.
func TestHeadersOfTheProtocol(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	forged := make([]string, 0, len(exchangetest.ForgedHeaders))
	for _, h := range exchangetest.ForgedHeaders {
		forged = append(forged, strings.ToLower(h)) // as Envoy has them
	}
	ask(t, s, forged...)
	require.Equal(t, exchangetest.AllThree, destinationOf(t, s))
	for _, name := range []string{exchangetest.SubsetKey, exchangetest.ServedKey, exchangetest.FallbackKey, "accept-encoding"} {
		wantHeader(t, &s.Upstream, name, "")
	}
	for name := range f.Routes[0].Request.Header {
		require.NotContains(t, strings.ToLower(name), exchangetest.DestinationKey, "the scheduler sees what the client says")
	}
	require.Equal(t, "10.0.0.2:8000", s.Dynamic["envoy.lb"][exchangetest.FallbackKey], "the one fallback of older revisions")
}

// TestBodiless: a request without a body is routed on its headers, within its subset, and gets no length.
func TestBodiless(t *testing.T) {
	for _, tt := range exchangetest.Bodiless {
		t.Run(tt.Name, func(t *testing.T) {
			f := newFixture(t, nil)
			s := f.open(t)
			headers := post()
			headers[1] = tt.Method
			s.Request(tt.End, headers...)
			for i, piece := range tt.Pieces {
				s.Body(i == len(tt.Pieces)-1 && !tt.Trailers, piece)
			}
			if tt.Trailers {
				s.Trailers("x-sum", "1")
			}
			s.Wait()
			require.Equal(t, exchangetest.AllThree, destinationOf(t, s))
			require.True(t, s.Upstream.Ended)
			require.Equal(t, strings.Join(tt.Pieces, ""), string(s.Upstream.Body))
			if tt.End {
				wantHeader(t, &s.Upstream, "content-length", "")
			}
			require.Len(t, f.Routes, 1)
			require.Empty(t, f.Routes[0].Request.Model)
			s.Destroy()
			f.Free(t)
		})
	}
	f := newFixture(t, nil)
	s := f.open(t)
	s.Dynamic["envoy.lb.subset_hint"] = map[string]any{exchangetest.SubsetKey: []any{"10.0.0.2:8000"}}
	s.Request(true, get("/health")...)
	s.Wait()
	require.Equal(t, "10.0.0.2:8000", destinationOf(t, s))
}

// TestModelList: GET /v1/models needs no server.
func TestModelList(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	s.Request(true, get("/v1/models?x=1")...)
	s.Wait()
	code, header, body := status(t, s)
	require.Equal(t, 200, code)
	require.Equal(t, "application/json", header["content-type"])
	require.Contains(t, body, `"id":"chat"`)

	s = f.open(t)
	headers := get("/v1/models")
	headers[1] = "HEAD"
	s.Request(true, headers...)
	s.Wait()
	code, _, body = status(t, s)
	require.Equal(t, 200, code)
	require.Empty(t, body)
}

// TestAdminPaths: what clients may not ask servers for, they may not without a body either.
func TestAdminPaths(t *testing.T) {
	f := newFixture(t, nil)
	for _, path := range exchangetest.AdminPaths {
		headers := post()
		headers[3] = path
		s := f.open(t)
		s.Request(true, headers...)
		s.Wait()
		code, _, _ := status(t, s)
		require.Equal(t, 403, code, path)
	}
}

// TestSubset: the hint counts in every form, its port included, and also if it comes while the body does.
func TestSubset(t *testing.T) {
	for _, tt := range exchangetest.Subsets {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.Name, " late ", late), func(t *testing.T) {
				f := newFixture(t, nil)
				s := f.open(t)
				hint := map[string]any{exchangetest.SubsetKey: tt.Hint}
				if !late {
					s.Dynamic["envoy.lb.subset_hint"] = hint
				}
				s.Request(false, post()...)
				s.Dynamic["envoy.lb.subset_hint"] = hint
				s.Body(true, exchangetest.ChatBody(1))
				s.Wait()
				if tt.Want != "" {
					require.Equal(t, tt.Want, destinationOf(t, s))
					return
				}
				code, _, _ := status(t, s)
				require.Equal(t, 503, code)
			})
		}
	}
}

// TestRequestHeaders: objective, fairness id, rewrite, SLO and request id are read.
func TestRequestHeaders(t *testing.T) {
	f := newFixture(t, nil)
	s := f.open(t)
	ask(t, s, exchangetest.ReadHeaders...)
	exchangetest.CheckRead(t, &f.Routes[0].Request)
	wantHeader(t, &s.Upstream, "traceparent", "00-a-b-01")

	// A rewrite, and an id for a request that has none.
	s = f.open(t)
	ask(t, s, "x-gateway-model-name-rewrite", "mine")
	id, _ := s.Upstream.Get("x-request-id")
	require.Len(t, id, 36)
	require.Equal(t, id, f.Routes[1].Request.ID)
	require.Contains(t, string(s.Upstream.Body), `"model": "mine"`)
}

// TestDestinations: one, unless Options or Envoy's configuration ask for more: the filter's, or before it the route's.
func TestDestinations(t *testing.T) {
	for _, tt := range exchangetest.Destinations {
		for _, byRoute := range []bool{false, true} {
			t.Run(fmt.Sprint(tt, byRoute), func(t *testing.T) {
				var asked filter.Settings
				if tt.Asked != "" {
					var err error
					asked.Destinations, err = exchange.ParseDestinations(tt.Asked)
					require.NoError(t, err)
				}
				common := exchangetest.New(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.MaxDestinations = tt.Most })
				f := of(t, common, func(o *filter.Options) {
					if o.Settings = asked; byRoute {
						o.Settings.Destinations = 3
					}
				})
				s := f.open(t)
				want := tt.Want
				if byRoute {
					if s.RouteSettings = &asked; tt.Asked == "" {
						want = exchangetest.AllThree // the route says nothing of it, and the filter does
					}
				}
				ask(t, s)
				require.Equal(t, want, destinationOf(t, s))
			})
		}
	}
	for _, asked := range exchangetest.NoDestinations {
		_, err := exchange.ParseDestinations(asked)
		require.ErrorContains(t, err, fmt.Sprintf("%q, want a number from 1, or all", asked))
	}
}

// TestPools: the filter's configuration may name the pool, and a route another one.
func TestPools(t *testing.T) {
	for name, want := range exchangetest.Pools {
		for _, byRoute := range []bool{false, true} {
			pool, err := exchange.ParsePool(name)
			require.NoError(t, err)
			own := filter.Settings{Wishes: exchange.Wishes{Pool: pool}}
			common := exchangetest.New(t, nil)
			require.NoError(t, common.Store.SetEndpoints(types.NamespacedName{Name: "other"}, nil))
			f := of(t, common, func(o *filter.Options) {
				if o.Settings = own; byRoute {
					o.Settings.Pool.Name = "no-such-pool"
				}
			})
			s := f.open(t)
			if byRoute {
				s.RouteSettings = &own
			}
			ask(t, s)
			if want == 0 {
				require.Equal(t, exchangetest.AllThree, destinationOf(t, s), name)
				continue
			}
			code, _, _ := status(t, s)
			require.Equal(t, want, code, name)
		}
	}
}

// TestRefusals: each kind has its status and an error body as OpenAI's clients read it. Envoy may play the answer
// through the filter's own hooks, and may end the stream before Respond returns.
func TestRefusals(t *testing.T) {
	for _, tt := range exchangetest.Refusals {
		for _, own := range []bool{false, true} {
			for _, ends := range []bool{false, true} {
				t.Run(fmt.Sprint(tt.Name, own, ends), func(t *testing.T) {
					common, told := tt.New(t)
					f := of(t, common, nil)
					s := f.open(t)
					s.Own, s.Ends = own, ends
					headers := post(tt.Header...)
					if tt.Path != "" {
						headers[3] = tt.Path
					}
					s.Request(false, headers...)
					require.Equal(t, tt.Early, s.Answer != nil)
					if !tt.Early {
						for i, piece := range cut(tt.Body, 1000) {
							s.Body(i == (len(tt.Body)-1)/1000, piece)
						}
					}
					if s.Answer == nil {
						s.Wait()
					}
					code, header, body := status(t, s)
					tt.Check(t, code, header, body, *told)
					require.False(t, s.Upstream.Begun)
					s.Destroy()
					f.Free(t)
				})
			}
		}
	}
}

// TestBounds: what is not ready, or too much at a time, is told so, and takes no place.
func TestBounds(t *testing.T) {
	ready := false
	common := exchangetest.New(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.MaxStreams = 2 })
	f := of(t, common, func(o *filter.Options) { o.Ready = func() bool { return ready } })
	refused := func(reason string) {
		t.Helper()
		s := f.open(t)
		s.Own = true
		s.Request(false, post()...)
		code, header, body := status(t, s)
		require.Equal(t, 503, code)
		require.Equal(t, "1", header["retry-after"])
		require.Equal(t, reason, header["x-inferpick-reason"])
		require.Contains(t, body, `"error"`)
		s.Destroy()
	}
	refused("starting")
	ready = true
	first, second := begin(t, f), begin(t, f)
	for range 3 {
		refused("too_many_requests_at_a_time")
	}
	first.Destroy()
	third := begin(t, f)
	for _, s := range []interface{ Destroy() }{second, third} {
		s.Destroy()
	}
	f.Free(t)
}

// TestHeadersTwice: a request that Envoy sends anew is another stream; one more of the same leaks nothing.
func TestHeadersTwice(t *testing.T) {
	f := of(t, exchangetest.New(t, func(o *exchange.Options, _ *director.Options, _ *scheduling.Profile) { o.MaxStreams = 1 }), nil)
	for range 3 {
		s := f.open(t)
		s.Request(false, post()...)
		s.Request(false, post()...)
		require.False(t, s.Upstream.Begun)
		s.Destroy()
	}
	begin(t, f)
}
