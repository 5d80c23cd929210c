package list_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/list"
)

type value struct{ node list.Node[value] }

// TestList plays random changes beside a slice.
func TestList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var l list.List[value]
	var all []*value
	for range 2000 {
		v, pick := new(value), rnd.IntN(len(all)+1)
		switch op := rnd.IntN(5); {
		case op == 0:
			l.Push(v, &v.node)
			all = append(all, v)
		case op == 1:
			l.PushFront(v, &v.node)
			all = slices.Insert(all, 0, v)
		case pick == len(all):
		case op == 2:
			l.Insert(v, &v.node, &all[pick].node)
			all = slices.Insert(all, pick+1, v)
		default:
			l.Remove(&all[pick].node)
			require.Zero(t, all[pick].node)
			all = slices.Delete(all, pick, pick+1)
		}
		var forth, back []*value
		for n := l.Head; n != nil; n = n.Next {
			forth = append(forth, n.Of)
		}
		for n := l.Tail; n != nil; n = n.Prev {
			back = append(back, n.Of)
		}
		slices.Reverse(back)
		require.True(t, slices.Equal(all, forth) && slices.Equal(all, back))
	}
}
