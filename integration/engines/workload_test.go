package engines_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
)

// talk is a conversation: a system prompt that others may share, and what the user says in
// turn. The assistant's part is what the engine answers.
type talk struct {
	model  string
	system string
	turns  []string
}

// step is one turn of a talk.
type step struct{ talk, turn int }

// workload is what is asked for, in order. It depends on the seed alone.
type workload struct {
	talks []talk
	steps []step
}

// mix says of what a workload is made.
type mix struct {
	tenants, questions int // system prompts, drawn by Zipf, with a question each time
	chats, turns       int
	words              int // of a system prompt, 0.5 to 1.5 times that
	adapter            string
	seed               uint64
}

// make returns the workload, its turns in random order as far as talks allow.
func (m mix) make() workload {
	r := rand.New(rand.NewPCG(m.seed, 1))
	var w workload
	systems := make([]string, m.tenants)
	for i := range systems {
		systems[i] = fmt.Sprintf("You are assistant number %d. ", i) + prose(r, m.words/2+r.IntN(m.words))
	}
	for i := range m.questions {
		tk := talk{system: systems[zipf(r, m.tenants)], turns: []string{prose(r, 5+r.IntN(60))}}
		if m.adapter != "" && i%8 == 0 {
			tk.model = m.adapter
		}
		w.talks = append(w.talks, tk)
	}
	for i := range m.chats {
		tk := talk{system: "You are the assistant of chats. " + prose(rand.New(rand.NewPCG(m.seed, 2)), 60)}
		for j := range m.turns {
			tk.turns = append(tk.turns, fmt.Sprintf("%d.%d: ", i, j)+prose(r, 30+r.IntN(150)))
		}
		w.talks = append(w.talks, tk)
	}
	next := make([]int, len(w.talks))
	for i, tk := range w.talks {
		for range tk.turns {
			w.steps = append(w.steps, step{talk: i})
		}
	}
	r.Shuffle(len(w.steps), func(i, j int) { w.steps[i], w.steps[j] = w.steps[j], w.steps[i] })
	for i, s := range w.steps {
		w.steps[i].turn = next[s.talk]
		next[s.talk]++
	}
	return w
}

// zipf draws one of n, the k-th with a probability as 1/k.
func zipf(r *rand.Rand, n int) int {
	sum := 0.
	for k := range n {
		sum += 1 / float64(k+1)
	}
	at := r.Float64() * sum
	for k := range n {
		if at -= 1 / float64(k+1); at < 0 {
			return k
		}
	}
	return n - 1
}

var lexicon = strings.Fields("the a server cache block engine prompt token request answer gateway pool model ship harbour sea ledger " +
	"window is are was holds drops sends takes reads writes counts waits of in on at with without before after under over " +
	"and or but because while early late small large quiet busy cold warm first last next every other same new old " +
	"7 12 300 4096 budget weather garden orchestra mountain river tomorrow yesterday electricity philosophy 東京 größer naïve")

// prose is so many words, and now and then a full stop.
func prose(r *rand.Rand, words int) string {
	var b strings.Builder
	for i := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		// Words near the front are more frequent, as in a language.
		b.WriteString(lexicon[int(float64(len(lexicon))*math.Pow(r.Float64(), 1.7))])
		if r.IntN(12) == 0 {
			b.WriteByte('.')
		}
	}
	return b.String()
}

// run asks for all steps, so many at once, and returns the answers in the order of the
// steps. A turn is asked for once the one before it is answered. Gateways take turns. The
// ids of requests are name and the number of the step.
func (w workload) run(name string, atOnce int, urls ...string) []answer {
	answers := make([]answer, len(w.steps))
	said := make([][]message, len(w.talks)) // guarded by turns
	turns := make([][]chan struct{}, len(w.talks))
	for i, tk := range w.talks {
		said[i] = []message{{"system", tk.system}}
		for range tk.turns {
			turns[i] = append(turns[i], make(chan struct{}))
		}
	}
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for i, s := range w.steps {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			defer close(turns[s.talk][s.turn])
			if s.turn > 0 {
				<-turns[s.talk][s.turn-1]
			}
			tk := w.talks[s.talk]
			said[s.talk] = append(said[s.talk], message{"user", tk.turns[s.turn]})
			answers[i] = ask(context.Background(), urls[i%len(urls)], question{
				id: requestID(name, i), model: tk.model, messages: said[s.talk], tokens: 4 + i%13,
			})
			said[s.talk] = append(said[s.talk], message{"assistant", answers[i].words()})
		})
	}
	all.Wait()
	return answers
}

func requestID(name string, step int) string { return fmt.Sprintf("%s-%d", name, step) }
