package residency

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/inferpick/inferpick/internal/prefixindex"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

func newTest() *Index {
	return New(Options{BlockBytes: blockBytes, MaxBlocks: 1 << 20, MaxIdle: 1 << 16, MaxSessions: 1 << 10})
}

// workload draws prompts: many share one of a few beginnings, some go on with a conversation.
type workload struct {
	*rand.Rand
	systems []string
	talks   []string
}

func newWorkload(seed uint64) *workload {
	w := &workload{Rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range 12 {
		text := prose(w.Rand, 2000+w.IntN(6000))
		if i%3 == 1 {
			text = code(w.Rand, 2000+w.IntN(4000))
		}
		w.systems = append(w.systems, text)
	}
	return w
}

func (w *workload) prompt() string {
	if len(w.talks) > 20 && w.IntN(2) == 0 {
		return w.talks[w.IntN(len(w.talks))] + prose(w.Rand, 100+w.IntN(800))
	}
	text := w.systems[int(float64(len(w.systems))*w.Float64()*w.Float64())]
	if w.IntN(3) == 0 {
		return text + code(w.Rand, 300+w.IntN(3000))
	}
	return text + prose(w.Rand, 300+w.IntN(3000))
}

func (w *workload) answered(prompt, answer string) {
	if w.talks = append(w.talks, prompt+answer); len(w.talks) > 40 {
		w.talks = w.talks[1:]
	}
}

// play lets servers serve requests, told of by events, and returns by how many blocks of prompts the
// view was wrong about what the next prompt has cached, at each server. Without usage no response tells
// how many tokens a prompt had.
func play(t *testing.T, x *Index, seeds []uint64, room, requests int, late int, usage bool) (wrong []float64) {
	w, v := newWorkload(7), newView()
	var engines []*engine
	var ranks []*Rank
	for i, seed := range seeds {
		engines = append(engines, newEngine(seed, room))
		ranks = append(ranks, x.Add(uint32(i)))
	}
	type told struct {
		at     int
		events []types.KVEvent
	}
	var waiting []told
	tell := func() {
		for _, ev := range waiting[0].events { // each is of a step of its own
			x.Apply(ranks[waiting[0].at], []types.KVEvent{ev}, v.apply)
		}
		waiting = waiting[1:]
	}
	for n := range requests {
		prompt, answer := w.prompt(), prose(w.Rand, w.IntN(600))
		w.answered(prompt, "")
		hashes := textHashes(prompt)
		if n > requests/2 {
			for i, e := range engines {
				_, bytes := e.cached(prompt)
				wrong = append(wrong, float64(v.matched(uint32(i), hashes))-float64(bytes)/blockBytes)
			}
		}
		at, session := w.IntN(len(engines)), fmt.Sprint("r", n)
		x.Expect(session, uint32(at))
		_, count, events := engines[at].serve(prompt, answer, session)
		if !usage {
			count = 0
		}
		waiting = append(waiting, told{at, events})
		for len(waiting) > late {
			tell()
		}
		x.Bind(session, Prompt{Hashes: hashes, Bytes: len(prompt), Tokens: count}, v.apply)
	}
	for len(waiting) > 0 {
		tell()
	}
	return wrong
}

// share is the part of values within limits.
func share(values []float64, low, high float64) float64 {
	n := 0
	for _, v := range values {
		if v >= low && v <= high {
			n++
		}
	}
	return float64(n) / float64(len(values))
}

func TestBindingIsRight(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	tests := []struct {
		name  string
		seeds []uint64
		late  int
		usage bool
		close float64
	}{
		{"engines that hash alike", []uint64{1, 1, 1}, 0, true, .97},
		{"each hashes its own way", []uint64{1, 2, 3}, 0, true, .97},
		{"events come after the answer", []uint64{1, 1, 1}, 5, true, .9},
		{"responses have no usage", []uint64{1, 1, 1}, 0, false, .97},
		{"nor that before the events", []uint64{1, 1, 1}, 5, false, .9},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wrong := play(t, newTest(), tt.seeds, 3000, 900, tt.late, tt.usage)
			t.Logf("within 1.5 blocks: %.3f, within 4: %.3f", share(wrong, -1.5, 1.5), share(wrong, -4, 4))
			for _, q := range []float64{-50, -20, -8, -4, -2, -1.5, 1.5, 2, 4, 8, 20, 50} {
				t.Logf("%v: %.4f", q, share(wrong, -1e9, q))
			}
			require.Greater(t, share(wrong, -1.5, 1.5), tt.close)
		})
	}
}

// A block of text may be complete only with a block of the engine in which prompts part already, so that
// each has its own. That one prompt's is dropped says nothing of the others.
func TestOneOfManyIsDropped(t *testing.T) {
	const short = 64 // bytes: a block of the engine has 192
	hash := func(text string) []uint64 {
		h := prefixindex.NewHasher(short, 1)
		return h.Append(nil, []byte(text))
	}
	letters := func(r *rand.Rand, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = 'a' + byte(r.IntN(26))
		}
		return string(b)
	}
	for shared := 1200; shared < 1392; shared += 12 { // all places in a block of the engine
		r := rand.New(rand.NewPCG(uint64(shared), 1))
		x := New(Options{BlockBytes: short, MaxBlocks: 1 << 20, MaxIdle: 1 << 16, MaxSessions: 1 << 10})
		v, e, rank := newView(), newEngine(1, 1<<20), x.Add(0)
		system := letters(r, shared)
		talks := []string{system + letters(r, 3000), system + letters(r, 3000), system + letters(r, 3000)}
		for i, talk := range talks {
			session := fmt.Sprint("r", i)
			x.Expect(session, 0)
			_, count, events := e.serve(talk, "", session)
			x.Apply(rank, events, v.apply)
			x.Bind(session, Prompt{Hashes: hash(talk), Bytes: len(talk), Tokens: count}, v.apply)
		}
		first, _, _ := e.hashes(talks[0])
		second, _, _ := e.hashes(talks[1])
		common := 0
		for first[common] == second[common] {
			common++
		}
		for i := len(first) - 1; i >= common; i-- {
			x.Apply(rank, []types.KVEvent{{Kind: types.KVRemoved, Hashes: first[i : i+1], Full: true}}, v.apply)
		}
		for i, talk := range talks {
			held, hashes := v.matched(0, hash(talk)), hash(talk)
			if i == 0 {
				require.InDelta(t, shared/short, held, 3, "%d bytes shared", shared)
			} else {
				require.GreaterOrEqual(t, held, len(hashes)-3, "%d bytes shared, talk %d", shared, i)
			}
		}
	}
}
