package redis

import (
	"context"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
)

// StoreOptions are those of a Store. The zero value is good for a server on this machine.
type StoreOptions struct {
	Server
	// Prefix is that of Options. Default inferpick.
	Prefix string
	// TTL is how long a snapshot is kept. Default 15 m: what servers have in their caches has changed by
	// then. From 1 s to 30 days.
	TTL time.Duration
	// MaxBytes is how large a snapshot is at most. Default 16 MiB, at most 256 MiB.
	MaxBytes int
	// Timeout is how long Save and Load take at most. Default 10 s, from 10 ms to 1 h.
	Timeout time.Duration
}

// Store keeps snapshots, by name, for some time. Its methods may be called from any goroutine.
type Store struct {
	connection *connection
	prefix     string
	ttl        time.Duration
	max        int
	timeout    time.Duration

	calls sync.RWMutex // Close waits for those that go on
}

// NewStore returns a store. It does not wait for the server; errors are of the options.
func NewStore(o StoreOptions) (*Store, error) {
	c := check.Checks{Package: "redis"}
	checkPrefix(&c, &o.Prefix)
	check.Default(&c, "TTL", &o.TTL, 15*time.Minute, time.Second, 30*24*time.Hour)
	check.Default(&c, "MaxBytes", &o.MaxBytes, 16<<20, 1, 256<<20)
	check.Default(&c, "Timeout", &o.Timeout, 10*time.Second, 10*time.Millisecond, time.Hour)
	if err := c.Err(); err != nil {
		return nil, err
	}
	connection, err := o.connect(o.Timeout, 2, o.MaxBytes+1)
	if err != nil {
		return nil, err
	}
	return &Store{connection: connection, prefix: o.Prefix + ":snapshot:", ttl: o.TTL, max: o.MaxBytes, timeout: o.Timeout}, nil
}

// Save keeps a snapshot under a name, in place of the one before.
func (s *Store) Save(ctx context.Context, name string, snapshot []byte) error {
	if len(snapshot) > s.max {
		return fmt.Errorf("%s: snapshot %q has %d bytes, at most %d are allowed", s.connection.name, name, len(snapshot), s.max)
	}
	ctx, done := s.begin(ctx)
	defer done()
	if err := s.connection.Set(ctx, s.prefix+name, snapshot, s.ttl).Err(); err != nil {
		return fmt.Errorf("snapshot %q: %w", name, s.connection.explain(err))
	}
	return nil
}

// Load returns the snapshot of a name. If there is none, or an empty one, the error is an fs.ErrNotExist.
func (s *Store) Load(ctx context.Context, name string) ([]byte, error) {
	ctx, done := s.begin(ctx)
	defer done()
	// Unlike GET it does not have the server send what is too long.
	snapshot, err := s.connection.GetRange(ctx, s.prefix+name, 0, int64(s.max)).Bytes()
	switch {
	case err != nil:
		return nil, fmt.Errorf("snapshot %q: %w", name, s.connection.explain(err))
	case len(snapshot) == 0:
		return nil, fmt.Errorf("%s: snapshot %q: %w", s.connection.name, name, fs.ErrNotExist)
	case len(snapshot) > s.max:
		return nil, fmt.Errorf("%s: snapshot %q has more than the %d bytes that are allowed", s.connection.name, name, s.max)
	}
	return snapshot, nil
}

// Ping says whether the server can be reached and knows us.
func (s *Store) Ping(ctx context.Context) error {
	ctx, done := s.begin(ctx)
	defer done()
	return s.connection.ping(ctx)
}

// begin begins a call, for which there is some time.
func (s *Store) begin(ctx context.Context) (_ context.Context, done func()) {
	s.calls.RLock()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	return ctx, func() {
		cancel()
		s.calls.RUnlock()
	}
}

// Close closes the connections, after the calls that go on. Later ones fail.
func (s *Store) Close() error {
	s.calls.Lock()
	defer s.calls.Unlock()
	s.connection.close()
	return nil
}
