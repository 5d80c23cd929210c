package epp

import (
	"os"
	"runtime"
)

// reserved is how much the heap may grow before memory is collected, beside what is
// in use: at 1,000 requests per second of a few kilobytes some seconds' worth.
const reserved = 128 << 20

// ReserveHeap makes the garbage collector wait until there is enough to collect. What a
// picker has in use is a few megabytes, so that by default it would collect several
// times a second, each time on all processors, and the slowest percent of requests
// would be those that met it. The process takes up to 128 MB more for it.
//
// It does nothing if GOGC or GOMEMLIMIT is set: then somebody has decided. It is for
// programs whose main work is the picker, and holds until release is called.
func ReserveHeap() (release func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	// The collector counts it as in use. As it is never written to, it takes no
	// memory; as it holds no pointers, it costs nothing to scan.
	room := make([]byte, reserved)
	return func() { runtime.KeepAlive(room) }
}
