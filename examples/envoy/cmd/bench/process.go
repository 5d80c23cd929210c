package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what the processes of a contender have used.
type usage[T any] struct{ picker, envoy T }

// usageOf asks the kernel for a figure of a contender's processes. Without a picker it is zero.
func usageOf[T any](c *contender, read func(pid int) (T, error)) (u usage[T], err error) {
	if u.envoy, err = read(c.envoy.PID()); err == nil && c.picker != nil {
		u.picker, err = read(c.picker.pid())
	}
	return u, err
}

// cpu returns the CPU time that its processes have used.
func (c *contender) cpu() (usage[time.Duration], error) { return usageOf(c, cpuOf) }

// memory returns the most bytes that its processes have had resident at a time.
func (c *contender) memory() (usage[int64], error) { return usageOf(c, memoryOf) }

func cpuOf(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	// Fields 14 and 15; the second one, in parentheses, may hold blanks.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, fmt.Errorf("CPU time: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

func memoryOf(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kB, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kB << 10, err
		}
	}
	return 0, fmt.Errorf("memory: /proc/%d/status has no VmHWM", pid)
}

// profile begins to take a CPU profile into a file, to whose name that of the contender is added, and tells when
// it is done. It does nothing without a file, or where there are no profiles.
func (c *contender) profile(file string, duration time.Duration) <-chan error {
	done := make(chan error, 1)
	if file == "" || c.metrics == "" {
		done <- nil
		return done
	}
	go func() {
		done <- download(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.metrics, max(int(duration.Seconds()), 1)),
			file+"."+strings.NewReplacer(": ", "-", " ", "-").Replace(c.name))
	}()
	return done
}

func download(url, path string) error {
	resp, err := http.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(f, resp.Body)
	return err
}
