package deploy_test

import (
	"bufio"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestImage does what the Dockerfile says, without Docker: it builds the picker with its
// commands from what it copies, and looks at what comes out.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the picker")
	}
	steps := dockerfile(t, filepath.Join(root, "examples", "envoy", "Dockerfile"))
	source, out := t.TempDir(), t.TempDir()
	copyContext(t, source)

	env := os.Environ()
	for _, s := range steps {
		switch s.name {
		case "ARG", "ENV":
			for _, setting := range strings.Fields(s.text) {
				if strings.Contains(setting, "=") {
					env = append(env, setting)
				}
			}
		case "RUN":
			cmd := exec.Command("sh", "-c", strings.ReplaceAll(s.text, "/out/", out+"/"))
			cmd.Dir, cmd.Env = source, append(env, "VERSION=v9.8.7", "COMMIT=0123abc")
			text, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s\n%s", s.text, text)
		}
	}
	requireStatic(t, filepath.Join(out, "epp"))
	for args, want := range map[string]string{"-h": "Usage: epp", "-version": "epp v9.8.7, commit 0123abc, go1."} {
		text, err := exec.Command(filepath.Join(out, "epp"), args).CombinedOutput()
		require.NoError(t, err)
		require.Contains(t, string(text), want)
	}

	last := steps[slices.IndexFunc(steps, func(s step) bool { return s.name == "FROM" && s.text == "scratch" }):]
	require.Contains(t, last, step{"USER", "65532:65532"})
	require.Contains(t, last, step{"ENTRYPOINT", `["/epp"]`})
	require.Contains(t, last, step{"COPY", "--from=build /out/epp /epp"})
}

// requireStatic wants a program that needs nothing of the system it runs on.
func requireStatic(t *testing.T, file string) {
	t.Helper()
	program, err := elf.Open(file)
	require.NoError(t, err)
	defer program.Close()
	for _, segment := range program.Progs {
		require.NotEqual(t, elf.PT_INTERP, segment.Type, "it has a dynamic linker")
	}
	libraries, err := program.ImportedLibraries()
	require.NoError(t, err)
	require.Empty(t, libraries)
	info, err := buildinfo.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "0", setting(info, "CGO_ENABLED"))
	require.Equal(t, "true", setting(info, "-trimpath"))
	stat, err := os.Stat(file)
	require.NoError(t, err)
	t.Logf("%.1f MB, %d modules", float64(stat.Size())/1e6, len(info.Deps))
}

func setting(info *buildinfo.BuildInfo, key string) string {
	for _, s := range info.Settings {
		if s.Key == key {
			return s.Value
		}
	}
	return ""
}

// step is an instruction of a Dockerfile.
type step struct{ name, text string }

// dockerfile reads instructions, without the mounts of RUN, which only save time.
func dockerfile(t *testing.T, file string) (steps []step) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	lines := bufio.NewScanner(bytes.NewReader(bytes.ReplaceAll(text, []byte("\\\n"), nil)))
	for lines.Scan() {
		name, rest, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		words := strings.Fields(rest)
		for name == "RUN" && strings.HasPrefix(words[0], "--mount=") {
			words = words[1:]
		}
		steps = append(steps, step{name, strings.Join(words, " ")})
	}
	return steps
}

// copyContext copies what "COPY . ." does: the files of the tree that Dockerfile.dockerignore
// leaves.
func copyContext(t *testing.T, to string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "examples", "envoy", "Dockerfile.dockerignore"))
	require.NoError(t, err)
	var ignored []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			ignored = append(ignored, line)
		}
	}
	cmd := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	require.NoError(t, err)
	for _, name := range strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil || !info.Mode().IsRegular() || slices.ContainsFunc(ignored, func(pattern string) bool { return ignores(t, pattern, name) }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		file := filepath.Join(to, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, text, 0o644))
	}
}

// ignores reports whether a pattern of a .dockerignore is for a file: a path and all under it,
// or **/ and the pattern of a name.
func ignores(t *testing.T, pattern, name string) bool {
	t.Helper()
	if base, ok := strings.CutPrefix(pattern, "**/"); ok {
		match, err := path.Match(base, path.Base(name))
		require.NoError(t, err)
		return match
	}
	return name == pattern || strings.HasPrefix(name, pattern+"/")
}
