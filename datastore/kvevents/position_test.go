package kvevents

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPosition has scripts of what happens, a step a line: what, what is to be done, the state
// after it. A batch is number@time. "?" means that a replay can be made.
func TestPosition(t *testing.T) {
	for name, script := range map[string]string{
		"an engine that starts, without replay": `
			connect      - unsynced
			live 0@1     apply live
			live 1@2     apply live`,
		"joined late, without replay": `
			connect      - unsynced
			live 7@1     apply late
			live 8@2     apply late`,
		"joined late, with replay of everything": `
			connect?     replay unsynced
			begin        0 replaying
			replayed 0@1 apply replaying
			replayed 1@2 apply replaying
			end          - live
			live 1@2     - live
			live 2@3     apply live`,
		"joined late, and the start is kept no more": `
			connect?     replay unsynced
			begin        0 replaying
			replayed 5@1 apply replaying
			end          - late
			live 6@2     apply late`,
		"nothing published yet": `
			connect?     replay unsynced
			begin        0 replaying
			end          - live
			live? 0@1    apply live`,
		"what was published before the subscription held shows as a first number above 0": `
			connect?     replay unsynced
			begin        0 replaying
			end          - live
			live? 2@3    replay live
			begin        0 replaying
			replayed 0@1 apply replaying
			replayed 1@2 apply replaying
			replayed 2@3 apply replaying
			end          - live
			live? 2@3    - live`,
		"a gap": `
			connect      - unsynced
			live 0@1     apply live
			live? 3@4    replay live
			begin        0 replaying
			replayed 0@1 - replaying
			replayed 1@2 apply replaying
			replayed 2@3 apply replaying
			replayed 3@4 apply replaying
			end          - live
			live? 3@4    - live
			live? 4@5    apply live`,
		"a gap without replay": `
			connect      - unsynced
			live 0@1     apply live
			live 3@4     apply partial
			live 4@5     apply partial
			cleared      - live`,
		"a gap of which more is lost than is kept": `
			connect      - unsynced
			live 0@1     apply live
			live? 30@31  replay live
			begin        0 replaying
			replayed 20@21 reset+apply replaying
			replayed 21@22 apply replaying
			end          - late`,
		"a gap, and the last one before it has just gone": `
			connect      - unsynced
			live 0@1     apply live
			live? 3@4    replay live
			begin        0 replaying
			replayed 1@2 apply replaying
			end          - live`,
		"a replay with a hole goes on from there": `
			connect?     replay unsynced
			begin        0 replaying
			replayed 0@1 apply replaying
			replayed 2@3 replay replaying
			begin        0 replaying
			replayed 0@1 - replaying
			replayed 1@2 apply replaying
			replayed 2@3 apply replaying
			end          - live`,
		"a replay that fails, and one that comes later": `
			connect      - unsynced
			live 0@1     apply live
			live? 2@3    replay live
			begin        0 replaying
			fail         - partial
			owes         yes partial
			live 2@3     apply partial
			live 3@4     apply partial
			begin        0 replaying
			replayed 0@1 reset+apply replaying
			replayed 1@2 apply replaying
			replayed 2@3 apply replaying
			replayed 3@4 apply replaying
			end          - live
			owes         no live`,
		"a first replay that fails": `
			connect?     replay unsynced
			begin        0 replaying
			fail         - unsynced
			owes         yes unsynced
			live 4@5     apply late
			owes         yes late`,
		"connected again, and nothing was missed": `
			connect      - unsynced
			live 0@1     apply live
			disconnect   - unsynced
			connect?     replay unsynced
			begin        0 replaying
			replayed 0@1 - replaying
			end          - live`,
		"connected again without replay: is it the same process?": `
			connect      - unsynced
			live 0@1     apply live
			disconnect   - unsynced
			connect      - unsynced
			live 1@2     apply partial`,
		"another process, that has come as far": `
			connect      - unsynced
			live 0@1     apply live
			live 1@2     apply live
			disconnect   - unsynced
			connect?     replay unsynced
			begin        1 replaying
			replayed 1@7 reset+replay replaying
			begin        0 replaying
			replayed 0@6 apply replaying
			replayed 1@7 apply replaying
			end          - live`,
		"another process, that has not come as far": `
			connect      - unsynced
			live 0@1     apply live
			live 1@2     apply live
			disconnect   - unsynced
			connect?     replay unsynced
			begin        1 replaying
			end          reset+replay replaying
			begin        0 replaying
			replayed 0@7 apply replaying
			end          - live`,
		"another process, without replay": `
			connect      - unsynced
			live 0@1     apply live
			live 1@2     apply live
			disconnect   - unsynced
			connect      - unsynced
			live 1@9     reset+apply late`,
		"another process, from its start": `
			connect      - unsynced
			live 4@1     apply late
			disconnect   - unsynced
			connect      - unsynced
			live 0@9     reset+apply live`,
		"numbers that go back in a connection, as behind a proxy": `
			connect      - unsynced
			live 0@1     apply live
			live 1@2     apply live
			live? 1@9    reset+replay unsynced
			begin        0 replaying
			replayed 0@8 apply replaying
			replayed 1@9 apply replaying
			end          - live
			live? 1@9    - live`,
		"a batch that cannot be read": `
			connect      - unsynced
			live 0@1     apply live
			unreadable   - partial
			live 1@2     apply partial`,
	} {
		t.Run(name, func(t *testing.T) {
			var p position
			for line := range strings.Lines(strings.TrimSpace(script)) {
				words := strings.Fields(line)
				want := words[len(words)-2:]
				got := []string{perform(&p, words), p.state().String()}
				require.Equal(t, want, got, "after %s", line)
			}
		})
	}
}

// perform performs a line of a script, and returns what came of it.
func perform(p *position, words []string) string {
	what, can := strings.CutSuffix(words[0], "?")
	var seq uint64
	var at float64
	if strings.Contains(words[1], "@") {
		if _, err := fmt.Sscanf(words[1], "%d@%g", &seq, &at); err != nil {
			panic(err)
		}
	}
	switch what {
	case "connect":
		return p.connect(can).String()
	case "live":
		return p.live(seq, at, can).String()
	case "begin":
		return fmt.Sprint(p.begin())
	case "replayed":
		return p.replayed(seq, at).String()
	case "end":
		return p.end().String()
	case "owes":
		return map[bool]string{true: "yes", false: "no"}[p.owes()]
	case "disconnect":
		p.disconnect()
	case "fail":
		p.fail()
	case "unreadable":
		p.unreadable()
	case "cleared":
		p.cleared()
	default:
		panic(what)
	}
	return "-"
}

func (s step) String() string {
	do := []string{"-", "apply", "replay"}[s.do]
	if s.reset {
		return "reset+" + do
	}
	return do
}

// engine is a publisher that keeps some of its batches. A batch is told by its time, which is
// another one in each process.
type engine struct {
	keep      int
	published []float64 // by number
}

var clock float64

func (e *engine) publish() { clock++; e.published = append(e.published, clock) }

func (e *engine) restart() { e.published = nil }

func (e *engine) kept() int { return max(0, len(e.published)-e.keep) }

// follower applies what a position says to the list of batches it has.
type follower struct {
	position
	told []float64
}

func (f *follower) take(s step, at float64) action {
	if s.reset {
		f.told = nil
	}
	if s.do == apply {
		f.told = append(f.told, at)
	}
	return s.do
}

// replay makes a replay of e, of which batches may be lost.
func (f *follower) replay(e *engine, r *rand.Rand, loss float64) {
	for range 3 {
		from, again := f.begin(), false
		for seq := max(int(from), e.kept()); seq < len(e.published) && !again; seq++ {
			if r.Float64() >= loss {
				again = f.take(f.replayed(uint64(seq), e.published[seq]), e.published[seq]) == replay
			}
		}
		if !again && f.take(f.end(), 0) != replay {
			return
		}
	}
	f.fail()
}

// TestPositionFollows: whatever is lost, cut and restarted, once nothing more happens but
// batches, what was told is what the engine published, as far as it is kept.
func TestPositionFollows(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		e := &engine{keep: 1 + r.IntN(30)}
		f := &follower{}
		connected, canReplay := false, r.IntN(4) > 0
		live := func() {
			seq := len(e.published) - 1
			for tries := 0; ; tries++ {
				can := canReplay && tries < 3
				if f.take(f.live(uint64(seq), e.published[seq], can), e.published[seq]) != replay {
					return
				}
				f.replay(e, r, 0.02)
			}
		}
		for range 60 {
			switch r.IntN(12) {
			case 0:
				e.restart()
				fallthrough
			case 1:
				f.disconnect()
				connected = false
			case 2, 3, 4:
				if !connected {
					connected = true
					if f.take(f.connect(canReplay), 0) == replay {
						f.replay(e, r, 0.02)
					}
				}
			default:
				for range 1 + r.IntN(4) {
					e.publish()
					if connected && r.Float64() > 0.1 {
						live()
					}
				}
			}
			compare(t, f, e, seed)
		}
	}
}

// compare compares what a follower was told with what the engine published.
func compare(t *testing.T, f *follower, e *engine, seed uint64) {
	t.Helper()
	until := min(int(f.next), len(e.published))
	switch f.state() {
	case Live:
		require.True(t, slices.Equal(e.published[:until], f.told), "seed %d: told %v of %v", seed, f.told, e.published[:until])
	case Late:
		require.NotEmpty(t, f.told, "seed %d", seed)
		first := slices.Index(e.published, f.told[0])
		require.GreaterOrEqual(t, first, 0, "seed %d: of another process", seed)
		require.True(t, slices.Equal(e.published[first:until], f.told), "seed %d: told %v of %v", seed, f.told, e.published[first:until])
	}
}
