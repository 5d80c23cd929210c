package envoyproxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrNotFound is wrapped by the error of Find.
var ErrNotFound = errors.New("envoy was not found")

// Find returns the path of an Envoy binary: what ENVOY_BIN names, envoy on PATH, or
// .venv/bin/envoy under one of the folders, where install-envoy.sh puts it.
func Find(folders ...string) (string, error) {
	if bin := os.Getenv("ENVOY_BIN"); bin != "" {
		path, err := exec.LookPath(bin)
		if err != nil {
			return "", fmt.Errorf("envoyproxy: ENVOY_BIN: %w", err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("envoy"); err == nil {
		return path, nil
	}
	for _, folder := range folders {
		if path, err := exec.LookPath(filepath.Join(folder, ".venv", "bin", "envoy")); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("envoyproxy: %w: set ENVOY_BIN, put envoy on PATH, or run examples/envoy/install-envoy.sh", ErrNotFound)
}

// Validate asks Envoy whether it would start with the configuration in a file.
func Validate(ctx context.Context, bin, path string) error {
	out, err := exec.CommandContext(ctx, bin, "--mode", "validate", "-c", path).CombinedOutput()
	if err != nil {
		return fmt.Errorf("envoyproxy: %s: %w\n%s", path, err, out)
	}
	return nil
}

// StartOptions of a Process.
type StartOptions struct {
	Bin       string     // see Find
	Bootstrap *Bootstrap // its listener may have port 0
	// Concurrency is the number of worker threads. Default: one for each core.
	Concurrency int
	// LogLevel is one of Envoy's. Default: warning.
	LogLevel string
	// Modules is the folder of dynamic modules. Default: none.
	Modules string
	// ModulesLogLevel is that of what they log, such as "info", in any case. Default: LogLevel.
	ModulesLogLevel string
	// Env is set beside this process's environment: NAME=value.
	Env []string
	// Args are further arguments.
	Args []string
	// Log gets what Envoy writes. Nil: it is kept, the last of it, for errors.
	Log io.Writer
}

// Process is a running Envoy. Stop it.
type Process struct {
	cmd      *exec.Cmd
	folder   string
	admin    string
	listener string
	tail     *tail

	done chan struct{} // closed when the process has ended
	err  error         // how; set before done is closed
	stop sync.Once
}

// startTime bounds how long Envoy may take to be ready.
const startTime = 20 * time.Second

// Start starts Envoy and returns when it serves, or an error with what it wrote.
func Start(ctx context.Context, o StartOptions) (*Process, error) {
	config, err := o.Bootstrap.JSON()
	if err != nil {
		return nil, fmt.Errorf("envoyproxy: %w", err)
	}
	folder, err := os.MkdirTemp("", "envoy")
	if err != nil {
		return nil, fmt.Errorf("envoyproxy: %w", err)
	}
	p := &Process{folder: folder, tail: &tail{to: o.Log}, done: make(chan struct{})}
	path := filepath.Join(folder, "envoy.json")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		os.RemoveAll(folder)
		return nil, fmt.Errorf("envoyproxy: %w", err)
	}
	level := o.LogLevel
	if level == "" {
		level = "warning"
	}
	args := []string{"-c", path, "--log-level", level, "--use-dynamic-base-id", "--admin-address-path", filepath.Join(folder, "admin")}
	if o.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(o.Concurrency))
	}
	if o.ModulesLogLevel != "" {
		args = append(args, "--component-log-level", "dynamic_modules:"+strings.ToLower(o.ModulesLogLevel))
	}
	p.cmd = exec.Command(o.Bin, append(args, o.Args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.tail, p.tail
	p.cmd.Env = append(os.Environ(), o.Env...)
	if o.Modules != "" {
		p.cmd.Env = append(p.cmd.Env, "ENVOY_DYNAMIC_MODULES_SEARCH_PATH="+o.Modules)
	}
	// A group of its own: Ctrl-C is for whoever started it, who then stops it; and
	// the binary may be started by a script.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		os.RemoveAll(folder)
		return nil, fmt.Errorf("envoyproxy: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := p.waitReady(ctx); err != nil {
		p.Stop()
		return nil, fmt.Errorf("envoyproxy: envoy did not start: %w\n%s", err, p.tail)
	}
	return p, nil
}

func (p *Process) waitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("its admin interface did not come up")
	for {
		if p.admin == "" {
			if data, err := os.ReadFile(filepath.Join(p.folder, "admin")); err == nil {
				p.admin = strings.TrimSpace(string(data))
			}
		} else if _, err := p.Admin(ctx, "/ready"); err != nil {
			last = err
		} else if p.listener == "" {
			last = p.findListener(ctx)
		} else {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %v", p.err)
		case <-ctx.Done():
			return last
		case <-tick.C:
		}
	}
}

// findListener asks at which address the first listener listens.
func (p *Process) findListener(ctx context.Context) error {
	data, err := p.Admin(ctx, "/listeners?format=json")
	if err != nil {
		return err
	}
	var list struct {
		Statuses []struct {
			Local struct {
				Socket struct {
					Address string `json:"address"`
					Port    int    `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	if len(list.Statuses) == 0 || list.Statuses[0].Local.Socket.Port == 0 {
		return errors.New("it has no listener")
	}
	s := list.Statuses[0].Local.Socket
	p.listener = fmt.Sprintf("http://%s:%d", s.Address, s.Port)
	return nil
}

// URL is where the first listener listens.
func (p *Process) URL() string { return p.listener }

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the process has ended, when it is Done: nil for an exit code of 0.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Admin returns the answer of the admin interface to a GET of path.
func (p *Process) Admin(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("admin%s: %s", path, resp.Status)
	}
	return body, err
}

// Stop ends the process, by force if it takes more than a few seconds, and removes
// its files.
func (p *Process) Stop() {
	p.stop.Do(func() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(3 * time.Second):
			syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
			<-p.done
		}
		os.RemoveAll(p.folder)
	})
}

// tail keeps the last of what was written, and passes it on.
type tail struct {
	to io.Writer

	mu   sync.Mutex
	kept []byte // guarded by mu
}

const tailBytes = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b...)
	if over := len(t.kept) - tailBytes; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	if t.to != nil {
		t.to.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}
