package plugins

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/inferpick/inferpick/internal/prefixindex"
)

// kind distinguishes the entries of a stickTable. It is the last bit of their keys.
type kind byte

const (
	sessionKind kind = iota
	answerKind
)

// kinds is a set of them.
type kinds uint8

const (
	answersOnly   kinds = 1 << answerKind
	bothKinds     kinds = 1<<sessionKind | 1<<answerKind
	longestHashed       = 512 // bytes of a name; of longer ones a short hash is hashed
)

// has reports whether a key is of a kind in the set.
func (k kinds) has(key uint64) bool { return k>>(key&1)&1 == 1 }

// keyOf returns the hash of a name, the same in all gateways. Those of different tenants differ. Names are
// chosen by clients, who know how it is computed: it is a cryptographic hash, so that none finds a name
// that has the key of another's session. That a name of more than 512 bytes has the key of another such
// name is possible: whoever uses those is alone to blame.
func keyOf(k kind, tenant, name string) uint64 {
	var room [1 + 2*(binary.MaxVarintLen64+longestHashed)]byte
	b := append(room[:0], byte(k))
	b = appendName(b, tenant)
	b = appendName(b, name)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])&^1 | uint64(k)
}

// appendName appends a name with its length.
func appendName(b []byte, name string) []byte {
	b = binary.AppendUvarint(b, uint64(len(name)))
	if len(name) > longestHashed {
		return binary.BigEndian.AppendUint64(b, prefixindex.Seed(name))
	}
	return append(b, name...)
}
