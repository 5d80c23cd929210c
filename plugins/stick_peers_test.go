package plugins_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/schedulingtest"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

var (
	_ sharing.BindingPart  = (*plugins.SessionAffinity)(nil)
	_ sharing.SnapshotPart = (*plugins.SessionAffinity)(nil)
	_ sharing.BindingPart  = (*plugins.PreviousAnswer)(nil)
	_ sharing.SnapshotPart = (*plugins.PreviousAnswer)(nil)
)

// announced returns what a plugin tells peers so long after the epoch.
func announced(p sharing.BindingPart, after time.Duration) (all []types.Binding) {
	p.ShareBindings(epoch.Add(after), func(b types.Binding) { all = append(all, b) })
	return all
}

// lucky returns a turn with its own randomness.
func lucky(session string, after time.Duration, seed uint64) *types.Request {
	req := turn(session, after)
	req.Rand = types.NewRand(seed)
	return req
}

// where returns where a session is, or "".
func where(t testing.TB, s *plugins.SessionAffinity, session string, after time.Duration, eps []*types.Endpoint) string {
	for i, score := range schedulingtest.Score(t, s, turn(session, after), eps...) {
		if score == 1 {
			return eps[i].ID
		}
	}
	return ""
}

// TestBindingsTold: what is told, and how often.
func TestBindingsTold(t *testing.T) {
	s, eps := mustSessions(t, plugins.SessionOptions{}), idle(3)
	s.Picked(turn("early", 0), eps[0])
	require.Empty(t, announced(s, 0), "of what was bound before anybody asked")
	s.Picked(turn("a", time.Second), eps[0])
	s.Picked(turn("b", 2*time.Second), eps[1])
	first := announced(s, 3*time.Second)
	require.Len(t, first, 2)
	require.Equal(t, []string{"ep-0", "ep-1"}, []string{first[0].Endpoint, first[1].Endpoint})
	require.Equal(t, []time.Duration{2 * time.Second, time.Second}, []time.Duration{first[0].Age, first[1].Age})
	require.NotEqual(t, first[0].Key, first[1].Key)
	s.Picked(turn("b", 3*time.Second), eps[1])
	again := announced(s, 3*time.Second)
	require.Len(t, again, 2, "twice, as messages may be lost")
	require.Zero(t, again[1].Age, "used meanwhile")
	require.Empty(t, announced(s, 3*time.Second))

	s.Picked(turn("b", 4*time.Second), eps[2])
	moved := announced(s, 4*time.Second)
	require.Len(t, moved, 1)
	require.Equal(t, first[1].Key, moved[0].Key)
	require.Greater(t, moved[0].Version, first[1].Version)
	announced(s, 4*time.Second)
	s.Picked(turn("b", 33*time.Second), eps[2])
	require.Empty(t, announced(s, 33*time.Second), "used again soon")
	s.Picked(turn("b", 34*time.Second), eps[2])
	require.Len(t, announced(s, 34*time.Second), 1, "used again after a while")
	announced(s, 34*time.Second)

	s.Picked(turn("a", 35*time.Second), eps[2])
	s.Finished(turn("a", 35*time.Second), eps[2], broken)
	require.Empty(t, announced(s, 35*time.Second), "it stays with nobody who fails")
	s.Picked(turn("c", 35*time.Second), eps[2])
	s.Forget(eps[2])
	require.Empty(t, announced(s, 35*time.Second), "nor with one that has gone")

	other := mustSessions(t, plugins.SessionOptions{})
	announced(other, 0)
	other.HearBinding(moved[0], epoch)
	require.Empty(t, announced(other, 0), "what was heard is not told on")
	// A short time to live is renewed often enough.
	brief := mustSessions(t, plugins.SessionOptions{TTL: 8 * time.Second})
	announced(brief, 0)
	for i := range 9 {
		brief.Picked(turn("a", time.Duration(i)*time.Second), eps[0])
	}
	require.Len(t, announced(brief, 9*time.Second), 1)
	announced(brief, 9*time.Second)
	brief.Picked(turn("a", 9*time.Second), eps[0])
	brief.Picked(turn("a", 10*time.Second), eps[0])
	require.Len(t, announced(brief, 10*time.Second), 1)
}

// TestBindingsHeard: what becomes of a session of which a peer tells.
func TestBindingsHeard(t *testing.T) {
	key := func(session string) uint64 {
		s := mustSessions(t, plugins.SessionOptions{})
		announced(s, 0)
		s.Picked(turn(session, 0), idle(1)[0])
		return announced(s, 0)[0].Key
	}("s")
	hear := func(s *plugins.SessionAffinity, endpoint string, version uint64, age, at time.Duration) {
		s.HearBinding(types.Binding{Key: key, Endpoint: endpoint, Version: version, Age: age}, epoch.Add(at))
	}
	const moved = 1 << 32
	type sessions = *plugins.SessionAffinity
	for _, tt := range []struct {
		name string
		do   func(sessions, []*types.Endpoint)
		at   time.Duration
		want string
	}{
		{"new", func(s sessions, _ []*types.Endpoint) { hear(s, "ep-1", 0, 0, 0) }, 0, "ep-1"},
		{"of an endpoint that is known", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("other", 0), eps[1])
			hear(s, "ep-1", 0, 0, 0)
		}, 0, "ep-1"},
		{"of one that is not", func(s sessions, _ []*types.Endpoint) { hear(s, "nobody", 0, 0, 0) }, 0, ""},
		{"which is not met for long", func(s sessions, _ []*types.Endpoint) { hear(s, "ep-1", 0, 0, 0) }, 10 * time.Minute, ""},
		{"of one that has gone", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("other", 0), eps[1])
			s.Forget(eps[1])
			hear(s, "ep-1", 0, 0, 0)
		}, 0, ""},
		{"of one that restarted a while ago", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("other", 0), eps[1])
			s.Forget(eps[1])
			hear(s, "ep-1", 0, 0, 0)
			hear(s, "ep-1", 0, 0, 10*time.Second)
		}, 10 * time.Second, "ep-1"},
		{"of one that is removed", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("other", 0), eps[1])
			eps[1].Load.Retire()
			hear(s, "ep-1", 0, 0, 0)
		}, 0, ""},
		{"as old as can be", func(s sessions, _ []*types.Endpoint) { hear(s, "ep-1", 0, 10*time.Minute, 0) }, 0, "ep-1"},
		{"too old", func(s sessions, _ []*types.Endpoint) { hear(s, "ep-1", 0, 10*time.Minute+1, 0) }, 0, ""},
		{"later too old", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("other", 0), eps[1])
			hear(s, "ep-1", 0, 9*time.Minute, 0)
		}, time.Minute + 1, ""},
		{"from the future", func(s sessions, _ []*types.Endpoint) { hear(s, "ep-1", 0, -time.Hour, 0) }, 0, "ep-1"},
		{"renewed", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("s", 0), eps[1])
			hear(s, "ep-1", 0, 0, 8*time.Minute)
		}, 15 * time.Minute, "ep-1"},
		{"bound here, moved there", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("s", 0), eps[0])
			hear(s, "ep-1", moved, 0, 0)
		}, 0, "ep-1"},
		{"moved here, and bound there late", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("s", 0), eps[0])
			s.Picked(turn("s", 0), eps[2])
			hear(s, "ep-0", moved-1, 0, 0)
		}, 0, "ep-2"},
		{"moved here after it was moved there", func(s sessions, eps []*types.Endpoint) {
			hear(s, "ep-1", 5*moved, 0, 0)
			s.Picked(turn("s", 0), eps[2])
			hear(s, "ep-1", 5*moved+moved-1, 0, 0)
		}, 0, "ep-2"},
		{"failed here, and told of once more", func(s sessions, eps []*types.Endpoint) {
			hear(s, "ep-1", 5*moved, 0, 0)
			s.Picked(turn("s", 0), eps[1])
			s.Finished(turn("s", 0), eps[1], broken)
			hear(s, "ep-1", 5*moved+moved-1, 0, 0)
		}, 0, ""},
		{"failed here, moved there", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("s", 0), eps[1])
			s.Finished(turn("s", 0), eps[1], broken)
			hear(s, "ep-2", moved, 0, 0)
		}, 0, "ep-2"},
		{"failed here, moved here", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("s", 0), eps[1])
			s.Finished(turn("s", 0), eps[1], broken)
			s.Picked(turn("s", 0), eps[2])
			hear(s, "ep-1", moved-1, 0, 0)
		}, 0, "ep-2"},
		{"what has expired yields", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("s", 0), eps[1])
			s.Picked(turn("s", 0), eps[2])
			hear(s, "ep-0", 0, 0, time.Hour)
		}, time.Hour, "ep-0"},
		{"bound here, moved to the same there, and elsewhere before", func(s sessions, eps []*types.Endpoint) {
			s.Picked(turn("s", 0), eps[1])
			hear(s, "ep-1", 3*moved, 0, 0)
			hear(s, "ep-2", 2*moved, 0, 0)
		}, 0, "ep-1"},
		{"the same version", func(s sessions, _ []*types.Endpoint) {
			hear(s, "ep-1", 7, 0, 0)
			hear(s, "ep-0", 7, 0, 0)
		}, 0, "ep-1"},
		{"the same version, in the other order", func(s sessions, _ []*types.Endpoint) {
			hear(s, "ep-0", 7, 0, 0)
			hear(s, "ep-1", 7, 0, 0)
		}, 0, "ep-1"},
		{"the highest version of all moves all the same", func(s sessions, eps []*types.Endpoint) {
			hear(s, "ep-1", 1<<64-1, 0, 0)
			s.Picked(turn("s", 0), eps[2])
		}, 0, "ep-2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, eps := mustSessions(t, plugins.SessionOptions{}), idle(3)
			announced(s, 0)
			tt.do(s, eps)
			require.Equal(t, tt.want, where(t, s, "s", tt.at, eps))
		})
	}
}

// TestBindingsCorrected: who tells of an older version is told the newer one.
func TestBindingsCorrected(t *testing.T) {
	s, eps := mustSessions(t, plugins.SessionOptions{}), idle(3)
	announced(s, 0)
	s.Picked(turn("s", 0), eps[0])
	s.Picked(turn("s", 0), eps[1])
	newer := announced(s, 0)
	announced(s, 0)
	older := newer[0]
	older.Endpoint, older.Version = "ep-0", 0
	s.HearBinding(older, epoch.Add(time.Second-1))
	require.Empty(t, announced(s, time.Second-1), "it was told just now")
	s.HearBinding(older, epoch.Add(time.Second))
	again := announced(s, time.Second)
	require.Len(t, again, 1)
	require.Equal(t, newer[0].Version, again[0].Version)
}

// TestBindingsAgree: three gateways bind and move sessions at will, and messages are lost, repeated and
// reordered. When each has used its sessions once more, all know the same.
func TestBindingsAgree(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 6))
		const gateways, names = 3, 5
		var tables [gateways]*plugins.SessionAffinity
		var eps [gateways][]*types.Endpoint
		for i := range tables {
			tables[i], eps[i] = mustSessions(t, plugins.SessionOptions{TTL: time.Hour}), idle(4)
			announced(tables[i], 0)
		}
		now := time.Duration(0)
		type message struct {
			to int
			b  types.Binding
		}
		var wire []message
		share := func(loss float64) (n int) {
			for i, table := range tables {
				for _, b := range announced(table, now) {
					n++
					for to := range tables {
						for to != i && rnd.Float64() >= loss {
							wire = append(wire, message{to, b})
							if rnd.IntN(4) > 0 {
								break
							}
						}
					}
				}
			}
			rnd.Shuffle(len(wire), func(i, j int) { wire[i], wire[j] = wire[j], wire[i] })
			return n
		}
		deliver := func(n int) {
			for _, m := range wire[:n] {
				tables[m.to].HearBinding(m.b, epoch.Add(now))
			}
			wire = wire[n:]
		}
		name := func() string { return fmt.Sprint("s", rnd.IntN(names)) }
		for range 200 {
			now += time.Duration(rnd.IntN(500)) * time.Millisecond
			g := rnd.IntN(gateways)
			switch req := lucky(name(), now, rnd.Uint64()); rnd.IntN(6) {
			case 0, 1:
				tables[g].Picked(req, eps[g][rnd.IntN(4)])
			case 2:
				tables[g].Finished(req, eps[g][rnd.IntN(4)], broken)
			case 3:
				share(0.3)
			default:
				deliver(rnd.IntN(len(wire) + 1))
			}
		}
		now += time.Minute
		for _, g := range rnd.Perm(gateways) {
			for i := range names {
				session := fmt.Sprint("s", i)
				at := eps[g][rnd.IntN(4)] // if it is nowhere
				for _, ep := range eps[g] {
					if ep.ID == where(t, tables[g], session, now, eps[g]) {
						at = ep
					}
				}
				tables[g].Picked(lucky(session, now, rnd.Uint64()), at)
			}
		}
		for rounds := 0; share(0) > 0; rounds++ {
			require.Less(t, rounds, 20, "they tell each other the same for ever")
			now += time.Second
			deliver(len(wire))
		}
		for i := range names {
			session := fmt.Sprint("s", i)
			want := where(t, tables[0], session, now, eps[0])
			for g := range tables {
				require.Equal(t, want, where(t, tables[g], session, now, eps[g]), "seed %d, %s, gateway %d", seed, session, g)
			}
		}
	}
}

// TestBindingsRace: two gateways bind the same new session at the same time. One yields.
func TestBindingsRace(t *testing.T) {
	wins := counts{}
	for seed := range uint64(100) {
		a, b, eps, others := mustSessions(t, plugins.SessionOptions{}), mustSessions(t, plugins.SessionOptions{}), idle(2), idle(2)
		announced(a, 0)
		announced(b, 0)
		same := seed
		if seed%2 == 0 {
			same = seed + 1000
		}
		a.Picked(lucky("s", 0, seed), eps[0])
		b.Picked(lucky("s", 0, same), others[1])
		fromA, fromB := announced(a, 0), announced(b, 0)
		require.Len(t, fromA, 1)
		require.Len(t, fromB, 1)
		b.HearBinding(fromA[0], epoch.Add(time.Second))
		a.HearBinding(fromB[0], epoch)
		at := where(t, a, "s", time.Second, eps)
		require.Equal(t, at, where(t, b, "s", time.Second, others))
		wins[at]++
	}
	require.Greater(t, wins["ep-0"], 20)
	require.Greater(t, wins["ep-1"], 20)
}

// TestPreviousAnswerOfAnotherGateway: a response that was given through one gateway is continued through
// another, which has not sent a request anywhere yet.
func TestPreviousAnswerOfAnotherGateway(t *testing.T) {
	a, b, eps := mustAnswers(t, plugins.AnswerOptions{}), mustAnswers(t, plugins.AnswerOptions{}), idle(3)
	announced(a, 0)
	a.Finished(continuing("", "", "red", 0), eps[2], answer("r1"))
	sent := announced(a, 0)
	require.Len(t, sent, 1)
	b.HearBinding(sent[0], epoch)
	theirs := idle(3)
	require.Equal(t, []string{"ep-2"}, schedulingtest.Filter(t, b, continuing("r1", "", "red", 0), theirs...))
	require.Len(t, schedulingtest.Filter(t, b, continuing("r1", "", "blue", 0), theirs...), 3, "not another tenant's")
	require.Equal(t, "gave the answer that this continues", b.Describe(continuing("r1", "", "red", 0), theirs[2]))
	require.True(t, b.Constraint(continuing("r1", "", "red", 0), theirs).Match(theirs[2]))
	require.Len(t, schedulingtest.Filter(t, b, continuing("r1", "", "red", 0), idle(3)...), 3, "now it is that server, and no other of its name")
	b.Picked(continuing("r1", "", "red", 0), theirs[2])
	b.Forget(theirs[2])
	require.Len(t, schedulingtest.Filter(t, b, continuing("r1", "", "red", 0), theirs...), 3, "it has gone")

	// A session is none of its business; whoever knows both takes both.
	s, both := mustSessions(t, plugins.SessionOptions{}), mustSessions(t, plugins.SessionOptions{})
	announced(s, 0)
	s.Picked(turn("s", 0), eps[0])
	both.HearBinding(sent[0], epoch)
	for _, binding := range announced(s, 0) {
		b.HearBinding(binding, epoch)
		both.HearBinding(binding, epoch)
	}
	require.Zero(t, b.Len())
	require.Equal(t, 2, both.Len())
}

// TestTrapPeersDenyAnswers: this gateway saw who gave a response.
func TestTrapPeersDenyAnswers(t *testing.T) {
	f, eps := mustAnswers(t, plugins.AnswerOptions{}), idle(3)
	announced(f, 0)
	f.Finished(continuing("", "", "", 0), eps[2], answer("r1"))
	lie := announced(f, 0)[0]
	lie.Endpoint, lie.Version = "ep-0", 1<<64-1
	for i := range 10 {
		f.HearBinding(lie, epoch.Add(time.Duration(i)*time.Second))
		require.Equal(t, []string{"ep-2"}, schedulingtest.Filter(t, f, continuing("r1", "", "", 0), eps...))
		f.Picked(continuing("r1", "", "", 0), eps[2])
	}
}

// TestTrapPeersEvictSessions: peers tell of any number of sessions, at any number of endpoints.
func TestTrapPeersEvictSessions(t *testing.T) {
	eps := idle(3)
	for _, own := range []int{0, 30, 50, 100} {
		s := mustSessions(t, plugins.SessionOptions{MaxSessions: 100})
		hear := func(i int) {
			s.HearBinding(types.Binding{Key: uint64(i) << 20, Endpoint: "ep-1", Age: -time.Hour, Version: 1 << 63}, epoch.Add(time.Minute))
		}
		for i := range own {
			s.Picked(turn(fmt.Sprint(i), 0), eps[0])
		}
		for i := range 1000 {
			hear(i + 1)
			require.LessOrEqual(t, s.Len(), 100)
		}
		require.Equal(t, 100, s.Len(), "there is room for all")
		kept := func() (n int) {
			for i := range own {
				if where(t, s, fmt.Sprint(i), time.Minute, eps) == "ep-0" {
					n++
				}
			}
			return n
		}
		require.GreaterOrEqual(t, kept(), min(own, 50))
		// New ones get their half back.
		for i := range 1000 {
			s.Picked(turn(fmt.Sprint("new ", i), time.Minute), eps[0])
			hear(i + 2000)
		}
		for i := range 50 {
			require.Equal(t, "ep-0", where(t, s, fmt.Sprint("new ", 999-i), time.Minute, eps))
		}
		require.Equal(t, 100, s.Len())
	}
	one := mustSessions(t, plugins.SessionOptions{MaxSessions: 1})
	one.Picked(turn("s", 0), eps[0])
	one.HearBinding(types.Binding{Key: 2, Endpoint: "ep-1"}, epoch)
	require.Equal(t, "ep-0", where(t, one, "s", 0, eps))

	s := mustSessions(t, plugins.SessionOptions{})
	for i := range 2 * plugins.LimitUnmet {
		s.HearBinding(types.Binding{Key: uint64(i) << 1, Endpoint: fmt.Sprint("nobody ", i)}, epoch)
	}
	require.Equal(t, plugins.LimitUnmet, s.Len())
	s.Picked(turn("s", 0), eps[0])
	require.Equal(t, "ep-0", where(t, s, "s", 0, eps))
}

// TestTrapUntoldWithoutBound: nobody may be there to be told.
func TestTrapUntoldWithoutBound(t *testing.T) {
	s, eps := mustSessions(t, plugins.SessionOptions{MaxUntold: 10}), idle(1)
	announced(s, 0)
	for i := range 25 {
		s.Picked(turn(fmt.Sprint(i), time.Duration(i)), eps[0])
	}
	got := announced(s, 25)
	require.Len(t, got, 10)
	require.Equal(t, uint64(15), s.Untold())
	require.Equal(t, time.Duration(10), got[0].Age, "the latest ones")
	for _, o := range []plugins.SessionOptions{{MaxUntold: -1}, {MaxUntold: plugins.LimitMaxSessions + 1}} {
		_, err := plugins.NewSessionAffinity(o)
		require.ErrorContains(t, err, "maxUntold is ")
	}
}

// TestBindingKeys: the same in all gateways, of all versions.
func TestBindingKeys(t *testing.T) {
	keys := map[uint64]string{}
	for _, tenant := range []string{"", "a", "ab", strings.Repeat("t", 512), strings.Repeat("t", 513)} {
		for _, name := range []string{"a", "b", "ba", strings.Repeat("x", 512), strings.Repeat("x", 513), strings.Repeat("x", 1<<20)} {
			for _, answers := range []bool{false, true} {
				s := mustSessions(t, plugins.SessionOptions{})
				announced(s, 0)
				if answers {
					s.Finished(continuing("", "", tenant, 0), idle(1)[0], answer(name))
				} else {
					s.Picked(continuing("", name, tenant, 0), idle(1)[0])
				}
				got := announced(s, 0)
				require.Len(t, got, 1)
				what := fmt.Sprintf("%.4s (%d), %.4s (%d), %v", tenant, len(tenant), name, len(name), answers)
				require.NotContains(t, keys, got[0].Key, what)
				keys[got[0].Key] = what
			}
		}
	}
	s := mustSessions(t, plugins.SessionOptions{})
	announced(s, 0)
	s.Picked(continuing("", "session", "tenant", 0), idle(1)[0])
	s.Finished(continuing("", "", "tenant", 0), idle(1)[0], answer("resp_1"))
	got := announced(s, 0)
	require.Equal(t, []string{goldenSession, goldenAnswer}, []string{fmt.Sprintf("%016x", got[0].Key), fmt.Sprintf("%016x", got[1].Key)})
}

// The first 8 bytes of the SHA-256 of 00 06 "tenant" 07 "session" and 01 06 "tenant" 06 "resp_1", each with the
// kind as the last bit.
const (
	goldenSession = "91eef8b7174aa3be"
	goldenAnswer  = "0ea8972a4c2f269d"
)

// TestStickSnapshot: sessions and responses are found after a restart.
func TestStickSnapshot(t *testing.T) {
	s, f, eps := mustSessions(t, plugins.SessionOptions{}), mustAnswers(t, plugins.AnswerOptions{}), idle(3)
	announced(s, 0)
	for i := range 100 {
		req := turn(fmt.Sprint("s", i), time.Duration(i)*time.Second)
		s.Picked(req, eps[i%3])
		f.Finished(req, eps[i%3], answer(fmt.Sprint("r", i)))
	}
	s.Picked(turn("s7", 100*time.Second), eps[0]) // moved
	announced(s, 100*time.Second)
	now := epoch.Add(100 * time.Second)
	sessions, answers := s.AppendSnapshot([]byte("head"), 1<<16, now)[4:], f.AppendSnapshot(nil, 1<<16, now)

	again, answersAgain, theirs := mustSessions(t, plugins.SessionOptions{}), mustAnswers(t, plugins.AnswerOptions{}), idle(3)
	announced(again, 0)
	again.Picked(turn("s8", 100*time.Second), theirs[0]) // before the snapshot came
	announced(again, 0)
	announced(again, 0)
	require.NoError(t, again.Restore(sessions, 0, now))
	require.NoError(t, answersAgain.Restore(answers, 0, now))
	require.Equal(t, 100, again.Len())
	for i := range 100 {
		want := fmt.Sprint("ep-", i%3)
		require.Equal(t, []string{want}, schedulingtest.Filter(t, answersAgain, continuing(fmt.Sprint("r", i), "", "", 101*time.Second), theirs...))
		if i == 7 || i == 8 {
			want = "ep-0"
		}
		require.Equal(t, want, where(t, again, fmt.Sprint("s", i), 101*time.Second, theirs))
	}
	require.Empty(t, announced(again, 101*time.Second), "peers know that already")
	old := types.Binding{Key: announced(s, 100*time.Second)[0].Key, Endpoint: "ep-1", Version: 1}
	again.HearBinding(old, now)
	require.Equal(t, "ep-0", where(t, again, "s7", 101*time.Second, theirs), "it knows that it moved")

	// What is kept, and for how long.
	later := mustSessions(t, plugins.SessionOptions{})
	require.NoError(t, later.Restore(sessions, 9*time.Minute, now))
	require.Equal(t, 61, later.Len(), "used within the last 10 minutes")
	few := mustSessions(t, plugins.SessionOptions{MaxSessions: 5})
	require.NoError(t, few.Restore(sessions, 0, now))
	require.Equal(t, 5, few.Len())
	require.Equal(t, "ep-0", where(t, few, "s7", 101*time.Second, theirs), "the most recently used ones")
	few.Picked(turn("new", 101*time.Second), theirs[0])
	require.Equal(t, "ep-0", where(t, few, "s7", 101*time.Second, theirs))
	unmet := mustSessions(t, plugins.SessionOptions{TTL: time.Hour})
	require.NoError(t, unmet.Restore(sessions, 0, now))
	require.Empty(t, where(t, unmet, "s7", 12*time.Minute, theirs), "not met within ten minutes")

	// Any room will do.
	before := -1
	for room := range len(sessions) + 20 {
		part, again := s.AppendSnapshot(nil, room, now), mustSessions(t, plugins.SessionOptions{})
		require.LessOrEqual(t, len(part), room)
		if len(part) > 0 {
			require.NoError(t, again.Restore(part, 0, now))
		}
		require.GreaterOrEqual(t, again.Len(), before)
		before = again.Len()
	}
	require.Equal(t, 100, before)
	// One that was changed, or is another's, changes nothing.
	again = mustSessions(t, plugins.SessionOptions{})
	require.ErrorContains(t, again.Restore(answers, 0, now), "plugins: snapshot session-affinity/1")
	for i := range sessions {
		bad := append([]byte{}, sessions...)
		bad[i] ^= 1 << (i % 8)
		require.Error(t, again.Restore(bad, 0, now))
		require.Error(t, again.Restore(sessions[:i], 0, now))
	}
	require.Zero(t, again.Len())
}

// TestStickSnapshotInPieces: a large table is read bit by bit, while it is used.
func TestStickSnapshotInPieces(t *testing.T) {
	n, rounds := 20_000, 10
	if raceEnabled {
		n, rounds = 5000, 5
	}
	s, eps := mustSessions(t, plugins.SessionOptions{}), idle(3)
	for i := range n {
		s.Picked(turn(fmt.Sprint("s", i), time.Duration(i)*time.Millisecond), eps[i%3])
	}
	for _, busy := range []bool{false, true} {
		done := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for i := 0; busy; i += 997 {
				select {
				case <-done:
					return
				default:
					s.Picked(turn(fmt.Sprint("s", i%n), 20*time.Second+time.Duration(i)), eps[0])
				}
			}
		})
		for range rounds {
			again := mustSessions(t, plugins.SessionOptions{})
			require.NoError(t, again.Restore(s.AppendSnapshot(nil, 1<<21, epoch.Add(20*time.Second)), 0, epoch.Add(20*time.Second)))
			require.Equal(t, n, again.Len())
		}
		close(done)
		wg.Wait()
	}
}

func FuzzStickRestore(f *testing.F) {
	s, eps := mustSessions(f, plugins.SessionOptions{}), idle(3)
	for i := range 5 {
		s.Picked(turn(fmt.Sprint("s", i), 0), eps[i%3])
		s.Finished(turn("", 0), eps[i%3], answer(fmt.Sprint("r", i)))
	}
	sealed := s.AppendSnapshot(nil, 1<<16, epoch)
	f.Add(sealed[:len(sealed)-4])
	f.Add([]byte{0})
	f.Add([]byte(strings.Repeat("\xff", 30)))
	f.Fuzz(func(t *testing.T, content []byte) {
		again, answers := mustSessions(t, plugins.SessionOptions{}), mustAnswers(t, plugins.AnswerOptions{})
		if err := answers.Restore(plugins.SealSnapshot(content, answers.SnapshotName()), 0, epoch); err != nil {
			require.Zero(t, answers.Len())
		}
		if err := again.Restore(plugins.SealSnapshot(content, again.SnapshotName()), 0, epoch); err != nil {
			require.ErrorContains(t, err, "plugins: snapshot session-affinity/1: ")
			require.Zero(t, again.Len())
			return
		}
		once := again.AppendSnapshot(nil, 1<<20, epoch)
		twice := mustSessions(t, plugins.SessionOptions{})
		require.NoError(t, twice.Restore(once, 0, epoch))
		require.Equal(t, again.Len(), twice.Len())
		require.Empty(t, cmp.Diff(once, twice.AppendSnapshot(nil, 1<<20, epoch)))
	})
}

func TestStickAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s, f, eps := mustSessions(t, plugins.SessionOptions{}), mustAnswers(t, plugins.AnswerOptions{}), idle(3)
	announced(s, 0)
	announced(f, 0)
	scores, keep := make([]float64, 3), make([]bool, 3)
	s.Picked(turn("s", 0), eps[1])
	f.Finished(turn("", 0), eps[1], answer("r"))
	b := announced(s, 0)[0]
	req := continuing("r", "s", "tenant", time.Second)
	tell := func(types.Binding) {}
	for what, run := range map[string]func(){
		"Score":       func() { _ = s.Score(ctx, req, eps, scores) },
		"Filter":      func() { _ = f.Filter(ctx, req, eps, keep) },
		"Picked":      func() { s.Picked(req, eps[1]); f.Picked(req, eps[1]) },
		"moved":       func() { s.Picked(req, eps[1]); s.Picked(req, eps[2]) },
		"HearBinding": func() { s.HearBinding(b, epoch) },
		"Share":       func() { s.ShareBindings(epoch, tell) },
	} {
		run()
		if n := testing.AllocsPerRun(100, run); n > 0 {
			t.Errorf("%s: %v allocations, want 0", what, n)
		}
	}
}

// TestStickConcurrency runs everything at once; run it with -race.
func TestStickConcurrency(t *testing.T) {
	a, b := mustSessions(t, plugins.SessionOptions{MaxSessions: 50}), mustSessions(t, plugins.SessionOptions{MaxSessions: 50})
	eps, done := idle(4), make(chan struct{})
	var requests, peers sync.WaitGroup
	for _, s := range []*plugins.SessionAffinity{a, b} {
		for g := range 3 {
			requests.Go(func() {
				scores := make([]float64, len(eps))
				for i := range 400 {
					req, ep := lucky(fmt.Sprint(i%70), time.Duration(i)*time.Second, uint64(i*g)), eps[(g+i)%len(eps)]
					_ = s.Score(ctx, req, eps, scores)
					s.Picked(req, ep)
					s.Describe(req, ep)
					s.Finished(req, ep, types.Outcome{Status: 200 + 300*(i%2), ResponseID: fmt.Sprint(i)})
					if i%50 == 0 {
						s.Forget(ep)
					}
				}
			})
		}
	}
	peers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			now := epoch.Add(time.Duration(i) * time.Second)
			a.ShareBindings(now, func(x types.Binding) { b.HearBinding(x, now) })
			b.ShareBindings(now, func(x types.Binding) { a.HearBinding(x, now) })
			require.NoError(t, b.Restore(a.AppendSnapshot(nil, 1<<12, now), 0, now))
		}
	})
	requests.Wait()
	close(done)
	peers.Wait()
	for _, s := range []*plugins.SessionAffinity{a, b} {
		require.LessOrEqual(t, s.Len(), 50)
		require.LessOrEqual(t, len(announced(s, 0)), 50)
	}
}

// TestPartsInGroups: two gateways of the default policy tell each other by messages, under IDs of their own.
func TestPartsInGroups(t *testing.T) {
	type gateway struct {
		s        *scheduling.Scheduler
		eps      []*types.Endpoint
		group    *sharing.Group
		ejection *plugins.Ejection
	}
	now := epoch
	var gateways [2]gateway
	for i := range gateways {
		p := plugins.Default()
		p.Seed, p.Now = uint64(i+1), func() time.Time { return now }
		g := gateway{s: mustNew(t, p)}
		for _, part := range sharing.PartsOf(p) {
			if e, ok := part.(*plugins.Ejection); ok {
				g.ejection = e
			}
		}
		for j := range 4 {
			ep := types.NewEndpoint(fmt.Sprintf("%c-%d", 'a'+i, j), fmt.Sprint("10.0.0.", j, ":8000"))
			ep.Slot = uint32(j)
			g.eps = append(g.eps, ep)
		}
		group, err := sharing.New(sharing.Options{})
		require.NoError(t, err)
		g.group = group
		require.NoError(t, group.Add(sharing.Scope{Name: "pool", Endpoints: func() []*types.Endpoint { return g.eps }, Parts: sharing.PartsOf(p)}))
		gateways[i] = g
	}
	exchange := func() {
		for i, g := range gateways {
			g.group.Tell(now, func(msg []byte) { gateways[1-i].group.Hear("peer", msg, now) })
		}
	}
	exchange()
	a, b := gateways[0], gateways[1]
	d := mustSchedule(t, a.s, schedulingtest.Request("hello"), a.eps)
	d.Done(answer("resp_1"))
	exchange()
	next := schedulingtest.Request("and then")
	next.PreviousID = "resp_1"
	require.Equal(t, d.Endpoint.Address, mustSchedule(t, b.s, next, b.eps).Endpoint.Address)

	dead := mustSchedule(t, a.s, schedulingtest.Request("other"), a.eps)
	dead.Done(refusedConnection)
	exchange()
	req := schedulingtest.Request("other")
	req.Now = now
	require.Len(t, schedulingtest.Filter(t, b.ejection, req, b.eps...), 4)
	for _, ep := range b.eps {
		want := ""
		if ep.Address == dead.Endpoint.Address {
			want = "on probation: a peer cannot connect to it"
		}
		require.Equal(t, want, b.ejection.Describe(req, ep))
	}
}
