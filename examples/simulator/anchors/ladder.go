package anchors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/inferpick/inferpick/scheduling/simulation"
	"github.com/inferpick/inferpick/scheduling/simulation/engine"
)

// stage is one step of a ladder: Poisson arrivals at a rate for some seconds.
type stage struct{ rate, seconds float64 }

func (s stage) jobs() int { return int(s.rate * s.seconds) }

// ladder is a workload of llm-d's benchmarks: groups that share a system prompt, a
// few fixed questions in each, asked in a shuffled order over and over, in stages.
// The client begins a stage when all requests of the one before have ended; here,
// stages are so far apart that they have. The first stage seats the prompts and
// does not count.
type ladder struct {
	groups, questions       int
	system, question, reply int
	stages                  []stage
	pause                   time.Duration // between the end of a stage's arrivals and the next stage

	log *ladderLog // what a run of it noted; each run needs a ladder of its own
}

// ladderLog is what became of each stage.
type ladderLog struct {
	tokens      []int
	first, last []time.Duration // arrival of the first request, end of the last
	late        bool            // a stage began before the one before had drained
}

// begin is when stage i begins.
func (l *ladder) begin(i int) time.Duration {
	at := time.Duration(0)
	for _, s := range l.stages[:i] {
		at += time.Duration(s.seconds*float64(time.Second)) + l.pause
	}
	return at
}

// jobs is how many requests the ladder has.
func (l *ladder) jobs() int {
	n := 0
	for _, s := range l.stages {
		n += s.jobs()
	}
	return n
}

// outputRate is the mean over the stages of the output tokens per second from a
// stage's first arrival to its last end, as llm-d reports it.
func (l *ladder) outputRate() float64 {
	sum := 0.0
	for i := 1; i < len(l.stages); i++ {
		sum += float64(l.log.tokens[i]) / (l.log.last[i] - l.log.first[i]).Seconds()
	}
	return sum / float64(len(l.stages)-1)
}

// Validate implements simulation.Spec.
func (l *ladder) Validate() error {
	if l.groups < 1 || l.questions < 1 || len(l.stages) < 2 {
		return fmt.Errorf("a ladder of %d groups, %d questions and %d stages", l.groups, l.questions, len(l.stages))
	}
	return nil
}

// Start implements simulation.Spec.
func (l *ladder) Start(seed uint64) simulation.Source {
	rng := rand.New(rand.NewPCG(seed, 0x6c6164646572))
	n := len(l.stages)
	*l.log = ladderLog{
		tokens: make([]int, n), first: make([]time.Duration, n), last: make([]time.Duration, n),
	}
	return &ladderSource{ladder: l, rng: rng, prompts: rng.Perm(l.groups * l.questions)}
}

type ladderSource struct {
	*ladder
	rng     *rand.Rand
	prompts []int
	asked   int
	stage   int
	in      int     // jobs of the stage so far
	at      float64 // seconds since the stage began
}

// Next implements simulation.Source.
func (s *ladderSource) Next() (simulation.Job, bool) {
	if s.stage < len(s.stages) && s.in == s.stages[s.stage].jobs() {
		s.stage, s.in, s.at = s.stage+1, 0, 0
	}
	if s.stage == len(s.stages) {
		return simulation.Job{}, false
	}
	s.at += s.rng.ExpFloat64() / s.stages[s.stage].rate
	at := s.begin(s.stage) + time.Duration(s.at*float64(time.Second))
	if s.in == 0 {
		s.log.first[s.stage] = at
	}
	s.in++
	prompt := s.prompts[s.asked%len(s.prompts)]
	s.asked++
	return simulation.Job{
		Arrival: at,
		Content: []simulation.Segment{
			{ID: uint64(prompt/s.questions) + 1, Tokens: s.system},
			{ID: 1<<32 + uint64(prompt), Tokens: s.question},
		},
		Output: s.reply,
		Tag:    s.stage,
	}, true
}

// Done implements simulation.Source.
func (s *ladderSource) Done(j *simulation.Job, at time.Duration, _ bool) (simulation.Job, bool) {
	i := j.Tag.(int)
	s.log.tokens[i] += j.Output
	s.log.last[i] = max(s.log.last[i], at)
	s.log.late = s.log.late || i+1 < len(s.stages) && at > s.begin(i+1)
	return simulation.Job{}, false
}

// qwenLadder is llm-d's 73-capacity.
func qwenLadder() ladder {
	return ladder{
		groups: 150, questions: 5, system: 6000, question: 1200, reply: 1000,
		stages: []stage{
			{15, 50},
			{3, 20}, {10, 20}, {15, 20}, {20, 38}, {22, 34}, {25, 30}, {30, 25}, {35, 21},
			{40, 38}, {43, 36}, {46, 33}, {49, 30}, {52, 29}, {55, 27}, {57, 26}, {60, 25},
		},
		pause: 10 * time.Minute,
	}
}

// llamaLadder is llm-d's 37-capacity.
func llamaLadder() ladder {
	return ladder{
		groups: 83, questions: 3, system: 8000, question: 1000, reply: 1000,
		stages: []stage{
			{10, 25},
			{3, 210}, {4, 180}, {5, 120}, {6, 120}, {8, 90}, {10, 70}, {12, 60}, {15, 50}, {20, 50},
		},
		pause: 15 * time.Minute,
	}
}

// ladderTasks plays the ladders.
func ladderTasks(o Options, a arms) []task {
	llama := engine.Llama70H100x4()
	llama.Blocks = 461_376 / engine.BlockTokens // published
	type arm struct {
		name   string
		policy simulation.Policy
	}
	var tasks []task
	for _, l := range []struct {
		key    string
		ladder func() ladder
		fleet  simulation.Fleet
		arms   []arm
	}{
		{"ladder", qwenLadder, simulation.Uniform(8, quiet(engine.Qwen3H100x2())), []arm{{"random", a.random}, {"load", a.load}, {"precise", a.precise}}},
		{"37", llamaLadder, simulation.Uniform(4, quiet(llama)), []arm{{"random", a.random}, {"precise", a.precise}}},
	} {
		for _, arm := range l.arms {
			for seed := range o.seeds(3) {
				tasks = append(tasks, ladderTask(o, l.key+"/"+arm.name+"/", l.ladder(), l.fleet, arm.policy, uint64(seed)+1))
			}
		}
	}
	return tasks
}

func ladderTask(o Options, key string, l ladder, fleet simulation.Fleet, policy simulation.Policy, seed uint64) task {
	if o.Short {
		l.stages = l.stages[:3]
	}
	l.log = new(ladderLog)
	c := simulation.Config{
		Fleet: fleet, Workload: &l, Policy: policy,
		Duration: l.begin(len(l.stages)), Warmup: l.begin(1), Seed: seed,
	}
	return task{
		name: fmt.Sprintf("ladder of %d prompts, %s, seed %d", l.groups*l.questions, policy.Name, seed), weight: float64(l.jobs()) * ladderCost,
		run: func(ctx context.Context, part func(float64)) (figures, error) {
			r, err := play(ctx, c, part)
			if err != nil {
				return nil, err
			}
			if l.log.late {
				return nil, fmt.Errorf("a stage began before the one before it had drained")
			}
			return figures{key + "tokens": l.outputRate(), key + "ttft": r.TTFT.Mean, key + "ttft90": r.TTFT.P90}, nil
		},
	}
}
