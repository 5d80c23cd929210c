package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/inferpick/inferpick/examples/envoy/envoyproxy"
	"github.com/inferpick/inferpick/examples/envoy/internal/samplepool"
)

// contender is one way to choose a server.
type contender struct {
	name   string
	envoy  *envoyproxy.Process
	picker *child // nil: Envoy chooses
}

// bench is all that is measured, started.
type bench struct {
	folder     string
	servers    []*server
	contenders []*contender
	client     *http.Client
}

const serverCount = 4

func newBench(ctx context.Context, bin, bootstrap string, workers, procs int) (b *bench, err error) {
	b = &bench{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024, WriteBufferSize: 64 << 10, DisableCompression: true}}}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.folder, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	var addresses []string
	for range serverCount {
		s, err := startServer()
		if err != nil {
			return nil, err
		}
		b.servers, addresses = append(b.servers, s), append(addresses, s.address)
	}
	config := filepath.Join(b.folder, "config.yaml")
	if err := os.WriteFile(config, []byte(samplepool.YAML(addresses)), 0o600); err != nil {
		return nil, err
	}
	for _, role := range []string{"round robin", "empty", "picker"} {
		c := &contender{name: map[string]string{"empty": "empty picker", "picker": "inferpick"}[role]}
		if c.name == "" {
			c.name = role
		}
		b.contenders = append(b.contenders, c)
		boot, err := envoyproxy.ReadBootstrap(bootstrap)
		if err != nil {
			return nil, err
		}
		if err := fit(boot, addresses); err != nil {
			return nil, err
		}
		if role == "round robin" {
			err = roundRobin(boot)
		} else {
			if c.picker, err = startChild(ctx, role, config, procs); err != nil {
				return nil, err
			}
			err = boot.Picker(c.picker.address)
		}
		if err != nil {
			return nil, err
		}
		if c.envoy, err = envoyproxy.Start(ctx, envoyproxy.StartOptions{Bin: bin, Bootstrap: boot, Concurrency: workers}); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() {
	for _, c := range b.contenders {
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

// measure runs a case with every contender in turns and prints the best round of each.
func (b *bench) measure(ctx context.Context, c load, rounds int, duration time.Duration, profile string) error {
	best := make([]*result, len(b.contenders))
	for round := range rounds {
		for i, who := range b.contenders {
			if who.picker != nil && profile != "" && round == rounds-1 {
				who.picker.profile(profile+"."+who.picker.role, duration)
			}
			r, err := b.once(ctx, c, who, duration)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, who.name, err)
			}
			if best[i] == nil || r.better(best[i], c) {
				best[i] = r
			}
		}
	}
	fmt.Println(c.name)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\trequests/s\tp50 ms\tp99 ms\tadded p50\tadded p99\tpicker CPU µs\tEnvoy CPU µs\t")
	for i, r := range best {
		fmt.Fprintf(w, "%s\t%.0f\t%.2f\t%.2f\t", b.contenders[i].name, r.rate(), ms(r.quantile(.5)), ms(r.quantile(.99)))
		if i == 0 {
			fmt.Fprint(w, "\t\t")
		} else {
			fmt.Fprintf(w, "%.2f\t%.2f\t", ms(r.quantile(.5)-best[0].quantile(.5)), ms(r.quantile(.99)-best[0].quantile(.99)))
		}
		if b.contenders[i].picker == nil {
			fmt.Fprint(w, "\t")
		} else {
			fmt.Fprintf(w, "%.0f\t", r.perRequest(r.pickerCPU))
		}
		fmt.Fprintf(w, "%.0f\t\n", r.perRequest(r.envoyCPU))
	}
	w.Flush()
	fmt.Println()
	return nil
}

// once measures one contender.
func (b *bench) once(ctx context.Context, c load, who *contender, duration time.Duration) (*result, error) {
	gen := &generator{load: c, client: b.client, url: who.envoy.URL() + "/v1/chat/completions", body: c.body()}
	if _, err := gen.run(ctx, duration/5); err != nil { // connections, caches
		return nil, err
	}
	pids := []int{who.envoy.PID()}
	if who.picker != nil {
		pids = append(pids, who.picker.pid())
	}
	before, err := cpuOf(pids)
	if err != nil {
		return nil, err
	}
	r, err := gen.run(ctx, duration)
	if err != nil {
		return nil, err
	}
	after, err := cpuOf(pids)
	if err != nil {
		return nil, err
	}
	r.envoyCPU = after[0] - before[0]
	if len(pids) > 1 {
		r.pickerCPU = after[1] - before[1]
	}
	return r, nil
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
