package sharing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// blob is a SnapshotPart that keeps some bytes.
type blob struct {
	name string
	mu   sync.Mutex
	// guarded by mu
	data  []byte
	got   []byte
	age   time.Duration
	times int
	err   error
	panic bool
}

func (b *blob) SnapshotName() string { return b.name }

func (b *blob) AppendSnapshot(dst []byte, room int, _ time.Time) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.panic {
		panic("no")
	}
	return append(dst, b.data[:min(len(b.data), room)]...)
}

func (b *blob) Restore(snapshot []byte, age time.Duration, _ time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.panic {
		panic("no")
	}
	if b.err != nil {
		return b.err
	}
	b.got, b.age = bytes.Clone(snapshot), age
	b.times++
	return nil
}

func (b *blob) has() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.got)
}

// peerBlob is one that is asked of peers, too.
type peerBlob struct{ blob }

func (b *peerBlob) RestoreFromPeer(snapshot []byte, _ func(string) string, now time.Time) error {
	return b.Restore(snapshot, 0, now)
}

func text(name string, n int) []byte {
	return []byte(strings.Repeat(name+" ", n/len(name)+1)[:n])
}

func newGroup(t testing.TB, o Options, scopes ...Scope) *Group {
	t.Helper()
	g, err := New(o)
	require.NoError(t, err)
	for _, s := range scopes {
		require.NoError(t, g.Add(s))
	}
	return g
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func of(name string, parts ...any) Scope { return Scope{Name: name, Parts: parts} }

func named(name, data string) *blob { return &blob{name: name, data: []byte(data)} }

func TestSnapshotGoesRound(t *testing.T) {
	both := named("both", "of two scopes")
	old := newGroup(t, Options{}, of("a", named("x", "one"), named("x", "two"), both, "no part", named("empty", "")), of("b", both, named("x", "three")))
	snapshot := old.AppendSnapshot([]byte("before"), epoch)
	require.Equal(t, "before", string(snapshot[:6]))
	snapshot = snapshot[6:]

	x1, x2, x3, again, empty, more := named("x", ""), named("x", ""), named("x", ""), named("both", ""), named("empty", ""), named("more", "")
	next := newGroup(t, Options{}, of("a", x1, x2, again, empty), of("b", again, x3, more))
	done, err := next.Restore(snapshot, epoch.Add(3*time.Second))
	require.NoError(t, err)
	require.Equal(t, 4, done.Taken())
	require.Equal(t, 3*time.Second, done.Age)
	require.ElementsMatch(t, []RestoredPart{
		{"a", "x", 3, nil}, {"a", "x", 3, nil}, {"a", "both", 13, nil}, {"b", "x", 5, nil},
		{"a", "empty", 0, ErrNotKept}, {"b", "more", 0, ErrNotKept},
	}, done.Parts)
	require.Equal(t, []string{"one", "two", "three", "of two scopes", "", ""}, []string{x1.has(), x2.has(), x3.has(), again.has(), empty.has(), more.has()})
	require.Equal(t, 3*time.Second, x1.age)
	require.Equal(t, 1, again.times)

	none := newGroup(t, Options{}, of("a", named("empty", ""), 7))
	require.Equal(t, "before", string(none.AppendSnapshot([]byte("before"), epoch)))
}

// A part that cannot use what was kept of it stops no other.
func TestSnapshotPartsFail(t *testing.T) {
	old := newGroup(t, Options{}, of("a", named("first", "1111"), named("second", "2222"), named("third", "3333"), named("fourth", "4444"), named("gone", "5555")))
	snapshot := old.AppendSnapshot(nil, epoch)
	snapshot[bytes.Index(snapshot, []byte("2222"))]++
	first, second, third, fourth := named("first", ""), named("second", ""), named("third", ""), named("fourth", "")
	first.panic, third.err = true, errors.New("it does not fit")
	g := newGroup(t, Options{}, of("a", first, second, third, fourth))
	done, err := g.Restore(snapshot, epoch)
	require.NoError(t, err)
	require.Equal(t, 1, done.Taken())
	require.Len(t, done.Parts, 5)
	require.EqualError(t, done.Parts[0].Err, "it panicked")
	require.EqualError(t, done.Parts[1].Err, "has a wrong checksum")
	require.Equal(t, third.err, done.Parts[2].Err)
	require.NoError(t, done.Parts[3].Err)
	require.Equal(t, ErrNoPart, done.Parts[4].Err)
	require.Equal(t, "4444", fourth.has())

	done, err = g.Restore(snapshot[:len(snapshot)-1], epoch)
	require.NoError(t, err)
	require.EqualError(t, done.Parts[4].Err, "is cut off")

	first.panic = true
	require.Contains(t, string(g.AppendSnapshot(nil, epoch)[:snapshotHeader]), "ipw", "without the one that panics")
}

func TestSnapshotsThatAreRefused(t *testing.T) {
	x := named("x", "data")
	g := newGroup(t, Options{MaxSnapshot: 1 << 16}, of("a", x))
	good := g.AppendSnapshot(nil, epoch)
	with := func(at int, b byte) []byte {
		s := bytes.Clone(good)
		s[at] = b
		return s
	}
	for _, c := range []struct {
		name string
		in   []byte
		at   time.Time
		want string
	}{
		{"empty", nil, epoch, "this is no snapshot"},
		{"another file", []byte("#!/bin/sh this is another kind of file"), epoch, "this is no snapshot"},
		{"version", with(3, 2), epoch, "has version 2, want 1"},
		{"time", with(6, 9), epoch, "wrong checksum"},
		{"large", make([]byte, 1<<16+1), epoch, "has 65537 bytes, want at most 65536"},
		{"old", good, epoch.Add(10*time.Minute + time.Second), "was made 10m1s ago, want at most 10m0s"},
		{"future", good, epoch.Add(-2 * time.Second), "was made 2s from now: one of the clocks is wrong"},
		{"far future", good, epoch.Add(-1e6 * time.Hour), "from now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			done, err := g.Restore(c.in, c.at)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, done.Parts)
			require.Zero(t, x.times)
		})
	}
	done, err := g.Restore(good, epoch.Add(-time.Second))
	require.NoError(t, err)
	require.Zero(t, done.Age)
	require.Equal(t, 1, x.times)
}

// There is room for all that is small, however much the large ones would take, and all of it together keeps to the
// bound.
func TestSnapshotRoom(t *testing.T) {
	small, large, larger := named("small", "small"), &blob{name: "large", data: text("large", 1<<20)}, &blob{name: "larger", data: text("larger", 1<<20)}
	old := newGroup(t, Options{MaxSnapshot: 1 << 16}, of("a", large, small, larger))
	for range 3 {
		snapshot := old.AppendSnapshot(nil, epoch)
		require.LessOrEqual(t, len(snapshot), 1<<16)
		require.Contains(t, string(snapshot), "small")
		require.Greater(t, len(snapshot), 60<<10)
	}
	greedy := newGroup(t, Options{}, of("a", greedy{}, small))
	require.Less(t, len(greedy.AppendSnapshot(nil, epoch)), 100)
}

// greedy takes more than it was given.
type greedy struct{}

func (greedy) SnapshotName() string { return "greedy" }
func (greedy) AppendSnapshot(dst []byte, room int, _ time.Time) []byte {
	return append(dst, make([]byte, room+1)...)
}
func (greedy) Restore([]byte, time.Duration, time.Time) error { return nil }

// What belongs to a scope that is added later waits for it, for a minute.
func TestSnapshotWaitsForItsScope(t *testing.T) {
	old := newGroup(t, Options{}, of("a", named("x", "1")), of("b", named("x", "2")), of("c", named("x", "3")))
	snapshot := old.AppendSnapshot(nil, epoch)
	a, b, c := named("x", ""), named("x", ""), named("x", "")
	g := newGroup(t, Options{}, of("a", a))
	_, err := g.Restore(snapshot, epoch.Add(time.Second))
	require.NoError(t, err)
	require.NoError(t, g.Add(of("b", b)))
	g.Tell(epoch.Add(11*time.Second), func([]byte) {})
	require.Equal(t, "2", b.has())
	require.Equal(t, 11*time.Second, b.age)
	g.Tell(epoch.Add(59*time.Second), func([]byte) {})
	require.NoError(t, g.Add(of("c", c)))
	g.Tell(epoch.Add(62*time.Second), func([]byte) {})
	require.Empty(t, c.has())
	require.Equal(t, []int{1, 1, 0}, []int{a.times, b.times, c.times})
	require.Empty(t, g.keeping.waiting.sections)
}

func FuzzRestore(f *testing.F) {
	old := newGroup(f, Options{}, of("a", named("x", "one"), named("x", "two")), of("b", named("y", "three")))
	f.Add(old.AppendSnapshot(nil, epoch))
	f.Add([]byte("ipw\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		x1, x2 := named("x", ""), named("x", "")
		g := newGroup(t, Options{MaxSnapshot: 1 << 20}, of("a", x1, x2))
		done, err := g.Restore(in, epoch)
		if err != nil {
			require.Zero(t, x1.times+x2.times)
		}
		require.Equal(t, done.Taken(), x1.times+x2.times)
		header := old.AppendSnapshot(nil, epoch)[:snapshotHeader]
		_, err = g.Restore(append(header, in...), epoch) // so that sections are read
		require.NoError(t, err)
	})
}

func TestFile(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "snapshot")
	s := File(path)
	_, err := s.Load(ctx, "x")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(path+".new", []byte("of one that was killed"), 0o644))
	for _, data := range []string{"first, and longer", "second"} {
		require.NoError(t, s.Save(ctx, "x", []byte(data)))
		got, err := s.Load(ctx, "y")
		require.NoError(t, err)
		require.Equal(t, data, string(got))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode())
		require.NoFileExists(t, path+".new")
	}

	done, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.Save(done, "x", []byte("third")), context.Canceled)
	require.Error(t, File(filepath.Join(path, "no directory")).Save(ctx, "x", nil))
	got, err := s.Load(ctx, "x")
	require.NoError(t, err)
	require.Equal(t, "second", string(got))
}

// Who saves and who loads at the same time gets one snapshot as a whole.
func TestFileConcurrently(t *testing.T) {
	ctx := context.Background()
	s := File(filepath.Join(t.TempDir(), "snapshot"))
	all := [][]byte{text("a", 100_000), text("b", 70_000)}
	require.NoError(t, s.Save(ctx, "", all[0]))
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			for range 20 {
				if err := s.Save(ctx, "", all[i]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 50 {
		got, err := s.Load(ctx, "")
		if err == nil && !slices.ContainsFunc(all, func(b []byte) bool { return bytes.Equal(b, got) }) {
			t.Fatal("neither the one nor the other")
		}
	}
	wg.Wait()
}

// memory is a Store in memory.
type memory struct {
	mu    sync.Mutex
	of    map[string][]byte
	saved []time.Time
	err   error
}

func (m *memory) Save(_ context.Context, name string, snapshot []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	if m.of == nil {
		m.of = map[string][]byte{}
	}
	m.of[name] = bytes.Clone(snapshot)
	m.saved = append(m.saved, time.Now())
	return nil
}

func (m *memory) Load(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return nil, m.err
	}
	if s := m.of[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("memory: %w", fs.ErrNotExist)
}

// A gateway without peers saves each 10 seconds and when it ends; the next one begins with that.
func TestRunSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		x := named("x", "first")
		g := newGroup(t, Options{Store: m}, of("a", x))
		_, err := g.Warm(t.Context())
		require.ErrorIs(t, err, fs.ErrNotExist)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error)
		begin := time.Now()
		go func() { ran <- g.Run(ctx) }()
		time.Sleep(35 * time.Second)
		m.mu.Lock()
		require.Len(t, m.saved, 3)
		for i, at := range m.saved {
			require.InDelta(t, 10*float64(i+1), at.Sub(begin).Seconds(), float64(i+1))
		}
		m.err = errors.New("disk full")
		m.mu.Unlock()
		time.Sleep(20 * time.Second)
		m.mu.Lock()
		m.err = nil
		m.mu.Unlock()
		x.mu.Lock()
		x.data = []byte("last")
		x.mu.Unlock()
		cancel()
		require.NoError(t, <-ran)
		require.Len(t, m.saved, 4)

		time.Sleep(time.Second)
		y, z := named("x", ""), named("x", "")
		next := newGroup(t, Options{Store: m}, of("a", y))
		done, err := next.Warm(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, done.Taken())
		require.Equal(t, "last", y.has())
		require.Equal(t, time.Second, y.age)

		m.err = errors.New("unreachable")
		_, err = next.Warm(t.Context())
		require.ErrorIs(t, err, m.err)
		m.err = nil
		_, err = newGroup(t, Options{Store: m, SnapshotName: "another"}, of("a", z)).Warm(t.Context())
		require.ErrorIs(t, err, fs.ErrNotExist)
		_, err = newGroup(t, Options{}, of("a", z)).Warm(t.Context())
		require.ErrorIs(t, err, fs.ErrNotExist)
	})
	require.ErrorContains(t, newGroup(t, Options{}).Run(t.Context()), "Run without a Transport")
}

func TestSnapshotOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{SaveEvery: time.Millisecond}, "SaveEvery is 1ms, want 100ms to an hour, or 0 for the default 10s"},
		{Options{SaveEvery: 2 * time.Hour}, "SaveEvery is 2h0m0s"},
		{Options{MaxSnapshot: 1}, "MaxSnapshot is 1, want 65536 to 67108864, or 0 for the default 8388608"},
		{Options{MaxSnapshot: 1 << 30}, "MaxSnapshot is"},
		{Options{MaxSnapshotAge: -1}, "MaxSnapshotAge is -1ns"},
		{Options{MaxSnapshotAge: 25 * time.Hour}, "at most a day"},
		{Options{SnapshotName: strings.Repeat("x", 300)}, "SnapshotName has 300 bytes, want at most 256"},
	} {
		_, err := New(c.o)
		require.ErrorContains(t, err, c.want)
	}
}
