package config

import (
	"encoding/json"
	"maps"
	"math"
)

// What the Inference Extension takes for granted about the prefix cache, and the
// default of plugins.PrefixOptions.BlockBytes.
const (
	bytesPerToken     = 4
	referenceBlock    = 16 * bytesPerToken
	defaultBlockBytes = 256
)

// Limits of plugins.PrefixOptions.BlockBytes.
const (
	blockGrain    = 64
	maxBlockBytes = 1 << 16
)

// prefixParameters turns parameters of the Inference Extension's
// prefix-cache-scorer into fields of plugins.PrefixOptions; those of ours stay.
// Figures in blocks are of bytes of prompt in the end: they are converted from the
// block size that goes with them, or the extension's default, to that of ours.
func (t *translation) prefixParameters(p fields) map[string]any {
	ours := maps.Clone(p.m)
	take := func(name string) int {
		delete(ours, name)
		n, _ := p.integer(name, 0, math.MaxInt32)
		return n // 0: the default, as there
	}
	set := func(name, from string, value int) {
		if ours[name] != nil {
			p.Failf(p.path, "has both, want one of %s and %s, which mean the same", from, name)
			return
		}
		ours[name] = value
	}

	theirs, block := referenceBlock, defaultBlockBytes // sizes in bytes
	if n, ok := ours["blockBytes"].(json.Number); ok {
		if i, err := n.Int64(); err == nil && i > 0 && i <= maxBlockBytes {
			theirs, block = int(i), int(i)
		}
	}
	sizes := []struct {
		name  string
		bytes int
	}{
		{"blockSizeTokens", bytesPerToken * take("blockSizeTokens")},
		{"blockSize", take("blockSize")},
		{"hashBlockSize", take("hashBlockSize")},
	}
	given := ""
	for _, size := range sizes {
		switch {
		case size.bytes == 0:
		case given != "":
			t.warn("%s has no effect here: %s is given", p.at(size.name), given)
		case size.bytes > maxBlockBytes:
			p.Failf(p.at(size.name), "is %d bytes of prompt, at 4 a token, want at most %d", size.bytes, maxBlockBytes)
			given = size.name
		default:
			given = size.name
			theirs = size.bytes
			block = (theirs + blockGrain - 1) / blockGrain * blockGrain
			if block != theirs {
				t.warn("%s is taken as %d bytes of prompt: blocks are multiples of %d here, and this is %d", p.at(given), block, blockGrain, theirs)
			}
			set("blockBytes", given, block)
		}
	}

	tokens, blocks := take("maxPrefixTokensToMatch"), take("maxPrefixBlocksToMatch")
	switch {
	case tokens > 0:
		set("maxPromptBlocks", "maxPrefixTokensToMatch", max(1, tokens*bytesPerToken/block))
		if blocks > 0 {
			t.warn("%s has no effect here: maxPrefixTokensToMatch is given", p.at("maxPrefixBlocksToMatch"))
		}
	case blocks > 0:
		set("maxPromptBlocks", "maxPrefixBlocksToMatch", max(1, blocks*theirs/block))
	}
	if n := take("lruCapacityPerServer"); n > 0 {
		set("capacityBlocks", "lruCapacityPerServer", max(1, n*theirs/block))
	}

	if v := p.get("autoTune"); v != nil {
		if _, ok := v.(bool); !ok {
			p.Want(false, p.at("autoTune"), v, "true or false")
		}
		t.warn("%s has no effect here: the size of a server's cache is that of its metrics, where they have it, and blocks are as declared", p.at("autoTune"))
	}
	if p.str("prefixMatchInfoProducerName") != "" {
		t.warn("%s has no effect here: the scorer has an index of its own", p.at("prefixMatchInfoProducerName"))
	}
	t.kvEvents(p)
	for _, name := range kvEventFields {
		delete(ours, name)
	}
	delete(ours, "mode")
	delete(ours, "autoTune")
	delete(ours, "prefixMatchInfoProducerName")
	return ours
}

// kvEventFields are those by which the prefix-cache-scorer of llm-d, in some versions, was
// to follow the events of the servers' caches.
var kvEventFields = []string{"indexerConfig", "kvEventsConfig", "tokenProcessorConfig"}

// kvEvents refuses them, as there is nothing here that would follow such events: another
// policy than was meant would decide.
func (t *translation) kvEvents(p fields) {
	asks := ""
	switch mode := p.str("mode"); mode {
	case "", "estimate":
		for _, name := range kvEventFields {
			if p.has(name) && asks == "" {
				asks = p.at(name)
			}
		}
	case "cache_tracking":
		asks = p.at("mode") + ": cache_tracking"
	default:
		p.Want(false, p.at("mode"), mode, "estimate")
	}
	if asks != "" {
		p.Failf(asks, "asks for KV events, which this picker does not follow; without, it knows by what it has sent where what is cached")
	}
}
