package prefixindex

import (
	"cmp"

	"github.com/inferpick/inferpick/internal/check"
)

const (
	defaultMaxBytes        = 256 << 20
	minMaxBytes            = 1 << 20
	defaultMaxPromptBlocks = 8192
	defaultBytesPerToken   = 4
	// unknownCacheTokens is the cache of an 8-billion-parameter model on an
	// 80 GB accelerator: about 64 GB left at 128 KiB a token.
	unknownCacheTokens = 500_000
)

// Options says how an Index cuts prompts and how much it may keep. The zero
// value works.
type Options struct {
	// BlockBytes is the size of a block of prompt, a multiple of 64 from 64 to
	// 65,536. Zero: 256, about 64 tokens of English. Smaller blocks see shorter
	// matches and cost more memory.
	BlockBytes int

	// MaxBytes bounds the memory of the whole index; beyond it, what was used
	// least recently on any endpoint goes first. At least 1 MiB. Zero: 256 MiB.
	MaxBytes int64

	// DefaultCapacity is how many blocks an endpoint is taken to hold while
	// nobody has called SetCapacity for it. Zero: as many as 500,000 tokens
	// take, which is 7,812 for the defaults of BlockBytes and BytesPerToken and
	// the cache of an 8-billion-parameter model on an 80 GB accelerator. Too
	// large a value is corrected by Observe, too small a one is not.
	DefaultCapacity int

	// MaxPromptBlocks bounds how many blocks of one prompt are recorded; what is
	// beyond is ignored. Zero: 8,192, that is 2 MiB in blocks of 256 bytes.
	MaxPromptBlocks int

	// BytesPerToken is how much prompt text makes one token, for capacities that
	// are told in tokens. Zero: 4. At most 64.
	BytesPerToken float64
}

// Validate checks o. Errors name fields as plugins.PrefixOptions does in JSON, which is where
// they are set.
func (o Options) Validate() error {
	_, err := o.complete()
	return err
}

// complete fills in the defaults and checks the result.
func (o Options) complete() (Options, error) {
	c := check.Checks{Package: "prefixindex"}
	o.BlockBytes = cmp.Or(o.BlockBytes, defaultBlockBytes)
	c.Want(checkBlockBytes(o.BlockBytes) == nil, "blockBytes", o.BlockBytes, "a multiple of %d from %d to %d, or 0 for the default %d",
		stripeBytes, minBlockBytes, maxBlockBytes, defaultBlockBytes)
	check.Default(&c, "maxBytes", &o.MaxBytes, defaultMaxBytes, minMaxBytes, 0)
	check.Default(&c, "maxPromptBlocks", &o.MaxPromptBlocks, defaultMaxPromptBlocks, 1, 1<<30)
	o.BytesPerToken = cmp.Or(o.BytesPerToken, defaultBytesPerToken)
	c.Want(o.BytesPerToken > 0 && o.BytesPerToken <= 64, "bytesPerToken", o.BytesPerToken, "above 0 and at most 64, or 0 for the default %d", defaultBytesPerToken)
	if c.Len() > 0 {
		return o, c.Err()
	}
	check.Default(&c, "capacityBlocks", &o.DefaultCapacity, o.blocks(unknownCacheTokens), 1, maxCapacity)
	return o, c.Err()
}

// blocks returns how many whole blocks of prompt so many tokens make, at least 1.
func (o Options) blocks(tokens int) int {
	b := float64(tokens) * o.BytesPerToken / float64(o.BlockBytes)
	return int(min(max(b, 1), maxCapacity))
}
