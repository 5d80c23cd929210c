//go:build !purego

package jsonscan

// commonBlocks is commonWords in SSE2, which every amd64 has: four times as fast.
//
//go:noescape
func commonBlocks(d []byte, i, n int) int
