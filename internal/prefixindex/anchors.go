package prefixindex

import (
	"math/bits"
	"slices"
)

// This file is which blocks of a prompt are anchors: the few by which others are told what an endpoint holds.
// Chained hashes make one of them say as much as all before it. They are 4 blocks apart, so that a turn of a
// conversation is told from what all conversations begin with, and farther apart the deeper they are: about 32
// between a depth and twice that.

// IsAnchor reports whether the block at a depth, counted from 1, is an anchor.
func IsAnchor(depth int) bool {
	return depth > 0 && (depth < 3 || depth%anchorStep(depth) == 0)
}

func anchorStep(depth int) int { return max(4, 1<<bits.Len(uint(depth))>>6) }

// mostAnchored is the depth of the deepest anchor: 16 MiB of prompt in blocks of 256 bytes.
const mostAnchored = 1 << 16

// anchors are the depths of all of them.
var anchors = func() (d []int) {
	for depth := 1; depth <= mostAnchored; depth++ {
		if IsAnchor(depth) {
			d = append(d, depth)
		}
	}
	return d
}()

// Anchors returns the depths of the anchors among the first blocks of a prompt, the shallowest first. They are not
// to be changed.
func Anchors(blocks int) []int {
	n, found := slices.BinarySearch(anchors, blocks)
	if found {
		n++
	}
	return anchors[:n]
}
