package filewatch_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/filewatch"
)

// put makes a file as mv and editors do: in the place of the old one.
func put(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path+"~", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+"~", path))
}

func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// aged makes a file look as if it had been there for that long.
func aged(t testing.TB, path string, age time.Duration) {
	t.Helper()
	at := time.Now().Add(-age)
	require.NoError(t, os.Chtimes(path, at, at))
}

// look returns what a look says: the contents of a new version, "same" or the error.
func look(read func() (*filewatch.Version, error)) string {
	v, err := read()
	switch {
	case err != nil:
		return "error: " + err.Error()
	case v == nil:
		return "same"
	}
	var all []string
	for _, f := range v.Files {
		text := filepath.Base(f.Name) + "=" + string(f.Data)
		if f.Err != nil {
			text += f.Err.Error()
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestOneFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	w := filewatch.New(filewatch.Options{Paths: []string{path}})
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"none", func() {}, "error: stat " + path + ": no such file or directory"},
		{"there", func() { write(t, path, "1") }, "f=1"},
		{"again", func() {}, "same"},
		{"the same size at the same time", func() { write(t, path, "2") }, "f=2"},
		{"long ago", func() { aged(t, path, time.Hour) }, "same"},
		{"and again", func() {}, "same"},
		{"another in its place, as old", func() { put(t, path, "3"); aged(t, path, time.Hour) }, "f=3"},
		{"the same in its place", func() { put(t, path, "3") }, "same"},
		{"longer in place, as old", func() { write(t, path, "33"); aged(t, path, time.Hour) }, "f=33"},
		{"emptied", func() { write(t, path, "") }, "f="},
		{"gone", func() { require.NoError(t, os.Remove(path)) }, "error: stat " + path + ": no such file or directory"},
		{"back as it was", func() { write(t, path, "") }, "f="},
		{"a directory", func() { require.NoError(t, os.Remove(path)); require.NoError(t, os.Mkdir(path, 0o700)) },
			"error: read " + path + ": want a regular file, this is one of type directory"},
	} {
		step.do()
		require.Equal(t, step.want, look(w.Look), step.name)
	}
}

// What stamps cannot tell apart Read does, and Forget makes all of it new.
func TestReadAndForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	at := time.Now().Add(-time.Hour)
	w := filewatch.New(filewatch.Options{Paths: []string{path}})
	write(t, path, "1")
	require.NoError(t, os.Chtimes(path, at, at))
	require.Equal(t, "f=1", look(w.Look))
	write(t, path, "2")
	require.NoError(t, os.Chtimes(path, at, at))
	require.Equal(t, "same", look(w.Look))
	require.Equal(t, "f=2", look(w.Read))
	require.Equal(t, "same", look(w.Read))
	w.Forget()
	require.Equal(t, "f=2", look(w.Look))
}

// A volume made of a ConfigMap: files are links through ..data, which is swapped, and the
// old version is removed.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	version := func(name string, files map[string]string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, "..v"+name), 0o700))
		for file, text := range files {
			write(t, filepath.Join(dir, "..v"+name, file), text)
			aged(t, filepath.Join(dir, "..v"+name, file), time.Hour)
		}
		before, _ := os.Readlink(filepath.Join(dir, "..data"))
		require.NoError(t, os.Symlink("..v"+name, filepath.Join(dir, "..tmp")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
		if before != "" {
			require.NoError(t, os.RemoveAll(filepath.Join(dir, before)))
		}
	}
	version("1", map[string]string{"a.yaml": "1", "b.yaml": "1"})
	for _, file := range []string{"a.yaml", "b.yaml"} {
		require.NoError(t, os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "c.yaml"), 0o700))
	write(t, filepath.Join(dir, ".hidden.yaml"), "x")
	write(t, filepath.Join(dir, "note.txt"), "x")

	whole := filewatch.New(filewatch.Options{Paths: []string{dir}, Extensions: []string{".yaml"}})
	pair := filewatch.New(filewatch.Options{Paths: []string{filepath.Join(dir, "b.yaml"), filepath.Join(dir, "a.yaml")}})
	require.Equal(t, "a.yaml=1 b.yaml=1", look(whole.Look))
	require.Equal(t, "b.yaml=1 a.yaml=1", look(pair.Look))
	require.Equal(t, "same", look(whole.Look))
	require.Equal(t, "same", look(pair.Look))
	version("2", map[string]string{"a.yaml": "2", "b.yaml": "1"})
	require.Equal(t, "a.yaml=2 b.yaml=1", look(whole.Look))
	require.Equal(t, "b.yaml=1 a.yaml=2", look(pair.Look))
	version("3", map[string]string{"a.yaml": "2", "b.yaml": "1"})
	require.Equal(t, "same", look(whole.Look))
	version("4", map[string]string{"a.yaml": "2"})
	require.Contains(t, look(whole.Look), "no such file", "a link that leads nowhere is a file that cannot be read")
	require.Contains(t, look(pair.Look), "error: ")
	require.Equal(t, "same", look(whole.Look))
	version("5", map[string]string{"a.yaml": "2", "b.yaml": "3"})
	require.Equal(t, "a.yaml=2 b.yaml=3", look(whole.Look))
	require.Equal(t, "b.yaml=3 a.yaml=2", look(pair.Look))
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	a := filepath.Join(dir, "a.yaml")
	w := filewatch.New(filewatch.Options{Paths: []string{dir, a}, Extensions: []string{".yaml", ".yml"}, MaxBytes: 10, Bound: "MaxBytes"})
	require.Equal(t, "error: read "+dir+": directory has no file *.yaml, *.yml", look(w.Look))
	write(t, a, "1")
	require.Equal(t, "a.yaml=1", look(w.Look), "a file that is named twice is read once")
	aged(t, a, time.Hour)
	require.Equal(t, "same", look(w.Look))
	b := filepath.Join(dir, "b.yml")
	write(t, b, "2")
	aged(t, b, time.Hour)
	require.Equal(t, "a.yaml=1 b.yml=2", look(w.Look))
	require.NoError(t, os.Rename(b, filepath.Join(dir, "0.yml")))
	require.Equal(t, "0.yml=2 a.yaml=1", look(w.Look))
	write(t, b, strings.Repeat("x", 9))
	require.Equal(t, "error: read "+b+": more than 10 bytes (MaxBytes)", look(w.Look))
	_, err := w.Look()
	require.ErrorIs(t, err, filewatch.ErrTooLarge)
	require.NoError(t, os.Remove(b))
	require.Equal(t, "0.yml=2 a.yaml=1", look(w.Look))
}

// A file that is being written is left alone for one look, and one that never rests is read.
func TestQuiet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	synctest.Test(t, func(t *testing.T) {
		w := filewatch.New(filewatch.Options{Paths: []string{path}, Quiet: 50 * time.Millisecond})
		half := func(text string) {
			write(t, path, text)
			aged(t, path, 10*time.Millisecond)
		}
		half("ha")
		require.Equal(t, "f=ha", look(w.Look), "the first look cannot wait")
		half("half")
		require.Equal(t, "same", look(w.Look))
		half("half and half")
		require.Equal(t, "f=half and half", look(w.Look), "it waits once")
		half("whole")
		require.Equal(t, "same", look(w.Look))
		require.Equal(t, "f=whole", look(w.Read), "Read does not wait")
		half("more")
		time.Sleep(50 * time.Millisecond)
		require.Equal(t, "f=more", look(w.Look))
	})
}

func TestEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		wake := make(chan struct{}, 1)
		time.AfterFunc(1500*time.Millisecond, func() { wake <- struct{}{} })
		start := time.Now()
		var at []time.Duration
		filewatch.Every(ctx, time.Second, wake, func() { at = append(at, time.Since(start)) })
		require.Empty(t, cmp.Diff([]time.Duration{0, time.Second, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second}, at))
		require.Equal(t, 3500*time.Millisecond, time.Since(start))
	})
}

// Files that change all the time are read whole or not at all.
func TestWholeOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, strings.Repeat("a", 1<<16))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			put(t, path, strings.Repeat(string(rune('a'+i%26)), 1<<16))
		}
	}()
	w := filewatch.New(filewatch.Options{Paths: []string{path}})
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		v, err := w.Read()
		if err != nil {
			require.ErrorContains(t, err, "changed during each of 10 attempts")
			continue
		}
		if v != nil {
			data := string(v.Files[0].Data)
			require.Equal(t, strings.Repeat(data[:1], 1<<16), data)
		}
	}
}

// BenchmarkLook is a look at a file that has not changed.
func BenchmarkLook(b *testing.B) {
	path := filepath.Join(b.TempDir(), "f")
	write(b, path, strings.Repeat("x", 1<<20))
	aged(b, path, time.Hour)
	w := filewatch.New(filewatch.Options{Paths: []string{path}})
	_, err := w.Look()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if v, err := w.Look(); v != nil || err != nil {
			b.Fatal(v, err)
		}
	}
}
