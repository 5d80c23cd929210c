package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	quiet        = 2 * time.Second        // before the first word of progress
	liveInterval = 200 * time.Millisecond // between words on a terminal
	lineInterval = 5 * time.Second        // and elsewhere
)

// progress tells how far the work is, and how long the rest may take, once it has
// taken a while. On a terminal it is one line that is written over and over. Its
// methods may be called by several goroutines.
type progress struct {
	out     io.Writer
	live    bool
	weights []float64       // of the runs: what they cost, relative to each other
	parts   []atomic.Uint64 // of each run that is done, as float64 bits
	start   time.Time

	stop func() // and wait
}

// watch begins to tell about the runs, until end is called.
func watch(out io.Writer, runs []planned) *progress {
	p := newProgress(out)
	p.parts = make([]atomic.Uint64, len(runs))
	for _, r := range runs {
		p.weights = append(p.weights, max(r.level.rate, 1))
	}
	p.begin(func(elapsed time.Duration) string { return p.line(elapsed) })
	return p
}

// watchTitle tells that something of unknown length goes on.
func watchTitle(out io.Writer, title string) *progress {
	p := newProgress(out)
	p.begin(func(elapsed time.Duration) string {
		return fmt.Sprintf("%s, %v so far", title, elapsed.Round(time.Second))
	})
	return p
}

// watchPart tells about work that reports itself how much of it is done, 0..1, and
// what goes on.
func watchPart(out io.Writer) (p *progress, tell func(done float64, what string)) {
	p = newProgress(out)
	var mu sync.Mutex
	var part float64
	var now string
	p.begin(func(elapsed time.Duration) string {
		mu.Lock()
		defer mu.Unlock()
		return percentDone(part, elapsed) + ": " + now
	})
	return p, func(done float64, what string) {
		mu.Lock()
		defer mu.Unlock()
		part, now = done, what
	}
}

func newProgress(out io.Writer) *progress {
	p := &progress{out: out, start: time.Now()}
	if file, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := file.Stat()
		p.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// begin starts the goroutine that writes; end stops it.
func (p *progress) begin(line func(elapsed time.Duration) string) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	interval := lineInterval
	if p.live {
		interval = liveInterval
	}
	wg.Go(func() {
		next := time.NewTimer(quiet)
		defer next.Stop()
		shown := false
		for {
			select {
			case <-next.C:
				p.write(line(time.Since(p.start)))
				shown = true
				next.Reset(interval)
			case <-done:
				if shown && p.live {
					fmt.Fprint(p.out, "\r\x1b[K")
				}
				return
			}
		}
	})
	p.stop = sync.OnceFunc(func() { close(done); wg.Wait() })
}

func (p *progress) end() { p.stop() }

func (p *progress) write(line string) {
	if p.live {
		fmt.Fprintf(p.out, "\r%s\x1b[K", line)
	} else {
		fmt.Fprintln(p.out, line)
	}
}

// run returns the function that tells how much of run i is done, 0..1.
func (p *progress) run(i int) func(part float64) {
	return func(part float64) { p.parts[i].Store(math.Float64bits(part)) }
}

// line is the progress in words.
func (p *progress) line(elapsed time.Duration) string {
	var done, all float64
	ended := 0
	for i, w := range p.weights {
		part := math.Float64frombits(p.parts[i].Load())
		if part == 1 {
			ended++
		}
		done, all = done+w*part, all+w
	}
	return fmt.Sprintf("%d of %d runs, %s", ended, len(p.weights), percentDone(done/all, elapsed))
}

// percentDone says how much is done and, once there is something to go by, how long
// the rest takes at that pace.
func percentDone(part float64, elapsed time.Duration) string {
	s := fmt.Sprintf("%.0f %%", math.Floor(100*part))
	if part > 0.01 {
		left := time.Duration(float64(elapsed) * (1 - part) / part)
		s += fmt.Sprintf(", about %v left", left.Round(time.Second))
	}
	return s
}
