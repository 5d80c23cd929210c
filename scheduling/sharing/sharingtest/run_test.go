package sharingtest_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/sharingtest"
)

// broken is a transport over a good one in which some function is another.
type broken struct {
	*sharingtest.Member
	broadcast func(ctx context.Context, msg []byte) error
	receive   func(handle func(string, []byte))
	close     func() error
}

func (b *broken) Broadcast(ctx context.Context, msg []byte) error {
	if b.broadcast != nil {
		return b.broadcast(ctx, msg)
	}
	return b.Member.Broadcast(ctx, msg)
}

func (b *broken) Receive(handle func(string, []byte)) {
	if b.receive != nil {
		b.receive(handle)
	} else {
		b.Member.Receive(handle)
	}
}

func (b *broken) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.Member.Close()
}

// mistakes are transports that break the contract, and what the kit is to say of each. Each breaks b, which
// is over a new member of n.
var mistakes = map[string]struct {
	subtest string
	says    string
	make    func(b *broken)
}{
	"cuts": {"sizes", "that nobody has sent", func(b *broken) {
		b.broadcast = func(ctx context.Context, msg []byte) error {
			return b.Member.Broadcast(ctx, msg[:min(len(msg), 32<<10)])
		}
	}},
	"loses_large_ones": {"sizes", "has not heard a message of 65535 bytes", func(b *broken) {
		b.broadcast = func(ctx context.Context, msg []byte) error {
			if len(msg) >= sharing.MaxMessage-1 {
				return nil
			}
			return b.Member.Broadcast(ctx, msg)
		}
	}},
	"merges": {"sizes", "that nobody has sent", func(b *broken) {
		var last []byte
		b.broadcast = func(ctx context.Context, msg []byte) error {
			both := append(last, msg...)
			last = bytes.Clone(msg)
			return b.Member.Broadcast(ctx, both[:min(len(both), sharing.MaxMessage)])
		}
	}},
	"sends_to_one": {"reach", "has not heard", func(b *broken) {
		b.receive = func(handle func(string, []byte)) {
			if b.Member.Name() == "a" {
				b.Member.Receive(handle)
			}
		}
	}},
	"takes_too_long_ones": {"too_long", "returns no error", func(b *broken) {
		b.broadcast = func(ctx context.Context, msg []byte) error {
			return b.Member.Broadcast(ctx, msg[:min(len(msg), sharing.MaxMessage)])
		}
	}},
	"keeps_msg": {"concurrent", "that nobody has sent", func(b *broken) {
		b.broadcast = func(ctx context.Context, msg []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			go func() {
				time.Sleep(time.Millisecond)
				b.Member.Broadcast(context.Background(), msg)
			}()
			return nil
		}
	}},
	"keeps_the_last_of_a_burst": {"bursts", "the one at place 1 is never heard by all", func(b *broken) {
		var mu sync.Mutex
		newest := 0
		b.broadcast = func(ctx context.Context, msg []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			mu.Lock()
			newest++
			n, own := newest, bytes.Clone(msg)
			mu.Unlock()
			time.AfterFunc(5*time.Millisecond, func() {
				mu.Lock()
				late := n < newest
				mu.Unlock()
				if !late {
					b.Member.Broadcast(context.Background(), own)
				}
			})
			return nil
		}
	}},
	"waits_for_ever": {"slow", "by a has not returned", func(b *broken) {
		room := make(chan struct{}, 10)
		b.broadcast = func(ctx context.Context, msg []byte) error {
			if len(msg) == sharing.MaxMessage {
				room <- struct{}{}
			}
			return b.Member.Broadcast(ctx, msg)
		}
	}},
	"keeps_all": {"slow", "the heap has grown", func(b *broken) {
		var kept [][]byte
		b.broadcast = func(ctx context.Context, msg []byte) error {
			kept = append(kept, bytes.Clone(msg))
			return b.Member.Broadcast(ctx, msg)
		}
	}},
	"handles_after_close": {"close", "runs when Close has returned", func(b *broken) {
		var later sync.WaitGroup
		b.receive = func(handle func(string, []byte)) {
			b.Member.Receive(func(from string, msg []byte) {
				own := bytes.Clone(msg)
				later.Go(func() { handle(from, own) })
			})
		}
	}},
	"sends_when_closed": {"close", "returns no error, although Close has returned", func(b *broken) {
		b.broadcast = func(ctx context.Context, msg []byte) error {
			_ = b.Member.Broadcast(ctx, msg)
			return nil
		}
	}},
	"closes_once": {"close", "Close of b has not returned", func(b *broken) {
		once := make(chan struct{}, 1)
		b.close = func() error {
			once <- struct{}{}
			return b.Member.Close()
		}
	}},
	"never_returns": {"returns", "[b] has not heard", func(b *broken) {
		b.receive = func(handle func(string, []byte)) {
			if seen[b.Member.Name()]++; seen[b.Member.Name()] == 1 {
				b.Member.Receive(handle)
			}
		}
	}},
	"ignores_ctx": {"context", "although its ctx is done", func(b *broken) {
		b.broadcast = func(_ context.Context, msg []byte) error { return b.Member.Broadcast(context.Background(), msg) }
	}},
	"hides_ctx": {"context", "does not wrap", func(b *broken) {
		b.broadcast = func(ctx context.Context, msg []byte) error {
			if b.Member.Broadcast(ctx, msg) != nil {
				return errors.New("late")
			}
			return nil
		}
	}},
	"panics": {"panics", "which a transport must survive", func(b *broken) {
		b.receive = func(handle func(string, []byte)) {
			b.Member.Receive(func(from string, msg []byte) {
				done, own := make(chan struct{}), bytes.Clone(msg)
				go func() {
					defer close(done)
					handle(from, own)
				}()
				<-done
			})
		}
	}},
	"is_deaf_after_a_panic": {"panics", "[b] has not heard", func(b *broken) {
		b.receive = func(handle func(string, []byte)) {
			deaf := false
			b.Member.Receive(func(from string, msg []byte) {
				if deaf {
					return
				}
				deaf = true
				handle(from, msg)
				deaf = false
			})
		}
	}},
	"stays_cut": {"partition", "has not heard", func(b *broken) {
		b.broadcast = func(ctx context.Context, msg []byte) error {
			if b.Member.Name() == "b" && len(msg) == 1000 {
				b.Member.Close()
			}
			return b.Member.Broadcast(ctx, msg)
		}
	}},
	"leaks": {"goroutines", "goroutines are left", func(b *broken) { go func() { select {} }() }},
	"has_no_from": {"reach", "want 1 to 256 bytes of text", func(b *broken) {
		b.receive = func(handle func(string, []byte)) {
			b.Member.Receive(func(_ string, msg []byte) { handle("", msg) })
		}
	}},
	"changes_msg": {"close", "changes while handle", func(b *broken) {
		b.receive = func(handle func(string, []byte)) {
			b.Member.Receive(func(from string, msg []byte) {
				time.AfterFunc(time.Millisecond, func() { msg[0]++ })
				handle(from, msg)
			})
		}
	}},
}

// seen counts the members of a name.
var seen = map[string]int{}

const playing = "SHARINGTEST_MISTAKE" // names the mistake that a child process makes

// A kit that cannot fail is worth nothing: each mistake must fail it, for the right reason.
func TestKitFindsMistakes(t *testing.T) {
	if name := os.Getenv(playing); name != "" {
		sharingtest.Run(t, func(t *testing.T) sharingtest.Fleet {
			f := fleet(sharingtest.NetworkOptions{})(t)
			f.Patience = time.Second
			open := f.Open
			f.Open = func(t *testing.T, member string) sharing.Transport {
				b := &broken{Member: open(t, member).(*sharingtest.Member)}
				mistakes[name].make(b)
				return b
			}
			return f
		})
		return
	}
	if testing.Short() {
		t.Skip("starts a process for each")
	}
	for name, tt := range mistakes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := "^TestKitFindsMistakes$/^" + tt.subtest + "$"
			if tt.subtest == "goroutines" {
				run = "^TestKitFindsMistakes$/^(reach|goroutines)$"
			}
			cmd := exec.Command(os.Args[0], "-test.run", run)
			cmd.Env = append(os.Environ(), playing+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Errorf("the kit found nothing wrong")
			} else if !strings.Contains(string(out), tt.says) {
				t.Errorf("the kit did not say %q but\n%s", tt.says, out)
			}
		})
	}
}
