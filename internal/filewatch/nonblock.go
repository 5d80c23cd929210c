//go:build !js && !wasip1

package filewatch

import "syscall"

// nonblock opens a named pipe without waiting for somebody at its other end.
const nonblock = syscall.O_NONBLOCK
