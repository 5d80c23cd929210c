package plugins_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
)

// promptForms are a prompt of 4,096 tokens in each form in which a data plane may have it,
// by a number that stands for what is in it: two prompts of one topic have the first three
// quarters in common.
func promptForms() map[string]func(topic, rest uint32) types.Prompt {
	ids := func(topic, rest uint32) []uint32 {
		ids := make([]uint32, 4096)
		for i := range ids {
			ids[i] = topic<<16 | uint32(i)
			if i >= 3072 {
				ids[i] ^= rest << 24
			}
		}
		return ids
	}
	blocks := func(size int, topic, rest uint32) types.Prompt {
		var hashes []uint64
		all := ids(topic, rest)
		for i := 0; i+size <= len(all); i += size {
			hashes = append(hashes, 0x9e3779b97f4a7c15*uint64(all[i]))
		}
		return types.BlockPrompt(hashes, size)
	}
	return map[string]func(topic, rest uint32) types.Prompt{
		"text": func(topic, rest uint32) types.Prompt {
			return types.TextPrompt(text(topic, 12<<10) + text([]uint32{topic, rest}, 4<<10))
		},
		"token ids":           func(topic, rest uint32) types.Prompt { return types.TokenPrompt(ids(topic, rest)) },
		"blocks of 16 tokens": func(topic, rest uint32) types.Prompt { return blocks(16, topic, rest) },
		"blocks of 3 tokens":  func(topic, rest uint32) types.Prompt { return blocks(3, topic, rest) },
		"blocks of 128":       func(topic, rest uint32) types.Prompt { return blocks(128, topic, rest) },
	}
}

// A request without a body goes where the beginning of its prompt is, and the ledger
// counts only what is not there yet.
func TestPromptsWithoutBody(t *testing.T) {
	for name, prompt := range promptForms() {
		t.Run(name, func(t *testing.T) {
			s := mustNew(t, seeded(plugins.Default()))
			eps := idle(8)
			home := map[uint32]string{}
			for topic := range uint32(4) {
				d := mustSchedule(t, s, &types.Request{Model: "m", Prompt: prompt(topic, 1)}, eps)
				home[topic] = d.Endpoint.ID
				require.InDelta(t, 4096, d.Endpoint.Load.PrefillTokens(), 4)
				d.FirstToken()
				d.Done(types.Outcome{Status: 200})
			}
			for topic := range uint32(4) {
				d := mustSchedule(t, s, &types.Request{Model: "m", Prompt: prompt(topic, 2)}, eps)
				require.Equal(t, home[topic], d.Endpoint.ID, "topic %d", topic)
				require.InDelta(t, 1024, d.Endpoint.Load.PrefillTokens(), 130, "a quarter is new")
				d.FirstToken()
				d.Done(types.Outcome{Status: 200})
			}
			other := &types.Request{Model: "m", CacheSalt: "other", Prompt: prompt(1, 2)}
			d := mustSchedule(t, s, other, eps)
			require.InDelta(t, 4096, d.Endpoint.Load.PrefillTokens(), 4, "of another salt nothing is cached")
			d.Done(types.Outcome{})
		})
	}
}

func TestPromptForms(t *testing.T) {
	p := types.TextPrompt("four tokens of it")
	require.Equal(t, []int{17, 5}, []int{p.Bytes, p.Tokens})
	p = types.TokenPrompt([]uint32{1, 2, 3})
	require.Equal(t, []int{12, 3}, []int{p.Bytes, p.Tokens})
	p = types.BlockPrompt([]uint64{1, 2, 3}, 0)
	require.Equal(t, []int{192, 48}, []int{p.Bytes, p.Tokens})
	p = types.BlockPrompt([]uint64{1, 2}, 3)
	require.Equal(t, []int{24, 6}, []int{p.Bytes, p.Tokens})
	require.NotEqual(t, p.Data[:12], p.Data[12:])
	require.Zero(t, types.TextPrompt("").Tokens)
	require.Empty(t, types.BlockPrompt(nil, 16).Data)
}
