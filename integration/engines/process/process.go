// Package process runs servers that have children of their own, and leaves none behind.
package process

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// Process is a server that was started.
type Process struct {
	process *os.Process
	ended   chan struct{}
}

// Start starts a command with more environment than this process has. What it prints goes
// to the file log, which begins anew. Close or Kill ends it.
func Start(log string, env []string, bin string, args ...string) (*Process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = out, out
	apart(cmd)
	p, started := &Process{ended: make(chan struct{})}, make(chan error)
	go func() {
		runtime.LockOSThread() // see apart
		defer close(p.ended)
		err := cmd.Start()
		p.process = cmd.Process
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	return p, nil
}

// Ended is closed at the end of the process.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process and its children at once, and waits for its end.
func (p *Process) Kill() error {
	err := kill(p.process)
	<-p.ended
	return err
}

// Close asks the process to end and waits for it; what is left of it after a while is
// killed.
func (p *Process) Close() error {
	stop(p.process)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
	}
	return p.Kill() // children may outlive it
}
