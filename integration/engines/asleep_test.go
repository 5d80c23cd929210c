package engines_test

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// An engine that sleeps answers /health and its metrics and would keep requests for ever:
// it gets none, and is used again when it wakes.
func TestAsleep(t *testing.T) {
	all := several(t, 2)
	quiet(t, all)
	g := before(t, all)
	ctx := context.Background()
	s := all[0]
	t.Cleanup(func() {
		if err := s.Wake(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := s.Sleep(ctx); err != nil {
		t.Fatal(err)
	}
	slept := time.Now()
	if !within(t, 30*time.Second, "its metrics to say that it sleeps", func() bool {
		awake, err := s.Awake(ctx)
		return err == nil && !awake
	}) {
		return
	}
	// The gateway has read them, too, some times over.
	within(t, 10*time.Second, "a reading", func() bool {
		for _, ep := range g.endpoints() {
			if ep.Address == s.Address {
				return ep.Metrics.UpdatedAt.After(slept.Add(time.Second))
			}
		}
		return false
	})

	var questions []question
	for i := range 18 {
		questions = append(questions, question{id: fmt.Sprint("asleep", i), prompt: fmt.Sprintf("asleep %d: what is a ship?", i), tokens: 8, stream: i%2 == 0})
	}
	answered := make(chan []answer, 1)
	go func() { answered <- askAll(g.URL, questions, len(questions)) }()
	select {
	case answers := <-answered:
		allGood(t, answers)
		if n := count(answers)[s.Address]; n > 0 {
			t.Errorf("%d answers are of the server that slept", n)
		}
		t.Logf("while it slept: %v", count(answers))
	case <-time.After(time.Minute):
		t.Error("after a minute some requests hang: they were sent to the server that sleeps")
	}
	if got := metric(t, s, "vllm:num_requests_waiting"); got > 0 {
		t.Errorf("%g requests wait at the server that sleeps", got)
	}

	if err := s.Wake(ctx); err != nil {
		t.Fatal(err)
	}
	used := false
	for round := 0; round < 20 && !used; round++ {
		answers := askAll(g.URL, questions, len(questions))
		allGood(t, answers)
		used = count(answers)[s.Address] > 0
	}
	if !used {
		t.Error("it is awake and is not used")
	}
}
