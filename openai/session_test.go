package openai_test

import (
	"cmp"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/types"
)

func TestIDsInBodies(t *testing.T) {
	const claude = `user_0af3_account_6c1d_session_9b1deb4d-3b7d`
	tests := []struct {
		name             string
		api              openai.API
		members          string
		session, program string
	}{
		{"vLLM, SGLang, OpenRouter", openai.ChatCompletions, `"session_id":"s"`, "s", ""},
		{"before the cache key, which many share", openai.ChatCompletions, `"prompt_cache_key":"k","session_id":"s"`, "s", ""},
		{"metadata", openai.ChatCompletions, `"metadata":{"a":{"session_id":"x"},"session_id":"s","program_id":"p"}`, "s", "p"},
		{"a program alone", openai.ChatCompletions, `"metadata":{"program_id":"p"},"prompt_cache_key":"k"`, "k", "p"},
		{"Claude Code", openai.Messages, `"metadata":{"user_id":"` + claude + `"}`, "9b1deb4d-3b7d", ""},
		{"Claude Code, newer", openai.Messages, `"metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"9b1d\",\"x\":1}"}`, "9b1d", ""},
		{"a user who is no session", openai.Messages, `"metadata":{"user_id":"alice"}`, "", ""},
		{"a user with an empty session", openai.Messages, `"metadata":{"user_id":"a_session_"}`, "", ""},
		{"Codex", openai.Responses, `"prompt_cache_key":"k","client_metadata":{"session_id":"run","thread_id":"t"}`, "t", "run"},
		{"Dynamo", openai.ChatCompletions, `"nvext":{"x":[1],"agent_context":{"session_id":"c","parent_session_id":"p"}}`, "c", "p"},
		{"Dynamo, older", openai.ChatCompletions,
			`"nvext":{"agent_context":{"session_id":"run","trajectory_id":"run:a","parent_trajectory_id":"run:p"}}`, "run:a", "run"},
		{"conversation of another API", openai.ChatCompletions, `"conversation":"c"`, "", ""},
		{"conversation_id", openai.ChatCompletions, `"conversation_id":"c"`, "c", ""},
		{"the cache key goes before it", openai.Responses, `"conversation_id":"c","prompt_cache_key":"k"`, "k", ""},
		{"other types are nobody's", openai.ChatCompletions,
			`"session_id":7,"metadata":["session_id"],"nvext":{"agent_context":7},"client_metadata":null,"prompt_cache_key":"k"`, "k", ""},
		{"too long counts as absent", openai.ChatCompletions, `"session_id":"` + strings.Repeat("x", 1025) + `","prompt_cache_key":"k"`, "k", ""},
		{"empty counts as absent", openai.ChatCompletions, `"session_id":"","metadata":{"session_id":"","program_id":""}`, "", ""},
		{"the last counts", openai.ChatCompletions, `"metadata":{"session_id":"a","program_id":"p"},"metadata":{"session_id":"b"}`, "b", ""},
		{"escapes", openai.ChatCompletions, `"session\u005fid":"a\"b"`, `a"b`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := types.Request{SessionID: "old", ProgramID: "old"}
			_, err := openai.Parse(tt.api, "", []byte(`{"model":"m",`+tt.members+`}`), &req, openai.Limits{})
			require.NoError(t, err)
			require.Equal(t, [2]string{tt.session, tt.program}, [2]string{req.SessionID, req.ProgramID})
		})
	}
}

func TestIDsAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("allocation counts differ under the race detector")
	}
	for _, members := range []string{
		`"prompt_cache_key":"k"`,
		`"metadata":{"user_id":"user_a_account_b_session_c","program_id":"p"},"nvext":{"agent_context":{"session_id":"s"}}`,
	} {
		body := []byte(`{"model":"m","messages":[{"role":"user","content":"hi"}],` + members + `}`)
		var req types.Request
		n := testing.AllocsPerRun(100, func() {
			if _, err := openai.Parse(openai.ChatCompletions, "", body, &req, openai.Limits{}); err != nil {
				t.Fatal(err)
			}
		})
		require.Zero(t, n, members)
	}
}

// FuzzIDs compares what is found in a body with what a plain reader finds, and checks that no body is refused for it.
func FuzzIDs(f *testing.F) {
	f.Add(`"session_id":"s"`)
	f.Add(`"metadata":{"session_id":"s","user_id":"u","program_id":"p"},"conversation_id":"c"`)
	f.Add(`"nvext":{"agent_context":{"session_id":"c","trajectory_id":"t","parent_session_id":"p"}}`)
	f.Add(`"client_metadata":{"session_id":"run","thread_id":"t"},"prompt_cache_key":"k"`)
	f.Add(`"metadata":{"user_id":"{\"session_id\":\"x`)
	f.Add(`"nvext":{"agent_context":{"session_id":"a"},"agent_context":{"trajectory_id":["t"]}}`)
	f.Fuzz(func(t *testing.T, members string) {
		body := []byte(`{"model":"m",` + members + `}`)
		var req types.Request
		if _, err := openai.Parse(openai.ChatCompletions, "", body, &req, openai.Limits{}); err != nil {
			return
		}
		require.LessOrEqual(t, len(req.SessionID), 3*1024)
		require.LessOrEqual(t, len(req.ProgramID), 3*1024)
		var tree map[string]any
		if json.Unmarshal(body, &tree) != nil || strings.Contains(members, "user_id") || len(members) > 1024 || strings.Contains(members, `\u`) {
			return
		}
		key, _ := tree["prompt_cache_key"].(string)
		session, program := idsIn(tree, key)
		require.Equal(t, [2]string{session, program}, [2]string{req.SessionID, req.ProgramID}, members)
	})
}

// idsIn finds the ids of a chat body the plain way; key is its prompt_cache_key.
func idsIn(tree map[string]any, key string) (session, program string) {
	str := func(tree map[string]any, key string) string {
		s, _ := tree[key].(string)
		if len(s) > 1024 {
			return ""
		}
		return s
	}
	object := func(tree map[string]any, key string) map[string]any { o, _ := tree[key].(map[string]any); return o }
	agent, client, meta := object(object(tree, "nvext"), "agent_context"), object(tree, "client_metadata"), object(tree, "metadata")
	if chain := str(agent, "trajectory_id"); chain != "" {
		return chain, cmp.Or(str(meta, "program_id"), str(agent, "session_id"), parentIn(agent))
	}
	if thread := str(client, "thread_id"); thread != "" {
		return thread, cmp.Or(str(meta, "program_id"), str(client, "session_id"))
	}
	user := str(meta, "user_id")
	if _, id, ok := strings.Cut(user, "_session_"); ok {
		user = id
	} else {
		user = ""
	}
	session = cmp.Or(str(agent, "session_id"), str(tree, "session_id"), str(meta, "session_id"), user, str(client, "session_id"), key, str(tree, "conversation_id"))
	return session, cmp.Or(str(meta, "program_id"), parentIn(agent))
}

// parentIn is the parent in an agent_context, which has two names.
func parentIn(agent map[string]any) string {
	for _, key := range []string{"parent_session_id", "parent_trajectory_id"} {
		if s, ok := agent[key].(string); ok && s != "" && len(s) <= 1024 {
			return s
		}
	}
	return ""
}
