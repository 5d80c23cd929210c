package httptransport_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	dt "github.com/inferpick/inferpick/scheduling/director/disagg/disaggtest"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// The default profile serves it, too.
func TestApartByDefault(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol dt.Protocol) {
		a := newApart(t, dt.Options{Protocol: protocol, Prefill: 2, Decode: 2}, func(s *setup) {
			s.profile = plugins.Default()
			s.roles = notAlone
		})
		for range 5 {
			a.right(t, chatPath, streamedChat, a.ask(t.Context(), chatPath, streamedChat))
		}
		require.Equal(t, 5, a.c.Stats().Transferred)
		a.empty(t)
	})
}

// panics is a RoundTripper that panics with one leg.
type panics struct {
	http.RoundTripper
	leg func(*http.Request) bool
}

func (p panics) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.leg(r) {
		panic("mine")
	}
	return p.RoundTripper.RoundTrip(r)
}

// A RoundTripper that panics ends the request, whichever leg it was for, and nothing else.
func TestApartPanics(t *testing.T) {
	eachProtocol(t, func(t *testing.T, protocol dt.Protocol) {
		for _, role := range []dt.Leg{dt.Prefill, dt.Decode} {
			a := newApart(t, dt.Options{Protocol: protocol, Wait: time.Hour, Lease: time.Hour}, nil)
			a.front.Config.ErrorLog = log.New(io.Discard, "", 0)
			a.transport.Base = panics{a.base, func(r *http.Request) bool { return a.c.Engine(r.URL.Host).Role() == role }}
			g := a.ask(t.Context(), chatPath, streamedChat)
			if role == dt.Prefill {
				require.Equal(t, 500, g.status)
				require.NotContains(t, string(g.body), "mine")
			} else {
				require.Error(t, g.err, "as with one engine")
			}
			a.empty(t)
		}
	})
}

// What comes of both legs is counted against MaxBodies, and refused beyond it.
func TestApartMemory(t *testing.T) {
	a := newApart(t, dt.Options{}, func(s *setup) {
		s.transport = func(t *httptransport.Transport) { t.MaxBodies = 100 << 10 }
	})
	g := a.ask(t.Context(), chatPath, strings.Replace(streamedChat, "hello there", strings.Repeat("x", 60<<10), 1))
	require.Equal(t, 503, g.status)
	require.Equal(t, httptransport.CodeBodies, g.header.Get("X-Inferpick-Reason"))
	require.Empty(t, a.c.Legs())
	a.empty(t)
	a.right(t, chatPath, streamedChat, a.ask(t.Context(), chatPath, streamedChat))
}

func TestQuery(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			_, _ = w.Write(make([]byte, 1<<20+1))
		case "/moved":
			http.Redirect(w, r, "/query", http.StatusFound)
		case "/query":
			_, _ = w.Write([]byte("{}"))
		default:
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	query := httptransport.Query(base)
	got, err := query(t.Context(), server.URL+"/query")
	require.NoError(t, err)
	require.Equal(t, "{}", string(got))
	_, err = query(t.Context(), server.URL+"/long")
	require.ErrorContains(t, err, "longer than 1 MiB")
	_, err = query(t.Context(), server.URL+"/moved")
	require.ErrorContains(t, err, "302")
	_, err = query(t.Context(), ":")
	require.Error(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = query(ctx, server.URL+"/never")
	require.True(t, errors.Is(err, context.DeadlineExceeded))
}
