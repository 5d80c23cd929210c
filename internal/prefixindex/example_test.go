package prefixindex_test

import (
	"bytes"
	"fmt"

	"github.com/inferpick/inferpick/internal/prefixindex"
)

func Example() {
	x, err := prefixindex.New(prefixindex.Options{})
	if err != nil {
		panic(err)
	}
	a, b := x.Add(), x.Add()

	system := bytes.Repeat([]byte("You are a helpful assistant. "), 100) // 2,900 bytes
	first := hash(x, system, []byte("What is a prefix?"), make([]byte, 1000))
	second := hash(x, system, []byte("What is a suffix?"), make([]byte, 1000))

	x.Record(a, first)
	x.Record(b, second[:4])

	out := make([]uint32, x.Slots())
	n := x.Match(second, out)
	fmt.Println(n, "endpoints hold some of", len(second), "blocks")
	fmt.Println("a:", out[a.Slot()], "b:", out[b.Slot()])

	x.Remove(a)
	fmt.Println("after a has gone:", x.Match(second, out))
	// Output:
	// 2 endpoints hold some of 15 blocks
	// a: 11 b: 4
	// after a has gone: 1
}

func hash(x *prefixindex.Index, spans ...[]byte) []uint64 {
	h := x.Hasher(prefixindex.Seed("llama-3-8b", "", ""))
	var hashes []uint64
	for _, s := range spans {
		hashes = h.Append(hashes, s)
	}
	return hashes
}

func ExampleIndex_Truncate() {
	x, err := prefixindex.New(prefixindex.Options{})
	if err != nil {
		panic(err)
	}
	e := x.Add()
	prompt := hash(x, make([]byte, 2560))
	x.Record(e, prompt) // at the decision
	x.Truncate(e, prompt, 3)
	fmt.Println("the request never got there, only an earlier one:", x.MatchOne(e, prompt))
	// Output:
	// the request never got there, only an earlier one: 3
}

func ExampleIndex_Observe() {
	x, err := prefixindex.New(prefixindex.Options{})
	if err != nil {
		panic(err)
	}
	e := x.Add()
	x.SetCapacityTokens(e, 31250*16) // blocks and tokens per block, as the engine reports them
	x.Observe(e, 40, 12)             // 40 blocks were believed in, usage said 12
	_, capacity := x.Usage(e)
	fmt.Println(capacity)
	// Output:
	// 7733
}
