package engine_test

import (
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation/engine"
	"github.com/stretchr/testify/require"
)

func picture(side, passes float64) engine.Denoise {
	return engine.Denoise{Passes: passes, Latents: side / 16 * side / 16, Pixels: side * side}
}

// What was published of single jobs.
func TestDenoiserTimes(t *testing.T) {
	qwen, wan := engine.QwenImageH100(), engine.Wan22A800()
	require.InEpsilon(t, 5, qwen.Seconds(100, 1024, 512*512), .02)
	for frames, want := range map[float64]float64{17: 7.8, 49: 20.2, 81: 34.5} {
		got := wan.Seconds(100, 52*30*(1+(frames-1)/4), 832*480*frames)
		require.InEpsilon(t, want, got, .03, "%v frames", frames)
	}
	twice := qwen
	twice.Speed = 2
	require.InEpsilon(t, qwen.Seconds(50, 4096, 1e6)/2, twice.Seconds(50, 4096, 1e6), 1e-9)
}

type finished struct {
	id uint64
	at time.Duration
}

func denoise(t *testing.T, e *engine.Diffusion, now time.Duration) (all []finished) {
	for {
		s, ok := e.Step(now)
		require.NoError(t, e.Check())
		if !ok {
			return all
		}
		require.LessOrEqual(t, s.Duration, time.Second)
		now += s.Duration
		for _, ev := range s.Events {
			require.True(t, ev.First && ev.Last)
			all = append(all, finished{ev.ID, now})
		}
	}
}

func TestDiffusionOneAfterTheOther(t *testing.T) {
	e, err := engine.NewDiffusion(engine.DiffusionConfig{})
	require.NoError(t, err)
	d := e.Config().Denoiser
	want := time.Duration(0)
	for id, job := range []engine.Denoise{picture(1024, 40), picture(512, 100), picture(512, 100), picture(768, 7)} {
		require.NoError(t, e.Submit(uint64(id), job))
	}
	all := denoise(t, e, 0)
	for id, job := range []engine.Denoise{picture(1024, 40), picture(512, 100), picture(512, 100), picture(768, 7)} {
		want += time.Duration(d.Seconds(job.Passes, job.Latents, job.Pixels) * 1e9)
		require.EqualValues(t, id, all[id].id)
		require.InDelta(t, want.Seconds(), all[id].at.Seconds(), 1e-6)
	}
	require.EqualValues(t, 4, e.Metrics(time.Hour).Finished)
}

func TestDiffusionBatches(t *testing.T) {
	e, err := engine.NewDiffusion(engine.DiffusionConfig{Batch: 2, More: .5})
	require.NoError(t, err)
	d := e.Config().Denoiser
	for id, job := range []engine.Denoise{picture(512, 50), picture(1024, 50), picture(512, 50), picture(512, 50)} {
		require.NoError(t, e.Submit(uint64(id), job))
	}
	all := denoise(t, e, 0)
	pass := d.Seconds(1, 1024, 0)
	require.EqualValues(t, []uint64{0, 2, 1, 3}, []uint64{all[0].id, all[1].id, all[2].id, all[3].id})
	require.InDelta(t, 50*1.5*pass+d.Seconds(0, 0, 2*512*512), all[0].at.Seconds(), 1e-6)
	require.Equal(t, all[0].at, all[1].at)
}

func TestDiffusionCancelAndErrors(t *testing.T) {
	e, err := engine.NewDiffusion(engine.DiffusionConfig{})
	require.NoError(t, err)
	require.NoError(t, e.Submit(1, picture(1536, 100)))
	require.NoError(t, e.Submit(2, picture(512, 10)))
	require.ErrorIs(t, e.Submit(2, picture(512, 10)), engine.ErrInvalid)
	s, _ := e.Step(0)
	m := e.Metrics(s.Duration)
	require.Equal(t, [2]int{1, 1}, [2]int{m.Running, m.Waiting})
	require.True(t, e.Cancel(1))
	require.False(t, e.Cancel(1))
	all := denoise(t, e, s.Duration)
	require.Len(t, all, 1)
	require.Less(t, all[0].at, 3*time.Second, "the other begins at the next pass")

	for _, d := range []engine.Denoise{{}, {Passes: .5, Latents: 1}, {Passes: 1}, {Passes: 1, Latents: 1, Pixels: -1}, {Passes: 1e12, Latents: 1}} {
		require.ErrorIs(t, e.Submit(3, d), engine.ErrInvalid)
	}
	for _, c := range []engine.DiffusionConfig{
		{Batch: -1}, {Batch: 65}, {More: -1}, {More: 2}, {Denoiser: engine.Denoiser{Fixed: -1}}, {Denoiser: engine.Denoiser{Speed: -1}}, {Noise: engine.Noise{Spread: -1}},
	} {
		_, err := engine.NewDiffusion(c)
		require.Error(t, err, "%+v", c)
	}
}
