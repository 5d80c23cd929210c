package policies_test

import (
	"testing"
	"time"

	"github.com/inferpick/inferpick/examples/simulator/policies"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func work(t *testing.T, name string) simulation.Policy {
	t.Helper()
	chosen, err := policies.ByName(name)
	require.NoError(t, err)
	return chosen[0]
}

// What default-blind sees of a request is what was seen before media and work were known.
func TestBlindSeesText(t *testing.T) {
	see := work(t, "default-blind").Sees
	r := &types.Request{Work: types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: 3, Latents: 4}}, Prompt: types.Prompt{
		Tokens: 5000, Images: 2, Audio: 1, Media: []types.Media{{Kind: types.Image, Tokens: 4000}, {Kind: types.Image, Tokens: 300}, {Kind: types.Audio, Tokens: 200}},
	}}
	see(r)
	require.Equal(t, 500+2*768+512, r.Prompt.Tokens)
	require.Nil(t, r.Prompt.Media)
	require.Equal(t, types.Work{}, r.Work)
}

func denoise(passes, latents float64) *types.Request {
	r := schedulingtest.Request("a cat")
	r.Work = types.Work{Kind: types.Denoises, Denoise: types.Denoise{Passes: passes, Latents: latents}}
	return r
}

// llmd-diffusion follows the work outstanding, whatever the number of requests.
func TestLLMDDiffusion(t *testing.T) {
	c := newClock()
	s := start(t, policies.LLMDDiffusion(), c)
	eps := idle(c, 3)
	big := send(t, s, denoise(100, 9216), eps[0])
	send(t, s, denoise(50, 1024), eps[1])
	send(t, s, denoise(50, 1024), eps[1])
	require.Equal(t, "c>b>a", order(t, s, denoise(1, 1), eps))
	require.Equal(t, "102400 latents", detail(t, s, denoise(1, 1), eps, 1))
	big.Done(types.Outcome{Status: 200})
	require.Equal(t, "a=c>b", order(t, s, denoise(1, 1), eps))
	unknown := send(t, s, denoise(0, 0), eps[2])
	require.Equal(t, "409600 latents", detail(t, s, denoise(1, 1), eps, 2), "of a usual size")
	unknown.Done(types.Outcome{Cancelled: true})
	require.Equal(t, "a=c>b", order(t, s, denoise(1, 1), eps))
}

// classic+media goes to where the pictures were sent, if nothing else differs.
func TestClassicMedia(t *testing.T) {
	c := newClock()
	s := start(t, policies.ClassicMedia(), c)
	eps := idle(c, 3)
	shows := func(keys ...uint64) *types.Request {
		r := schedulingtest.Request("what is it?")
		for _, k := range keys {
			r.Prompt.Media = append(r.Prompt.Media, types.Media{Kind: types.Image, Key: k, Tokens: 700})
		}
		return r
	}
	serve(t, s, shows(1, 2), eps[1])
	require.Equal(t, "b>a=c", order(t, s, shows(1), eps))
	require.Equal(t, "50 % of the media", detail(t, s, shows(2, 3), eps, 1))
	require.Equal(t, "a=b=c", order(t, s, shows(3), eps))
	require.Equal(t, "a=b=c", order(t, s, shows(0), eps), "what is like no other")
	for k := range uint64(2048) {
		serve(t, s, shows(100+k), eps[1])
	}
	require.Equal(t, "a=b=c", order(t, s, shows(1), eps), "it keeps no more than 2048")
	s.Forget(eps[1])
	require.Equal(t, "a=b=c", order(t, s, shows(100), eps))
}

// By how much knowing of media and work is to be better, or at least not worse, than others: the mean over seeds that nothing
// was tuned on of a figure of the default over that of a rival.
func TestWork(t *testing.T) {
	if testing.Short() {
		t.Skip("many simulated runs")
	}
	if raceEnabled {
		t.Skip("the figures are the same with the race detector, and take ten times as long")
	}
	vision := simulation.Uniform(6, engine.Config{Calibration: engine.Qwen2VLH100()})
	pictures, films := simulation.Fleet{}, simulation.Fleet{}
	for range 4 {
		pictures.Replicas = append(pictures.Replicas, simulation.Replica{Diffusion: &engine.DiffusionConfig{}})
		films.Replicas = append(films.Replicas, simulation.Replica{Diffusion: &engine.DiffusionConfig{Denoiser: engine.Wan22A800()}})
	}
	ttft90 := func(r *simulation.Report) float64 { return r.TTFT.P90 }
	ttft99 := func(r *simulation.Report) float64 { return r.TTFT.P99 }
	whole99 := func(r *simulation.Report) float64 { return r.Latency.P99 }
	photo := simulation.Length{Kind: simulation.LengthLogNormal, Median: 40, Sigma: .8}
	tests := []struct {
		name, rival string
		config      simulation.Config
		figure      func(*simulation.Report) float64
		most        float64
	}{
		{"photos", "default-blind", simulation.Config{Fleet: vision, Workload: simulation.ImageChat{Rate: 8, Turns: -1, MaxPixels: 12_845_056, Output: photo}}, ttft90, 1 / 1.3},
		{"photos", "default-blind", simulation.Config{Fleet: vision, Workload: simulation.ImageChat{Rate: 8, Turns: -1, MaxPixels: 12_845_056, Output: photo}}, ttft99, 1 / 1.2},
		{"chats with photos", "default-blind", simulation.Config{Fleet: vision, Workload: simulation.ImageChat{Rate: 3, MaxPixels: 12_845_056}}, ttft90, 1 / 1.2},
		{"small pictures", "default-blind", simulation.Config{Fleet: vision, Workload: simulation.ImageChat{Rate: 8}}, ttft90, 1},
		{"transcription", "default-blind", simulation.Config{Fleet: simulation.Uniform(6, engine.Config{Calibration: engine.Qwen2AudioH100()}), Workload: simulation.Transcription{Rate: 20}}, ttft90, 1},
		{"diffusion", "least-req", simulation.Config{Fleet: pictures, Workload: simulation.Diffusion{Rate: .27, Pictures: []simulation.Choice{{Value: 1}}}}, whole99, 1 / 1.15},
		{"films", "least-req", simulation.Config{Fleet: films, Workload: simulation.Video{Rate: .13}}, whole99, 1 / 1.15},
		{"embeddings", "least-req", simulation.Config{Fleet: simulation.Uniform(6, engine.Config{}), Workload: simulation.Embeddings{Rate: 20}}, whole99, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.config
			c.Duration, c.Warmup = 90*time.Second, 20*time.Second
			if len(c.Fleet.Replicas) == 4 {
				c.Duration, c.Warmup, c.Scrape.Period = time.Hour, 6*time.Minute, time.Second
			}
			ours, theirs := 0., 0.
			for seed := range uint64(3) {
				c.Seed = 601 + seed
				for _, name := range []string{"default", tt.rival} {
					c.Policy = work(t, name)
					r, err := simulation.Run(ctx, c)
					require.NoError(t, err)
					require.Equal(t, r.Arrived, r.Completed)
					if name == "default" {
						ours += tt.figure(r) / 3
					} else {
						theirs += tt.figure(r) / 3
					}
				}
			}
			t.Logf("%.3f s, %s %.3f s: %.3f times", ours, tt.rival, theirs, ours/theirs)
			require.LessOrEqual(t, ours/theirs, tt.most)
		})
	}
}
