package engines_test

import (
	"fmt"
	"sync"
	"testing"
)

// beyondLimit is how many requests come at once: more than the limited server's share of
// them is what it takes.
const beyondLimit = 72

// A server with a queue limit refuses what is beyond it, before or after a stream has
// begun. While others have room no client sees that.
func TestQueueLimit(t *testing.T) {
	all := several(t, 2)
	quiet(t, all)
	limits := make([]int, len(all))
	var probing sync.WaitGroup
	for i, s := range all {
		probing.Go(func() { limits[i] = taken(s.URL("")) })
	}
	probing.Wait()
	t.Logf("of %d at once the servers take %v", beyondLimit, limits)
	room, limited := 0, false
	for _, n := range limits {
		room += n
		limited = limited || n < beyondLimit/len(all)
	}
	if !limited {
		t.Skip("no server has a queue limit that so many requests reach")
	}
	n := min(beyondLimit, room-1)
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream=%t", stream), func(t *testing.T) {
			quiet(t, all)
			g := before(t, all)
			refusals := func() (n float64) {
				for _, s := range all {
					n += metric(t, s, "vllm:admission_rejections_total")
				}
				return n
			}
			was := refusals()
			for round := range 4 {
				var questions []question
				for i := range n {
					questions = append(questions, question{prompt: fmt.Sprintf("limit %t %d of %d: tell me of ships.", stream, i, round), tokens: 24, stream: stream})
				}
				answers := askAll(g.URL, questions, n)
				allGood(t, answers)
				t.Logf("round %d: %v", round, count(answers))
			}
			if got := refusals() - was; got == 0 {
				t.Error("the servers refused nothing: the test shows nothing")
			} else {
				t.Logf("the servers refused %g requests", got)
			}
			if out := g.filtered(t); len(out) > 0 {
				t.Errorf("servers are put out: %v", out)
			}
		})
	}
}

// taken is how many of many requests at once a server does not refuse. They are long, so
// that few end while others still come.
func taken(url string) (n int) {
	var questions []question
	for i := range beyondLimit {
		questions = append(questions, question{prompt: fmt.Sprintf("probe %d", i), tokens: 60})
	}
	for _, a := range askAll(url, questions, len(questions)) {
		if a.good() == nil {
			n++
		}
	}
	return n
}
