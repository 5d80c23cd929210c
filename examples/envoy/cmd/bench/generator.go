package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// generator sends one load to one URL.
type generator struct {
	load
	client *http.Client
	url    string
	body   []byte
}

// result is what came of one measurement.
type result struct {
	latencies           []time.Duration // sorted
	took                time.Duration
	pickerCPU, envoyCPU time.Duration
}

func (r *result) rate() float64 { return float64(len(r.latencies)) / r.took.Seconds() }

func (r *result) quantile(q float64) time.Duration {
	return r.latencies[min(int(q*float64(len(r.latencies))), len(r.latencies)-1)]
}

// cpu is that of all processes.
func (r *result) cpu() time.Duration { return r.pickerCPU + r.envoyCPU }

// perRequest returns microseconds of CPU.
func (r *result) perRequest(cpu time.Duration) float64 {
	return float64(cpu.Microseconds()) / float64(len(r.latencies))
}

// better: at a given rate by the median, otherwise by the throughput.
func (r *result) better(than *result, l load) bool {
	if l.rate > 0 {
		return r.quantile(.5) < than.quantile(.5)
	}
	return r.rate() > than.rate()
}

// run sends for the duration. Latency at a given rate is from the time when a request
// was due, so that a stall counts for all that wait for it.
func (g *generator) run(ctx context.Context, duration time.Duration) (*result, error) {
	due := make(chan time.Time, 1<<16)
	var (
		mu  sync.Mutex
		all []time.Duration
	)
	group, sending := errgroup.WithContext(ctx)
	start := time.Now()
	for range g.concurrency {
		group.Go(func() error {
			var own []time.Duration
			for at := range due {
				if g.rate == 0 {
					at = time.Now()
				}
				if err := g.send(sending); err != nil {
					return err
				}
				own = append(own, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			return nil
		})
	}
	g.pace(sending, due, start, duration)
	close(due)
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.Sort(all)
	return &result{latencies: all, took: time.Since(start)}, nil
}

// pace says when requests are due.
func (g *generator) pace(ctx context.Context, due chan<- time.Time, start time.Time, duration time.Duration) {
	for n := 0; ; n++ {
		at := start
		if g.rate > 0 {
			at = start.Add(time.Duration(float64(n) / g.rate * 1e9))
			if wait := time.Until(at); wait > 0 {
				time.Sleep(wait)
			}
		}
		if time.Since(start) >= duration || ctx.Err() != nil {
			return
		}
		if g.rate > 0 {
			due <- at
			continue
		}
		select {
		case due <- at:
			for len(due) > g.concurrency { // enough for everybody
				time.Sleep(time.Millisecond)
			}
		case <-ctx.Done():
		}
	}
}

func (g *generator) send(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(g.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}
