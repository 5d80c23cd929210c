package jsonscan

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// commonBytes is commonBlocks, byte by byte.
func commonBytes(d []byte, i, n int) int {
	for k := range n * blockBytes {
		before, c := d[i+k-1], d[i+k]
		if before == '\\' && c != '"' && c != 'n' && c != 't' || before != '\\' && c == '"' || c < ' ' {
			return k / blockBytes
		}
	}
	return n
}

func TestCommonBlocks(t *testing.T) {
	const blocks = 3
	total, byWords := 0, 0
	check := func(d []byte) {
		want, got, words := commonBytes(d, 1, blocks), commonBlocks(d, 1, blocks), commonWords(d, 1, blocks)
		if got > want || words > got { // words may take what is after a mark for one, too
			t.Fatalf("commonBlocks(%q) = %d, by words %d, want %d", d, got, words, want)
		}
		total += want
		byWords += words
	}
	text := func() []byte { return bytes.Repeat([]byte("a"), 1+blocks*blockBytes) }
	for pair := range 1 << 16 {
		for _, before := range []byte{'a', '\\'} {
			d := text()
			copy(d[pair%(len(d)-2):], []byte{before, byte(pair >> 8), byte(pair)})
			check(d)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	pieces := []string{`\n`, `\t`, `\"`, `\\`, `\]`, `"#`, "no", "tu", "\x1f", "\x20", "\x80", "\xdc", "\xa2", "\xff", "\\\x81"}
	for range 100_000 {
		d := text()
		for range random.IntN(6) {
			copy(d[random.IntN(len(d)):], pieces[random.IntN(len(pieces))])
		}
		check(d)
	}
	require.Greater(t, byWords, total*19/20, "by words, of so many")
}
