//go:build js || wasip1

package datastore

const nonblock = 0 // there are no named pipes
