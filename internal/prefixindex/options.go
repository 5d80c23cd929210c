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

// Options configure an Index. The zero value works.
type Options struct {
	// BlockBytes is the size of a block of prompt, a multiple of 64 from 64 to 65,536. Smaller
	// blocks find shorter matches and use more memory. Default 256, about 64 tokens of English.
	BlockBytes int

	// MaxBytes bounds the memory of the whole index; beyond it the least recently used entries of any
	// endpoint are evicted. At least 1 MiB. Default 256 MiB.
	MaxBytes int64

	// DefaultCapacity is the capacity, in blocks, of endpoints for which SetCapacity was not called.
	// Observe corrects a value that is too large, but not one that is too small. Default: 500,000
	// tokens, the cache of an 8-billion-parameter model on an 80 GB accelerator, which is 7,812 with
	// the defaults of BlockBytes and BytesPerToken.
	DefaultCapacity int

	// MaxPromptBlocks bounds how many blocks of a prompt are recorded. Default 8,192, 2 MiB in
	// blocks of 256 bytes.
	MaxPromptBlocks int

	// BytesPerToken converts capacities in tokens, above 0 to 64. Default 4.
	BytesPerToken float64
}

// Validate checks o. Errors name fields as in the JSON of plugins.PrefixOptions, where they are set.
func (o Options) Validate() error {
	_, err := o.complete()
	return err
}

// complete returns o with defaults filled in, or an error that lists all invalid options.
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
	check.Default(&c, "capacityBlocks", &o.DefaultCapacity, o.blocks(unknownCacheTokens), 1, MaxCapacity)
	return o, c.Err()
}

// blocks converts tokens to whole blocks, at least 1.
func (o Options) blocks(tokens int) int {
	b := float64(tokens) * o.BytesPerToken / float64(o.BlockBytes)
	return int(min(max(b, 1), MaxCapacity))
}
