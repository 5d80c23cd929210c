package instance

import (
	"os"
	"runtime"
)

// spareProcs are for what decides, collects garbage or serves metrics while all workers are in hooks.
const spareProcs = 2

// fitProcs gives Go more processors than Envoy has workers, if nobody has decided. A worker in a hook takes one, and
// keeps it for a while; where none is free it waits, and with it all of its connections. Envoy has as many
// workers as the machine has threads, by default, whatever it may use of them.
func fitProcs() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), runtime.NumCPU()+spareProcs))
	}
}
