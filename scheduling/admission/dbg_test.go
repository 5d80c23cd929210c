package admission_test

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func TestDbg(t *testing.T) {
	for _, k := range []int{4, 5, 8} {
		for seed := range uint64(4) {
			f := newFleet(t, 8, seed, 2000, 1, 1)
			f.connect()
			for i := range f.places {
				f.places[i] = 1 + f.rnd.IntN(6)
			}
			if k < 8 {
				for i := range f.places {
					f.places[i] = 4
				}
			}
			f.wants = func(i, kk int) bool { return kk == 0 || i < k }
			next := time.Duration(0)
			worst := 0.0
			for f.now() < time.Minute {
				f.step(10 * time.Millisecond)
				worst = max(worst, math.Abs(f.served[0]-f.served[1]))
				if f.now() >= next {
					next += 15 * time.Second
					fmt.Print(int(f.served[0]-f.served[1]), " ")
				}
			}
			fmt.Println(k, seed, "worst", int(worst), "of", int(f.served[0]), "one", int(2*f.u+2000+f.e), "V", int(f.unheard()))
		}
	}
}
