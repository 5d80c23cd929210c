package lineage

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

// chat is a conversation as it grows.
type chat struct{ messages []string }

func (c chat) with(role, text string) chat {
	return chat{append(c.messages[:len(c.messages):len(c.messages)], fmt.Sprintf(`{"role":%q,"content":%q}`, role, text))}
}

// turn is what the model answered, and what is asked next.
func (c chat) turn(n int) chat {
	return c.with("assistant", fmt.Sprint("answer ", n)).with("user", fmt.Sprint("question ", n))
}

// read is Table.Read of a text.
func read(table *Table, p *Prompt, tenant, text string) bool {
	return table.Read(p, [3]string{tenant, "model"}, []byte(text), []types.Span{{Start: 0, End: len(text)}})
}

func of(t *testing.T, table *Table, tenant string, c chat, now int64) (session, program ID) {
	var p Prompt
	require.True(t, read(table, &p, tenant, strings.Join(c.messages, ",")))
	return table.Of(&p, now)
}

var system = chat{}.with("system", strings.Repeat("You are helpful. ", 500))

func TestConversation(t *testing.T) {
	table := New(100, 1000)
	c := system.with("user", "hi")
	session, program := of(t, table, "t", c, 0)
	require.NotZero(t, session)
	require.Equal(t, session, program)
	for n := range 20 {
		c = c.turn(n)
		s, p := of(t, table, "t", c, int64(n))
		require.Equal(t, [2]ID{session, program}, [2]ID{s, p}, "turn %d", n)
		s, _ = of(t, table, "t", c, int64(n))
		require.Equal(t, session, s, "the same once more")
	}
	s, _ := of(t, table, "t", c.turn(50).turn(51).turn(52), 20)
	require.Equal(t, session, s, "turns that went elsewhere")
	s, _ = of(t, table, "other", c, 20)
	require.NotEqual(t, session, s, "tenants are apart")
	s, _ = of(t, table, "t", c.turn(50).turn(51).turn(52).turn(53), 2000)
	require.NotEqual(t, session, s, "it is too long ago")
}

// An agent has others work from where it is: one program, a conversation each.
func TestFanOut(t *testing.T) {
	table := New(1000, 1000)
	parent := system.with("user", "a task").turn(1)
	session, program := of(t, table, "t", parent, 0)
	seen := map[ID]bool{}
	for i := range 10 {
		child := parent.with("assistant", "x").with("user", fmt.Sprint("part ", i))
		for n := range 5 {
			s, p := of(t, table, "t", child, 1)
			require.Equal(t, program, p, "child %d, turn %d", i, n)
			if n > 0 {
				require.True(t, seen[s])
			}
			seen[s] = true
			child = child.turn(n)
		}
	}
	require.Len(t, seen, 10)
	require.True(t, seen[session], "the first goes on with the parent's")
}

// Two that go on from the same prompt in other ways are told apart at once.
func TestBranches(t *testing.T) {
	table := New(1000, 1000)
	parent := system.with("user", "a task")
	session, program := of(t, table, "t", parent, 0)
	a, p := of(t, table, "t", parent.with("assistant", "one").with("user", "a"), 0)
	require.Equal(t, [2]ID{session, program}, [2]ID{a, p})
	b, p := of(t, table, "t", parent.with("assistant", "two").with("user", "b"), 0)
	require.NotEqual(t, session, b)
	require.Equal(t, program, p)
	again, _ := of(t, table, "t", parent.with("assistant", "one").with("user", "a").turn(1), 0)
	require.Equal(t, session, again)
	again, _ = of(t, table, "t", parent.with("assistant", "two").with("user", "b").turn(1), 0)
	require.Equal(t, b, again)
}

// A history that was changed in the middle is another conversation of the same program; one that was changed at its
// beginning has nothing in common with what it was.
func TestEditedHistory(t *testing.T) {
	table := New(1000, 1000)
	c := system.with("user", "hi")
	session, program := of(t, table, "t", c, 0)
	old := c.turn(1)
	of(t, table, "t", old, 0)
	of(t, table, "t", old.turn(2), 0)
	edited := c.turn(1).with("assistant", "shorter").with("user", "question 3")
	s, p := of(t, table, "t", edited, 0)
	require.NotEqual(t, session, s)
	require.Equal(t, program, p)
	next, _ := of(t, table, "t", edited.turn(4), 0)
	require.Equal(t, s, next)
	_, p = of(t, table, "t", chat{}.with("system", "compacted").with("user", "hi").turn(1), 0)
	require.NotEqual(t, program, p)
}

// Ten thousand clients with one system prompt are as many programs, also if somebody once sent that alone.
func TestOneSystemPrompt(t *testing.T) {
	for _, alone := range []bool{false, true} {
		table := New(1<<16, 1000)
		if alone {
			of(t, table, "t", system, 0)
		}
		programs, turns := map[ID]bool{}, 0
		for i := range 10_000 {
			c := system.with("user", fmt.Sprint("q", i))
			s, p := of(t, table, "t", c, 1)
			programs[p] = true
			if s2, _ := of(t, table, "t", c.turn(1), 1); s2 == s {
				turns++
			}
		}
		require.GreaterOrEqual(t, len(programs), 10_000-Fan-1, "alone: %v", alone)
		require.Equal(t, 10_000, turns, "their turns are known for all that")
	}
}

func TestBounds(t *testing.T) {
	table := New(50, 1000)
	for i := range 1000 {
		of(t, table, "t", system.with("user", fmt.Sprint(i)), 0)
		require.LessOrEqual(t, table.Len(), 50)
	}
	require.Len(t, table.ring, 50)
	var p Prompt
	require.False(t, read(table, &p, "t", strings.Repeat("x", MostBytes+1)))
	require.False(t, read(table, &p, "t", ""))
	require.False(t, table.Read(&p, [3]string{}, []byte("abc"), []types.Span{{Start: 2, End: 4}}))
	require.True(t, read(table, &p, "t", strings.Repeat("},", 1<<20)))
	require.Len(t, p.places, most)
}

// Prompts in any order: what is kept fits together.
func TestAnyOrder(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	table := New(20, 30)
	var p Prompt
	for now := range int64(3000) {
		c := chat{}
		for range 1 + rnd.IntN(5) {
			c = c.with("user", fmt.Sprint(rnd.IntN(3)))
		}
		read(table, &p, "t", strings.Join(c.messages, ","))
		s, of := table.Of(&p, now)
		require.True(t, s != 0 && of != 0)
		s2, of2 := table.Of(&p, now)
		require.Equal(t, [2]ID{s, of}, [2]ID{s2, of2})
		require.Len(t, table.of, len(table.ring))
		for prompt, i := range table.of {
			require.Equal(t, prompt, table.ring[i].prompt)
		}
	}
}

func BenchmarkOf(b *testing.B) {
	c := system
	for i := range 40 {
		c = c.with("user", strings.Repeat("What was the weather like? ", 28)).turn(i)
	}
	text := []byte(strings.Join(c.messages, ","))
	table, who, spans := New(1<<14, 1000), [3]string{"tenant", "model"}, []types.Span{{Start: 0, End: len(text)}}
	var p Prompt
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		table.Read(&p, who, text, spans)
		table.Of(&p, 0)
	}
}
