package simulation_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// seeing is a policy that keeps what it sees.
func seeing(all *[]types.Request) simulation.Policy {
	return simulation.Policy{Name: "seeing", Profile: func() scheduling.Profile {
		return scheduling.Profile{Picker: scheduling.PickerFunc(
			func(_ context.Context, req *types.Request, eps []*types.Endpoint, _ []float64) (int, error) {
				one := *req
				one.Body = append([]byte(nil), req.Body...)
				one.Prompt.Media = append([]types.Media(nil), req.Prompt.Media...)
				*all = append(*all, one)
				return 0, nil
			})}
	}}
}

func vision() engine.Config { return engine.Config{Calibration: engine.Qwen2VLH100()} }

func TestWhatPoliciesSeeOfMedia(t *testing.T) {
	var seen []types.Request
	job := simulation.Job{
		Content: []simulation.Segment{{ID: 1, Tokens: 100}, {ID: 2, Tokens: 1600}, {ID: 3, Tokens: 40}, {ID: 4, Tokens: 900}, {ID: 5, Tokens: 750}, {ID: 2, Tokens: 30}},
		Media: []simulation.Media{
			{ID: 2, Kind: types.Image, Width: 1120, Height: 1120},
			{ID: 4, Kind: types.Image, Width: 840, Height: 840, Address: true},
			{ID: 5, Kind: types.Audio, Seconds: 30},
		},
		Output: 2,
	}
	c := simulation.Config{Fleet: simulation.Uniform(1, vision()), Workload: script{jobs: []simulation.Job{job}}, Policy: seeing(&seen), Duration: time.Minute}
	r, err := simulation.Run(context.Background(), c)
	require.NoError(t, err)
	require.Equal(t, 1, r.Completed)
	require.InDelta(t, 1, r.Encoded, 1e-9)
	p := seen[0].Prompt
	require.Equal(t, 100+1600+40+768+750+30, p.Tokens)
	require.Equal(t, [3]int{2, 1, 0}, [3]int{p.Images, p.Audio, p.Other})
	require.Equal(t, len(seen[0].Body), p.Bytes)
	want := []types.Media{
		{Kind: types.Image, Span: types.Span{Start: 400, End: 6800}, Key: 2, Width: 1120, Height: 1120, Tokens: 1600},
		{Kind: types.Image, Span: types.Span{Start: 6960, End: 7056}, Key: 4, Tokens: 768, Guessed: true},
		{Kind: types.Audio, Span: types.Span{Start: 7056, End: 10056}, Key: 5, Seconds: 30, Tokens: 750},
	}
	require.Empty(t, cmp.Diff(want, p.Media))

	c.Policy.Sees = func(r *types.Request) { r.Prompt.Media, r.Prompt.Tokens = nil, 7 }
	_, err = simulation.Run(context.Background(), c)
	require.NoError(t, err)
	require.Equal(t, 7, seen[1].Prompt.Tokens)
	require.Empty(t, seen[1].Prompt.Media)
}

// Work without first tokens is in Latency alone.
func TestWorkOfAllKinds(t *testing.T) {
	diffusion := simulation.Fleet{Replicas: []simulation.Replica{{Diffusion: &engine.DiffusionConfig{}}, {Diffusion: &engine.DiffusionConfig{Silent: true}}}}
	tests := []struct {
		name     string
		fleet    simulation.Fleet
		workload simulation.Spec
		whole    bool
		kind     types.WorkKind
	}{
		{"images", simulation.Uniform(2, vision()), simulation.ImageChat{Rate: 1}, false, types.Generates},
		{"sound", simulation.Uniform(2, engine.Config{Calibration: engine.Qwen2AudioH100()}), simulation.Transcription{Rate: 2}, false, types.Generates},
		{"pictures", diffusion, simulation.Diffusion{Rate: .05, Unsized: .5}, true, types.Denoises},
		{"films", diffusion, simulation.Video{Rate: .03}, true, types.Denoises},
		{"embeddings", simulation.Uniform(2, engine.Config{}), simulation.Embeddings{Rate: 3}, true, types.Pools},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var seen []types.Request
			c := simulation.Config{Fleet: tt.fleet, Workload: tt.workload, Policy: seeing(&seen), Duration: 2 * time.Minute, Seed: 3}
			r, err := simulation.Run(context.Background(), c)
			require.NoError(t, err)
			require.Positive(t, r.Completed)
			require.Equal(t, r.Arrived, r.Completed)
			require.Equal(t, tt.whole, r.Latency.Count > 0)
			require.Equal(t, tt.whole, r.ItemRate > 0)
			require.Equal(t, !tt.whole, r.TTFT.Count > 0)
			require.Equal(t, r.Completed, r.E2E.Count)
			unknown := 0
			for _, req := range seen {
				require.Equal(t, tt.kind, req.Work.Kind)
				if tt.kind == types.Denoises && !req.Work.Denoise.Known() {
					unknown++
				}
			}
			require.Equal(t, tt.name == "pictures", unknown > 0)
			again, err := simulation.Run(context.Background(), c)
			require.NoError(t, err)
			require.Equal(t, r, again)
		})
	}
}

func TestWorkThatNobodyDoes(t *testing.T) {
	var seen []types.Request
	denoise := types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: 1, Latents: 1}}
	text := []simulation.Segment{{ID: 1, Tokens: 9}}
	for _, tt := range []struct {
		name  string
		fleet simulation.Fleet
		job   simulation.Job
		want  string
	}{
		{"pictures of a text model", simulation.Uniform(1, vision()), simulation.Job{Content: text, Work: denoise}, "denoises, which no replica does"},
		{"text of a diffusion model", simulation.Fleet{Replicas: []simulation.Replica{{Diffusion: &engine.DiffusionConfig{}}}}, simulation.Job{Content: text, Output: 1}, "generates, which no replica does"},
		{"nothing to denoise", simulation.Uniform(1, vision()), simulation.Job{Content: text, Work: types.Work{Kind: types.Denoises}}, "to know what to denoise"},
		{"output of an embedding", simulation.Uniform(1, vision()), simulation.Job{Content: text, Output: 1, Work: types.Work{Kind: types.Pools}}, "no output"},
		{"a picture too large", simulation.Uniform(1, vision()), simulation.Job{Content: []simulation.Segment{{ID: 1, Tokens: 20_000}}, Media: []simulation.Media{{ID: 1, Kind: types.Image}}, Output: 1}, "the encoder of any replica"},
		{"a conversation", simulation.Uniform(1, vision()), simulation.Job{Content: text, Output: 1, Work: types.Work{Kind: types.Converses}}, "not simulated"},
	} {
		_, err := simulation.Run(context.Background(), simulation.Config{
			Fleet: tt.fleet, Workload: script{jobs: []simulation.Job{tt.job}}, Policy: seeing(&seen), Duration: time.Minute,
		})
		require.ErrorIs(t, err, simulation.ErrImpossible, tt.name)
		require.ErrorContains(t, err, tt.want, tt.name)
	}
	c := simulation.Config{Fleet: simulation.Fleet{Replicas: []simulation.Replica{{Role: "decode", Diffusion: &engine.DiffusionConfig{}}}}, Workload: simulation.Diffusion{}, Policy: seeing(&seen), Duration: time.Minute}
	require.ErrorContains(t, c.Validate(), `.Role is "decode"`)
}

// A replica that dies loses what it was at; faults and roles go with media.
func TestMediaAndDiffusionWithFaults(t *testing.T) {
	var seen []types.Request
	for _, c := range []simulation.Config{
		{Fleet: simulation.Fleet{Replicas: []simulation.Replica{{Diffusion: &engine.DiffusionConfig{Batch: 2}}, {Diffusion: &engine.DiffusionConfig{}}}}, Workload: simulation.Diffusion{Rate: .1}},
		{Fleet: simulation.Uniform(2, vision()), Workload: simulation.ImageChat{}},
	} {
		c.Policy, c.Duration = seeing(&seen), 2*time.Minute
		c.Faults = []simulation.Fault{{At: 30 * time.Second, Kind: simulation.Restart}, {At: 50 * time.Second, Kind: simulation.Hang, For: 5 * time.Second}}
		r, err := simulation.Run(context.Background(), c)
		require.NoError(t, err)
		require.Positive(t, r.Completed)
		require.Equal(t, r.Arrived, r.Completed+r.Failed)
	}
}

// What waits for longer than bookings last is still on the books.
func TestLongWaits(t *testing.T) {
	var seen []types.Request
	r, err := simulation.Run(context.Background(), simulation.Config{
		Fleet:    simulation.Fleet{Replicas: []simulation.Replica{{Diffusion: &engine.DiffusionConfig{}}}},
		Workload: simulation.Diffusion{Rate: .3}, Policy: seeing(&seen), Duration: time.Hour, Drain: time.Hour, Scrape: simulation.Scrape{Period: time.Second},
	})
	require.NoError(t, err)
	require.Positive(t, r.Unfinished)
	require.False(t, r.Steady)
}

// Sessions show pictures that vary by ten times in size, repeat some, and share popular ones.
func TestImageChat(t *testing.T) {
	photos := simulation.ImageChat{MaxPixels: 12_845_056, MinPixels: 12_000_000}.Start(1)
	for range 1000 {
		j, _ := photos.Next()
		require.LessOrEqual(t, j.Content[1].Tokens, 16_384)
	}
	src := simulation.ImageChat{Rate: 5, Addresses: .25}.Start(1)
	shown, sizes, addresses, turns, repeated, sessions := map[uint64]int{}, []int{}, 0, 0, 0, 2000
	for range sessions {
		j, ok := src.Next()
		require.True(t, ok)
		require.Len(t, j.Media, 1)
		in := map[uint64]bool{j.Media[0].ID: true}
		shown[j.Media[0].ID]++
		for {
			turns++
			next, ok := src.Done(&j, j.Arrival, true)
			if !ok {
				break
			}
			require.Equal(t, j.Content, next.Content[:len(j.Content)])
			require.Equal(t, j.Media, next.Media[:len(j.Media)])
			for _, m := range next.Media[len(j.Media):] {
				if in[m.ID] {
					repeated++
				} else {
					shown[m.ID]++
				}
				in[m.ID] = true
			}
			j = next
		}
		k := 0
		for _, s := range j.Content {
			if k < len(j.Media) && s.ID == j.Media[k].ID {
				sizes = append(sizes, s.Tokens)
				if j.Media[k].Address {
					addresses++
				}
				k++
			}
		}
		require.Equal(t, len(j.Media), k)
	}
	least, most, popular := sizes[0], sizes[0], 0
	for _, n := range sizes {
		least, most = min(least, n), max(most, n)
	}
	for _, n := range shown {
		if n > 1 {
			popular += n
		}
	}
	require.Less(t, least, 300)
	require.Greater(t, most, 3800)
	require.InDelta(t, 3.8, float64(turns)/float64(sessions), .3)
	require.InDelta(t, .25, float64(addresses)/float64(len(sizes)), .06)
	require.InDelta(t, .3, float64(popular)/float64(len(sizes)-repeated), .04)
	require.Greater(t, repeated, 200)
}
