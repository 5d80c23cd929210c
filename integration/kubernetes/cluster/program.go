package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// program returns the path of the API server, or an error that says how to get it.
var program = sync.OnceValues(func() (string, error) {
	if runtime.GOOS != "linux" {
		return "", errors.New("cluster: pods have addresses in 127.0.0.0/8, all of which only Linux has")
	}
	_, here, _, _ := runtime.Caller(0)
	build := filepath.Join(filepath.Dir(here), "..", "apiserver", "build.sh")
	out, err := exec.Command(build, "-path").Output()
	if err != nil {
		return "", fmt.Errorf("cluster: %s -path: %w", build, err)
	}
	path := strings.TrimSpace(string(out))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cluster: the API server is not built (%s): run %s", path, build)
	}
	return path, nil
})
