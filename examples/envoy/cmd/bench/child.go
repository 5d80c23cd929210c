package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// child is a picker in a process of its own.
type child struct {
	role             string
	cmd              *exec.Cmd
	address, metrics string
}

// startChild runs this program in a role. The first line it writes is its addresses.
func startChild(ctx context.Context, role, config string, procs int) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-role", role, "-config", config)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", procs))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		return nil, fmt.Errorf("the %s did not start: %w", role, err)
	}
	address, metrics, _ := strings.Cut(strings.TrimSpace(line), " ")
	return &child{role, cmd, address, metrics}, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) stop() {
	c.cmd.Process.Signal(syscall.SIGTERM)
	c.cmd.Wait()
}

// profile takes a CPU profile in the background.
func (c *child) profile(path string, duration time.Duration) {
	if c.metrics == "" {
		return
	}
	go func() {
		resp, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.metrics, max(int(duration.Seconds()), 1)))
		if err != nil {
			return
		}
		defer resp.Body.Close()
		f, err := os.Create(path)
		if err != nil {
			return
		}
		defer f.Close()
		io.Copy(f, resp.Body)
	}()
}

// cpuOf returns the CPU time that processes have used.
func cpuOf(pids []int) ([]time.Duration, error) {
	var out []time.Duration
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, fmt.Errorf("CPU time: %w", err)
		}
		// Fields 14 and 15; the second one, in parentheses, may hold blanks.
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		ticks := 0
		for _, f := range fields[11:13] {
			n, err := strconv.Atoi(f)
			if err != nil {
				return nil, fmt.Errorf("CPU time: %w", err)
			}
			ticks += n
		}
		out = append(out, time.Duration(ticks)*10*time.Millisecond)
	}
	return out, nil
}
