package process

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// apart gives a command a process group of its own, as engines have children, and has it
// stopped should the thread that starts it end: tests may be killed.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// stop asks the group of p to end.
func stop(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGTERM) }

// kill ends what is left of the group of p.
func kill(p *os.Process) error {
	if err := syscall.Kill(-p.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
