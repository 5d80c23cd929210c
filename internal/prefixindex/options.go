package prefixindex

import "fmt"

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

// complete fills in the defaults and checks the result.
func (o Options) complete() (Options, error) {
	if o.BlockBytes == 0 {
		o.BlockBytes = defaultBlockBytes
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxPromptBlocks == 0 {
		o.MaxPromptBlocks = defaultMaxPromptBlocks
	}
	if o.BytesPerToken == 0 {
		o.BytesPerToken = defaultBytesPerToken
	}
	if err := checkBlockBytes(o.BlockBytes); err != nil {
		return o, err
	}
	if o.MaxBytes < minMaxBytes {
		return o, fmt.Errorf("prefixindex: MaxBytes %d is below the minimum of %d", o.MaxBytes, minMaxBytes)
	}
	if !(o.BytesPerToken > 0 && o.BytesPerToken <= 64) { // also refuses NaN
		return o, fmt.Errorf("prefixindex: BytesPerToken %v is not in (0, 64]", o.BytesPerToken)
	}
	if o.MaxPromptBlocks < 0 || o.MaxPromptBlocks > 1<<30 {
		return o, fmt.Errorf("prefixindex: MaxPromptBlocks %d is not in 1 to %d", o.MaxPromptBlocks, 1<<30)
	}
	if o.DefaultCapacity < 0 || o.DefaultCapacity > maxCapacity {
		return o, fmt.Errorf("prefixindex: DefaultCapacity %d is not in 1 to %d", o.DefaultCapacity, maxCapacity)
	}
	if o.DefaultCapacity == 0 {
		o.DefaultCapacity = o.blocks(unknownCacheTokens)
	}
	return o, nil
}

// blocks returns how many whole blocks of prompt so many tokens make, at least 1.
func (o Options) blocks(tokens int) int {
	b := float64(tokens) * o.BytesPerToken / float64(o.BlockBytes)
	return int(min(max(b, 1), maxCapacity))
}
