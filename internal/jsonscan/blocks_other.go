//go:build !amd64 || purego

package jsonscan

func commonBlocks(d []byte, i, n int) int { return commonWords(d, i, n) }
