//go:build !linux

package process

import (
	"errors"
	"os"
	"os/exec"
)

// vLLM for CPUs is for Linux: this is so that the package compiles elsewhere.

func apart(*exec.Cmd) {}

func stop(p *os.Process) { _ = p.Signal(os.Interrupt) }

func kill(p *os.Process) error {
	if err := p.Kill(); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}
