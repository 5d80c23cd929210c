package anchors_test

import (
	"context"
	"fmt"
	"os"

	"github.com/inferpick/inferpick/examples/simulator/anchors"
)

// Compare with everything that was published. It takes about a minute.
func ExampleRun() {
	failed, err := anchors.Run(context.Background(), os.Stdout, anchors.Options{
		Progress: func(done float64, what string) { fmt.Fprintf(os.Stderr, "%3.0f %% %s\n", 100*done, what) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if failed > 0 {
		fmt.Printf("%d anchors are off by more than their tolerance\n", failed)
	}
}
