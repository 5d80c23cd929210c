package director_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
)

func TestLineage(t *testing.T) {
	d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) { o.Lineage = 1000 })
	const first, second = `{"role":"user","content":"hi"}`, `{"role":"assistant","content":"a"}, {"role":"user","content":"more"}`
	ids := func(tenant, messages, more string, header http.Header) (session, program string) {
		route, err := d.Route(ctx, director.Incoming{
			Path: "/v1/chat/completions", FairnessID: tenant, Header: header,
			Body: []byte(`{"model":"food","tools":[{"type":"function"},{"type":"function"}],` + more + `"messages":[{"role":"system","content":"s"},` + messages + `]}`),
		})
		require.NoError(t, err)
		route.Done(nil)
		return route.Request.SessionID, route.Request.ProgramID
	}
	session, program := ids("t", first, "", nil)
	require.True(t, strings.HasPrefix(session, "~"), session)
	require.Equal(t, session, program)
	s, p := ids("t", first+","+second, `"temperature":0.5,`, nil)
	require.Equal(t, [2]string{session, program}, [2]string{s, p}, "the next turn")
	s, p = ids("t", first+",\n"+strings.Replace(second, "more", "other", 1), "", nil)
	require.NotEqual(t, session, s, "another one that goes on from the same")
	require.Equal(t, program, p)
	s, _ = ids("other", first+","+second, "", nil)
	require.NotEqual(t, session, s)
	s, _ = ids("t", `{"role":"user","content":"ho"}`, "", nil)
	require.NotEqual(t, session, s)
	s, p = ids("t", first+","+second, `"session_id":"named",`, nil)
	require.Equal(t, [2]string{"named", "named"}, [2]string{s, p}, "who names one is believed")
	s, p = ids("t", first+","+second, "", http.Header{"X-Program-Id": {"p"}})
	require.Equal(t, [2]string{session, "p"}, [2]string{s, p})

	for _, body := range []string{`{"model":"food"}`, `{"model":"food","messages":[]}`} {
		route, err := d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Body: []byte(body)})
		require.NoError(t, err)
		route.Done(nil)
		require.Empty(t, route.Request.SessionID)
	}
	for _, n := range []int{-1, 11_000_000} {
		_, err := director.New(director.Options{Store: newStore(t, 1, datastore.Options{}), Lineage: n})
		require.ErrorContains(t, err, "Lineage")
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				ids("t", first+","+second, "", nil)
			}
		})
	}
	all.Wait()
}
