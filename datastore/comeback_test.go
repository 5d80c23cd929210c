package datastore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// source is something that fills the pool llama with one endpoint, in its own time.
type source struct {
	name string
	run  func(t *testing.T, s *datastore.Store) (run func(context.Context) error)
}

func sources(t *testing.T) []source {
	path := filepath.Join(t.TempDir(), "endpoints.json")
	write(t, path, `{"endpoints": [{"pool": "llama", "address": "10.0.0.1:1"}]}`)
	return []source{
		{"file", func(_ *testing.T, s *datastore.Store) func(context.Context) error {
			return datastore.NewFileSource(s, path, datastore.FileOptions{Interval: time.Hour}).Run
		}},
		{"DNS", func(t *testing.T, s *datastore.Store) func(context.Context) error {
			r := &names{hosts: map[string][]string{"llama": {"10.0.0.1"}}}
			d, err := datastore.NewDNSSource(s, datastore.DNSOptions{Pool: types.NamespacedName{Name: "llama"}, Host: "llama", Port: 1, Resolver: r, Interval: time.Hour})
			must(t, err)
			return func(ctx context.Context) error {
				time.AfterFunc(time.Minute, func() { r.set(func() { r.err = errors.New("server misbehaving") }) })
				return d.Run(ctx)
			}
		}},
		{"one of a user's own", func(t *testing.T, s *datastore.Store) func(context.Context) error {
			return func(ctx context.Context) error {
				stop := s.WatchPools(func(ev datastore.PoolEvent) {
					if ev.Kind == datastore.Added && ev.Pool == llama {
						must(t, s.UpsertEndpoint(llama, datastore.EndpointSpec{ID: "10.0.0.1:1", Address: "10.0.0.1:1"}))
					}
				})
				defer stop()
				<-ctx.Done()
				return nil
			}
		}},
	}
}

// A pool that is deleted and applied again has its endpoints back, although nothing has
// changed at its source.
func TestPoolComesBack(t *testing.T) {
	for _, declared := range []bool{false, true} {
		for _, src := range sources(t) {
			t.Run(fmt.Sprintf("%s, declared only %v", src.name, declared), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := datastore.New(datastore.Options{DeclaredPoolsOnly: declared})
					must(t, s.Apply(pool("llama"), pool("qwen")))
					must(t, s.SetEndpoints(name("qwen"), specs(2)))
					other := endpoints(t, s, name("qwen"))
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error)
					run := src.run(t, s)
					go func() { done <- run(ctx) }()
					expect := func(what string, want int) {
						t.Helper()
						synctest.Wait()
						if got := endpoints(t, s, llama); len(got) != want {
							t.Errorf("%s: %d endpoints, want %d", what, len(got), want)
						}
					}
					expect("at the start", 1)
					first := endpoints(t, s, llama)[0].Load
					for i, gone := range []func(){
						func() { s.Delete("InferencePool", llama) },
						func() { must(t, s.Replace([]types.Object{pool("qwen")})) },
					} {
						gone()
						time.Sleep(2 * time.Hour) // a tick or two
						if synctest.Wait(); s.Snapshot().Pool(llama) != nil {
							t.Errorf("%d: the source made the pool anew", i)
						}
						must(t, s.Apply(pool("llama")))
						expect("back", 1)
						s.Delete("InferencePool", llama)
						must(t, s.Apply(pool("llama")))
						expect("back at once", 1)
					}
					if now := endpoints(t, s, llama); len(now) > 0 && now[0].Load == first {
						t.Error("an endpoint came back with an old ledger")
					}
					if !slices.Equal(endpoints(t, s, name("qwen")), other) {
						t.Error("another pool was changed")
					}
					cancel()
					must(t, <-done)
				})
			})
		}
	}
}

// Who does not let a source run has the endpoints back by the next Load.
func TestPoolComesBackByLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.json")
	write(t, path, `{"endpoints": [{"pool": "llama", "address": "10.0.0.1:1"}, {"pool": "qwen", "address": "10.0.0.2:1"}]}`)
	s := datastore.New(datastore.Options{})
	f := datastore.NewFileSource(s, path, datastore.FileOptions{})
	r := &names{hosts: map[string][]string{"gemma": {"10.0.0.3"}}}
	d, err := datastore.NewDNSSource(s, datastore.DNSOptions{Pool: name("gemma"), Host: "gemma", Port: 1, Resolver: r})
	must(t, err)
	load := func() { must(t, f.Load()); must(t, d.Load(t.Context())) }
	load()
	must(t, s.Apply(pool("llama"), pool("qwen"), pool("gemma")))
	for _, n := range []string{"llama", "gemma"} {
		s.Delete("InferencePool", name(n))
	}
	if err := d.Load(t.Context()); !errors.Is(err, datastore.ErrNoPool) || !errors.Is(d.Err(), datastore.ErrNoPool) {
		t.Errorf("Load of a pool that was deleted = %v, want ErrNoPool", err)
	}
	r.hosts["gemma"] = []string{"10.0.0.4"}
	if err := d.Load(t.Context()); !errors.Is(err, datastore.ErrNoPool) {
		t.Errorf("Load of new addresses for a pool that was deleted = %v, want ErrNoPool", err)
	}
	must(t, s.Apply(pool("llama"), pool("gemma")))
	load()
	for n, want := range map[string]string{"llama": "10.0.0.1:1", "qwen": "10.0.0.2:1", "gemma": "10.0.0.4:1"} {
		if got := ids(endpoints(t, s, name(n))); !slices.Equal(got, []string{want}) {
			t.Errorf("%s has %q, want %s", n, got, want)
		}
	}
	s.RemoveEndpoint(llama, "10.0.0.1:1")
	load()
	if got := endpoints(t, s, llama); len(got) != 0 {
		t.Error("an endpoint that was removed by itself is back")
	}
}

// A pool that is back when the store has no room for it has its endpoints when there is.
func TestPoolComesBackWhenThereIsRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "endpoints.json")
	write(t, path, `{"endpoints": [{"pool": "llama", "address": "10.0.0.1:1"}]}`)
	s := datastore.New(datastore.Options{MaxEndpoints: 2})
	f := datastore.NewFileSource(s, path, datastore.FileOptions{})
	must(t, f.Load())
	s.Delete("InferencePool", llama)
	must(t, s.SetEndpoints(name("qwen"), specs(2)))
	must(t, s.Apply(pool("llama")))
	if err := f.Load(); !errors.Is(err, datastore.ErrLimit) {
		t.Errorf("Load = %v, want ErrLimit", err)
	}
	must(t, s.SetEndpoints(name("qwen"), specs(1)))
	must(t, f.Load())
	if got := endpoints(t, s, llama); len(got) != 1 {
		t.Errorf("%d endpoints, want 1", len(got))
	}
}

func TestWatchPools(t *testing.T) {
	s := datastore.New(datastore.Options{})
	must(t, s.Apply(pool("a")))
	var got []string
	stop := s.WatchPools(func(ev datastore.PoolEvent) { got = append(got, ev.Kind.String()+" "+ev.Pool.Name) })
	must(t, s.Apply(pool("a"), pool("b")))
	must(t, s.SetEndpoints(name("c"), specs(1)))
	noted := pool("b")
	noted.Annotations = map[string]string{"note": "1"}
	must(t, s.Apply(noted))
	must(t, s.Replace([]types.Object{noted}))
	s.Delete("InferencePool", name("c"))
	must(t, s.Apply(pool("c")))
	must(t, s.Apply(pool("c")))
	stop()
	must(t, s.Apply(pool("d")))
	if want := []string{"added a", "added b", "added c", "changed b", "removed a", "removed c", "added c"}; !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestDNSRanges(t *testing.T) {
	never := []string{"0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1", "255.255.255.255", "::ffff:0.0.0.0", "::ffff:224.0.0.1"}
	loopback := []string{"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"}
	link := []string{"169.254.169.254", "fe80::1", "::ffff:169.254.169.254"}
	usual := []string{"10.0.0.1", "192.168.1.1", "203.0.113.7", "fd00::1", "2001:db8::1", "::ffff:10.0.0.2"}
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for _, tt := range []struct {
		name, host string
		ranges     []netip.Prefix
		want       []string
		not        []string
	}{
		{"usual", "llama", nil, usual, slices.Concat(never, loopback, link)},
		{"localhost", "localhost", nil, slices.Concat(usual, loopback), slices.Concat(never, link)},
		{"localhost, in full", "LocalHost.", nil, loopback, link},
		{"below localhost", "a.localhost", nil, loopback, slices.Concat(never, link)},
		{"something like localhost", "notlocalhost", nil, nil, loopback},
		{"localhost as a label", "localhost.example", nil, nil, loopback},
		{"an address", "127.0.0.1", nil, []string{"127.0.0.1", "::ffff:127.0.0.1"}, []string{"127.0.0.2", "::1"}},
		{"a range", "llama", prefixes("10.0.0.0/24"), []string{"10.0.0.1", "::ffff:10.0.0.2"}, slices.Concat(never, loopback, link, []string{"10.0.1.1", "fd00::1"})},
		{"the same in IPv6", "llama", prefixes("::ffff:10.0.0.0/120"), []string{"10.0.0.1"}, []string{"10.0.1.1"}},
		{"all", "llama", prefixes("0.0.0.0/0", "::/0"), slices.Concat(usual, loopback, link), never},
		{"loopback alone", "llama", prefixes("127.0.0.0/8"), []string{"127.0.0.1"}, []string{"10.0.0.1", "::1"}},
		{"localhost out of the ranges", "localhost", prefixes("10.0.0.0/8"), []string{"10.0.0.1"}, loopback},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &names{hosts: map[string][]string{tt.host: slices.Concat(tt.not, tt.want)}}
			s := datastore.New(datastore.Options{})
			var log bytes.Buffer
			d, err := datastore.NewDNSSource(s, datastore.DNSOptions{Pool: llama, Host: tt.host, Port: 1, Resolver: r, AllowRanges: tt.ranges,
				Logger: slog.New(slog.NewTextHandler(&log, nil))})
			must(t, err)
			for range 3 {
				if err := d.Load(t.Context()); err == nil || d.Err() == nil || !strings.Contains(err.Error(), "AllowRanges") {
					t.Errorf("Load = %v, Err = %v: refused addresses must be told", err, d.Err())
				}
			}
			if n := strings.Count(log.String(), "AllowRanges"); n != 1 {
				t.Errorf("told %d times, want once: %s", n, &log)
			}
			got := map[string]bool{}
			for _, e := range endpoints(t, s, llama) {
				got[netip.MustParseAddrPort(e.Address).Addr().String()] = true
			}
			for _, a := range tt.want {
				if !got[netip.MustParseAddr(a).Unmap().String()] {
					t.Errorf("%s is no endpoint", a)
				}
			}
			for _, a := range tt.not {
				if got[netip.MustParseAddr(a).Unmap().String()] {
					t.Errorf("%s is an endpoint", a)
				}
			}
		})
	}
	if _, err := datastore.NewDNSSource(datastore.New(datastore.Options{}), datastore.DNSOptions{Pool: llama, Host: "h", Port: 1, AllowRanges: make([]netip.Prefix, 1)}); err == nil {
		t.Error("a range that is none was taken")
	}
}

// An answer without a usable address takes no endpoint away, nor does one that has some.
func TestDNSRefusedAnswersTakeNothingAway(t *testing.T) {
	r := &names{hosts: map[string][]string{"llama": {"10.0.0.1"}}}
	s := datastore.New(datastore.Options{})
	d, err := datastore.NewDNSSource(s, datastore.DNSOptions{Pool: llama, Host: "llama", Port: 1, Resolver: r, ClearOnNotFound: true})
	must(t, err)
	must(t, d.Load(t.Context()))
	r.hosts["llama"] = []string{"127.0.0.1"}
	if err := d.Load(t.Context()); err == nil {
		t.Error("Load = nil")
	}
	if got := ids(endpoints(t, s, llama)); !slices.Equal(got, []string{"10.0.0.1:1"}) {
		t.Errorf("endpoints %q, want the one before", got)
	}
	r.hosts["llama"] = []string{"10.0.0.1"}
	must(t, d.Load(t.Context()))
}
