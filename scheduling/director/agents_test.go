package director_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
)

func TestConversationsAndPrograms(t *testing.T) {
	long := strings.Repeat("x", 300)
	tests := []struct {
		name             string
		header           []string // names and values, as they are on the wire
		body             string   // members
		in               director.Incoming
		options          director.Options
		session, program string
	}{
		{name: "none"},
		{name: "session", header: []string{"x-session-id", "s"}, session: "s", program: "s"},
		{name: "of the body", body: `,"prompt_cache_key":"k"`, session: "k", program: "k"},
		{name: "headers go before it", header: []string{"x-session-affinity", "s"}, body: `,"session_id":"k","metadata":{"program_id":"p"}`, session: "s", program: "p"},
		{name: "program", header: []string{"x-session-id", "s", "X-Program-ID", "p"}, session: "s", program: "p"},
		{name: "a program alone", header: []string{"x-program-id", "p"}, program: "p"},
		{name: "OpenCode", header: []string{"x-session-affinity", "c", "x-session-id", "c", "x-parent-session-id", "p"}, session: "c", program: "p"},
		{name: "Pi", header: []string{"x-session-affinity", "c", "x-parent-session-id", "p"}, session: "c", program: "p"},
		{name: "Claude Code", header: []string{"x-claude-code-session-id", "s"}, session: "s", program: "s"},
		{name: "a sub-agent of Claude Code", header: []string{"x-claude-code-session-id", "s", "x-claude-code-agent-id", "a"}, session: "s/a", program: "s"},
		{name: "Codex", header: []string{"session-id", "s", "thread-id", "s"}, session: "s", program: "s"},
		{name: "a thread of Codex", header: []string{"session_id", "s", "thread_id", "t"}, session: "s/t", program: "s"},
		{name: "Dynamo", header: []string{"x-dynamo-session-id", "s", "x-dynamo-parent-session-id", "p", "session-id", "other"}, session: "s", program: "p"},
		{name: "LiteLLM", header: []string{"x-litellm-session-id", "s", "x-litellm-trace-id", "p"}, session: "s", program: "p"},
		{name: "a parent of somebody else", header: []string{"x-claude-code-session-id", "s", "x-dynamo-parent-session-id", "p"}, session: "s", program: "s"},
		{name: "names of the gateway's own", header: []string{"x-session-id", "no", "x-chat", "s", "x-task", "p"},
			options: director.Options{SessionHeader: "x-chat", ProgramHeader: "x-task"}, session: "s", program: "p"},
		{name: "the gateway says it", header: []string{"x-session-id", "no", "x-program-id", "no"},
			in: director.Incoming{SessionID: "s", ProgramID: "p"}, session: "s", program: "p"},
		{name: "clients are not heard", header: []string{"x-session-id", "s", "x-program-id", "p"}, body: `,"session_id":"k"`,
			options: director.Options{IgnoreClientIDs: true}},
		{name: "and the gateway is", header: []string{"x-session-id", "no"}, in: director.Incoming{SessionID: "s"},
			options: director.Options{IgnoreClientIDs: true}, session: "s", program: "s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDirector(t, newStore(t, 1, datastore.Options{}), func(o *director.Options) {
				o.SessionHeader, o.ProgramHeader, o.IgnoreClientIDs = tt.options.SessionHeader, tt.options.ProgramHeader, tt.options.IgnoreClientIDs
			})
			in := tt.in
			in.Path, in.Header = "/v1/chat/completions", http.Header{}
			for i := 0; i < len(tt.header); i += 2 {
				http.Header(in.Header).Set(tt.header[i], tt.header[i+1])
			}
			in.Body = []byte(`{"model":"food","messages":[]` + tt.body + `}`)
			route, err := d.Route(ctx, in)
			require.NoError(t, err)
			defer route.Done(nil)
			require.Equal(t, [2]string{tt.session, tt.program}, [2]string{route.Request.SessionID, route.Request.ProgramID})
		})
	}
	t.Run("bounded", func(t *testing.T) {
		d := newDirector(t, newStore(t, 1, datastore.Options{}), nil)
		for _, h := range []http.Header{
			{"X-Session-Id": {long}, "X-Program-Id": {long}},
			{"X-Claude-Code-Session-Id": {long}, "X-Claude-Code-Agent-Id": {long}},
			{"X-Dynamo-Session-Id": {long}, "X-Dynamo-Parent-Session-Id": {long}},
		} {
			route, err := d.Route(ctx, director.Incoming{Path: "/v1/chat/completions", Header: h, Body: []byte(`{"model":"food"}`)})
			require.NoError(t, err)
			require.LessOrEqual(t, len(route.Request.SessionID), 256)
			require.LessOrEqual(t, len(route.Request.ProgramID), 256)
			require.NotEmpty(t, route.Request.ProgramID)
			route.Done(nil)
		}
	})
}

func BenchmarkRouteWithHeaders(b *testing.B) {
	d := newDirector(b, newStore(b, 100, datastore.Options{}), nil)
	h := http.Header{}
	for _, name := range []string{"accept", "user-agent", "content-type", "authorization", "x-request-id", "x-forwarded-for", "content-length", "host"} {
		h.Set(name, "something")
	}
	in := director.Incoming{Path: "/v1/chat/completions", Header: h, Body: conversation(1 << 10)}
	b.ReportAllocs()
	for b.Loop() {
		route, err := d.Route(ctx, in)
		if err != nil {
			b.Fatal(err)
		}
		answer(route)
	}
}
