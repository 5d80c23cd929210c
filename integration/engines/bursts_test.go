package engines_test

import (
	"fmt"
	"math"
	"testing"
)

const (
	bursts    = 10
	burstSize = 40
	// fairShare is how much more than its share of a burst a server may get: one that is
	// as fast as the others, of requests that are alike.
	fairShare = 1.3
)

// Requests that come at once are spread over servers that are alike, in every burst: not
// the first alone, and whatever the answers teach in between.
func TestBursts(t *testing.T) {
	all := several(t, 2)
	for _, kind := range []struct {
		name   string
		stream func(i int) bool
	}{
		{"unstreamed", func(int) bool { return false }},
		{"streamed", func(int) bool { return true }},
		{"mixed", func(i int) bool { return i%2 == 0 }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			quiet(t, all)
			g := before(t, all)
			most := int(math.Floor(fairShare * burstSize / float64(len(all))))
			for b := range bursts {
				var questions []question
				for i := range burstSize {
					questions = append(questions, question{
						prompt: fmt.Sprintf("%s %d of burst %d: tell me about ships and the sea.", kind.name, i, b),
						tokens: 6 + (7*i)%16, stream: kind.stream(i),
					})
				}
				answers := askAll(g.URL, questions, burstSize)
				allGood(t, answers)
				shares := count(answers)
				t.Logf("burst %d: %v", b, shares)
				for server, n := range shares {
					if n > most {
						t.Errorf("burst %d: %s got %d of %d, want at most %d", b, server, n, burstSize, most)
					}
				}
			}
		})
	}
}
