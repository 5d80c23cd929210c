package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/internal/samplepool"
)

// bench is all that is measured, started.
type bench struct {
	setup
	servers []*server
	client  *http.Client
}

const serverCount = 4

func newBench(ctx context.Context, s setup) (b *bench, err error) {
	b = &bench{setup: s, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, WriteBufferSize: 64 << 10, DisableCompression: true}}}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.folder, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	for range serverCount {
		s, err := startServer()
		if err != nil {
			return nil, err
		}
		b.servers, b.addresses = append(b.servers, s), append(b.addresses, s.address)
	}
	b.config = filepath.Join(b.folder, "config.yaml")
	if err := os.WriteFile(b.config, []byte(samplepool.YAML(b.addresses)), 0o600); err != nil {
		return nil, err
	}
	return b, b.start(ctx)
}

func (b *bench) close() {
	for _, c := range b.started {
		if c.envoy != nil {
			c.envoy.Stop()
		}
		if c.picker != nil {
			c.picker.stop()
		}
	}
	for _, s := range b.servers {
		s.close()
	}
	os.RemoveAll(b.folder)
}

// measure runs a case with every contender in turns and returns the best round of each.
func (b *bench) measure(ctx context.Context, c load, rounds int, duration time.Duration, profile string) ([]*result, error) {
	best := make([]*result, len(b.started))
	for round := range rounds {
		for i, who := range b.started {
			file := ""
			if round == rounds-1 {
				file = profile
			}
			r, err := b.once(ctx, c, who, duration, file)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", c.name, who.name, err)
			}
			if best[i] == nil || r.better(best[i], c) {
				best[i] = r
			}
		}
	}
	return best, nil
}

// once measures one contender.
func (b *bench) once(ctx context.Context, c load, who *contender, duration time.Duration, profile string) (*result, error) {
	gen := &generator{load: c, client: b.client, url: who.envoy.URL() + "/v1/chat/completions", body: c.body()}
	if _, err := gen.run(ctx, duration/5); err != nil { // connections, caches
		return nil, err
	}
	profiled := who.profile(profile, duration)
	before, err := who.cpu()
	if err != nil {
		return nil, err
	}
	r, err := gen.run(ctx, duration)
	if err != nil {
		return nil, err
	}
	after, err := who.cpu()
	if err != nil {
		return nil, err
	}
	r.envoyCPU, r.pickerCPU = after.envoy-before.envoy, after.picker-before.picker
	return r, <-profiled
}
