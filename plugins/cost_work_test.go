package plugins_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// pictures is a request with pictures of so many tokens each, between a text that is always the same and one that is
// not.
func pictures(text string, tokens ...int) *types.Request {
	system := strings.Repeat("s", 1200)
	body, media := system, []types.Media(nil)
	all := 300
	for _, n := range tokens {
		picture := strings.Repeat(fmt.Sprintf("%8d", n), n/2)
		media = append(media, types.Media{Kind: types.Image, Span: types.Span{Start: len(body), End: len(body) + len(picture)}, Key: uint64(n), Tokens: n})
		body += picture
		all += n
	}
	body += text
	req := &types.Request{Prompt: types.TextPrompt(body), Stream: true}
	req.Prompt.Media, req.Prompt.Tokens = media, all+len(text)/4
	return req
}

func denoise(passes, latents float64) *types.Request {
	req := &types.Request{Prompt: types.TextPrompt("a lighthouse")}
	req.Work = types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: passes, Latents: latents}}
	return req
}

// What is explained of a chat with pictures, of a picture to be made and of a batch of texts.
func TestExplainWork(t *testing.T) {
	var got strings.Builder
	show := func(b *costBench, what string, req *types.Request) {
		b.explain(req)
		ex, err := b.s.Explain(ctx, req, b.eps)
		require.NoError(t, err)
		fmt.Fprintf(&got, "== %s\n%s\n", what, ex)
	}
	chat := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
	show(chat, "two images", pictures("what is this?", 1024, 4096))
	d := chat.schedule(pictures("what is this?", 1024))
	chat.pass(time.Second)
	seen := pictures("and how are these different?", 4096, 1024)
	seen.Prompt.Media[0].Guessed = true
	show(chat, "one of them was seen, by another beginning", seen)
	show(chat, "one of them is in the prefix", pictures("and what else?", 1024, 4096))
	d.Done(types.Outcome{Cancelled: true})
	show(chat, "who was sent it gave up", pictures("what is this?", 1024))

	batch := pictures("")
	batch.Prompt.Media, batch.Prompt.Tokens, batch.Stream = nil, 20_000, false
	batch.Work = types.Work{Kind: types.Pools, Items: 200}
	show(chat, "200 texts to embed", batch)

	studio := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
	show(studio, "an image of 1024 x 1024", denoise(50, 4096))
	studio.schedule(denoise(50, 4096))
	studio.pass(3 * time.Second)
	show(studio, "beside one that is under way", denoise(0, 4096))
	show(studio, "of which nothing is known", denoise(0, 0))
	show(studio, "text where others denoise", prompt("x", 1000))

	golden := filepath.Join("testdata", "explain-work.txt")
	if *updateTranscript {
		require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), got.String())
}

// Where a picture was seen it is not encoded again, wherever it is in the prompt, until the endpoint goes.
func TestMediaGoWhereTheyWereSeen(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c")...)
	first := b.schedule(pictures("first", 4096))
	b.serve(first, 300*time.Millisecond, 10*time.Millisecond, 20, 0)
	other := pictures("x", 4096)
	other.Prompt.Spans = []types.Span{{Start: 1200, End: len(other.PromptData())}} // begins otherwise
	require.Equal(t, first.Endpoint.ID, b.schedule(other).Endpoint.ID)
	again := pictures("x", 4096)
	again.Prompt.Media[0].Key = 0
	again.Prompt.Spans = []types.Span{{Start: 1300, End: len(again.PromptData())}}
	require.NotEqual(t, first.Endpoint.ID, b.schedule(again).Endpoint.ID, "not known what it is")
	b.s.Forget(first.Endpoint)
	items := b.explain(other)
	require.Contains(t, itemOf(t, items["a"], "encode").Detail, "1 image of 4096 tokens")
	for _, c := range items {
		require.NotContains(t, itemOf(t, c, "encode").Detail, "seen")
	}
}

// Pictures to be made go where the least is left to be done, and what is learned survives a restart.
func TestDenoisingGoesWhereTheLeastIsLeft(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c")...)
	large := b.schedule(denoise(50, 9216))
	var small []*scheduling.Decision
	for range 4 {
		d := b.schedule(denoise(20, 1024))
		require.NotEqual(t, large.Endpoint.ID, d.Endpoint.ID)
		small = append(small, d)
	}
	require.EqualValues(t, 50*9216, large.Endpoint.Load.DenoiseTokens())
	for _, d := range small {
		b.pass(5 * time.Second)
		d.Done(types.Outcome{Status: 200})
	}
	b.pass(60 * time.Second)
	large.Done(types.Outcome{Status: 200})
	require.Greater(t, b.cost.Stats().Rates.Denoise, 1.5, "they took longer than the reference engine")
	require.Zero(t, large.Endpoint.Load.Held())

	saved := b.cost.AppendSnapshot(nil, 1<<20, b.now)
	next := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c")...)
	require.NoError(t, next.cost.Restore(saved, 0, next.now))
	require.InDelta(t, b.cost.Stats().Rates.Denoise, next.cost.Stats().Rates.Denoise, 1e-9)
}

// Where all other endpoints have long batches to embed, another one goes behind one of these: what is short does not wait.
func TestLongBatchesLeaveRoomForShortOnes(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{FixedRates: true}, unreadAll("a", "b", "c")...)
	embed := func(items int) *types.Request {
		req := prompt("", 100*items)
		req.Stream, req.Work = false, types.Work{Kind: types.Pools, Items: items}
		return req
	}
	short := func() *scheduling.Decision {
		d := b.schedule(embed(1))
		b.pass(20 * time.Millisecond)
		d.Done(types.Outcome{Status: 200})
		return d
	}
	for range 100 {
		short()
	}
	first, second := b.schedule(embed(1000)), b.schedule(embed(1000))
	require.NotEqual(t, first.Endpoint.ID, second.Endpoint.ID)
	third := b.schedule(embed(1000))
	require.Contains(t, []string{first.Endpoint.ID, second.Endpoint.ID}, third.Endpoint.ID)
	for range 5 {
		require.NotContains(t, []string{first.Endpoint.ID, second.Endpoint.ID}, short().Endpoint.ID)
	}
}

// Neither embeddings nor pictures change what is expected of answers, and a text of which it is known how long it
// will be is expected to be that.
func TestWorkIsLearnedApart(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a")...)
	text := prompt("x", 100)
	before := b.cost.ExpectedOutput(prompt("x", 100))
	for range 50 {
		embed := prompt("x", 100)
		embed.Stream, embed.Work = false, types.Work{Kind: types.Pools, Items: 3}
		for _, req := range []*types.Request{embed, denoise(10, 100)} {
			d := b.schedule(req)
			b.pass(10 * time.Millisecond)
			d.Done(types.Outcome{Status: 200, Usage: types.Usage{PromptTokens: types.Known(100.), CompletionTokens: types.Known(1.)}})
		}
		speech := prompt("x", 100)
		speech.Work.Output = 1000
		b.serve(b.schedule(speech), 50*time.Millisecond, time.Millisecond, 500, 0)
	}
	require.Equal(t, before, b.cost.ExpectedOutput(text))
	speech := prompt("y", 100)
	speech.Work.Output = 200
	require.InDelta(t, 100, b.cost.ExpectedOutput(speech), 15, "half of what goes in lets expect")
	embed := prompt("x", 100)
	embed.Work.Kind = types.Pools
	require.Zero(t, b.cost.ExpectedOutput(embed))
	require.Zero(t, b.cost.CachedTokens(embed, b.eps[0]))
}

// How large pictures are of which no size is known is learned from how many tokens prompts turn out to have; not from those
// that are mostly text, whose tokens are not counted exactly.
func TestSizesThatAreNotSaid(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b")...)
	ask := func() *types.Request {
		req := pictures("what is this?", 1024)
		req.Prompt.Media[0].Guessed, req.Prompt.Media[0].Key = true, 0
		return req
	}
	serve := func(req *types.Request, prompt int) {
		d := b.schedule(req)
		b.pass(time.Second)
		d.FirstToken()
		d.Done(types.Outcome{Status: 200, Usage: types.Usage{PromptTokens: types.Known(float64(prompt))}})
	}
	long := ask()
	long.Prompt.Tokens = 50_000
	for range 50 {
		serve(long, 80_000)
		long = ask()
		long.Prompt.Tokens = 50_000
	}
	ex, err := b.s.Explain(ctx, ask(), b.eps)
	require.NoError(t, err)
	require.Contains(t, ex.String(), "1 image of 1024 tokens, 1 of unknown size")
	for range 200 {
		req := ask()
		serve(req, req.Prompt.Tokens+3*1024)
	}
	ex, err = b.s.Explain(ctx, ask(), b.eps)
	require.NoError(t, err)
	require.Regexp(t, `1 image of (39|40)\d\d tokens, 1 of unknown size`, ex.String())
}

// What is only fetched goes anywhere, and a burst of it not all to one server, however busy the others are.
func TestFetchesSpread(t *testing.T) {
	b := newCostBench(t, plugins.CostOptions{}, unreadAll("a", "b", "c")...)
	b.schedule(prompt("x", 8000))
	went := map[string]int{}
	for range 60 {
		req := &types.Request{Work: types.Work{Kind: types.Fetches}}
		req.Prompt.Spans = []types.Span{}
		d := b.schedule(req)
		went[d.Endpoint.ID]++
	}
	require.Len(t, went, 3)
	for id, n := range went {
		require.Greater(t, n, 5, id)
	}
}
