package prefixindex

// AnchorEvery is the distance in blocks between anchors.
const AnchorEvery = 16

// IsAnchor reports whether the block at a depth, counted from 1, is an anchor: one of the few blocks of a prompt
// by which others are told what an endpoint holds. Chained hashes make one say as much as all before it. The first
// blocks have more of them, since short prompts would have none.
func IsAnchor(depth int) bool {
	return depth%AnchorEvery == 0 || depth < AnchorEvery && depth > 0 && depth&(depth-1) == 0
}
