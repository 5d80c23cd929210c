//go:build js || wasip1

package filewatch

const nonblock = 0 // there are no named pipes
