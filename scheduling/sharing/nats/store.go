package nats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/inferpick/inferpick/internal/check"
)

// StoreOptions are those of a Store. The zero value is good for a server on this machine.
type StoreOptions struct {
	Server
	// Bucket is the object store in JetStream. It is made with the first snapshot if there is none. Default
	// inferpick-snapshots.
	Bucket string
	// TTL is how long a snapshot is kept, if the bucket is made here. Default 15 m: what servers have in their
	// caches has changed by then. From 1 s to 30 days.
	TTL time.Duration
	// Replicas is how many servers of a cluster keep a snapshot, if the bucket is made here. Default 1, at most 5.
	Replicas int
	// MaxBytes is how large a snapshot is at most. Default 16 MiB, at most 256 MiB.
	MaxBytes int
	// Timeout is how long Save and Load take at most. Default 10 s, from 10 ms to 1 h.
	Timeout time.Duration
}

// Store keeps snapshots, by name, for some time. Its methods may be called from any goroutine.
type Store struct {
	connection *connection
	config     jetstream.ObjectStoreConfig
	max        int
	timeout    time.Duration
}

// NewStore returns a store. It does not wait for a server; errors are of the options.
func NewStore(o StoreOptions) (*Store, error) {
	c := check.Checks{Package: "nats"}
	if o.Bucket == "" {
		o.Bucket = "inferpick-snapshots"
	}
	c.Want(len(o.Bucket) <= 256 && isBucket(o.Bucket), "Bucket", o.Bucket, "letters, digits, - and _, at most 256")
	check.Default(&c, "TTL", &o.TTL, 15*time.Minute, time.Second, 30*24*time.Hour)
	check.Default(&c, "Replicas", &o.Replicas, 1, 1, 5)
	check.Default(&c, "MaxBytes", &o.MaxBytes, 16<<20, 1, 256<<20)
	check.Default(&c, "Timeout", &o.Timeout, 10*time.Second, 10*time.Millisecond, time.Hour)
	if err := c.Err(); err != nil {
		return nil, err
	}
	connection, err := o.connect(min(o.Timeout, 2*time.Second), o.Timeout, func(error) {})
	if err != nil {
		return nil, err
	}
	config := jetstream.ObjectStoreConfig{Bucket: o.Bucket, Description: "snapshots of inferpick", TTL: o.TTL, Replicas: o.Replicas}
	return &Store{connection, config, o.MaxBytes, o.Timeout}, nil
}

func isBucket(s string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
		default:
			return false
		}
	}
	return true
}

// bucket returns the object store, which if there is none is made if that is wanted.
func (s *Store) bucket(ctx context.Context, wanted bool) (jetstream.ObjectStore, error) {
	conn, err := s.connection.connected(ctx)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, s.connection.explain(err)
	}
	bucket, err := js.ObjectStore(ctx, s.config.Bucket)
	if wanted && errors.Is(err, jetstream.ErrBucketNotFound) {
		bucket, err = js.CreateObjectStore(ctx, s.config)
		if errors.Is(err, jetstream.ErrBucketExists) { // another was first
			bucket, err = js.ObjectStore(ctx, s.config.Bucket)
		}
	}
	return bucket, s.connection.explain(err)
}

// Save keeps a snapshot under a name, in place of the one before.
func (s *Store) Save(ctx context.Context, name string, snapshot []byte) error {
	if len(snapshot) > s.max {
		return fmt.Errorf("%s: snapshot %q has %d bytes, at most %d are allowed", s.connection.name, name, len(snapshot), s.max)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	bucket, err := s.bucket(ctx, true)
	if err == nil {
		_, err = bucket.PutBytes(ctx, name, snapshot)
		err = s.connection.explain(err)
	}
	if err != nil {
		return fmt.Errorf("snapshot %q: %w", name, err)
	}
	return nil
}

// Load returns the snapshot of a name. If there is none, or an empty one, the error is an fs.ErrNotExist.
func (s *Store) Load(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	snapshot, err := s.load(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrBucketNotFound), errors.Is(err, jetstream.ErrObjectNotFound), err == nil && len(snapshot) == 0:
		return nil, fmt.Errorf("%s: snapshot %q: %w", s.connection.name, name, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("snapshot %q: %w", name, err)
	case len(snapshot) > s.max:
		return nil, fmt.Errorf("%s: snapshot %q has more than the %d bytes that are allowed", s.connection.name, name, s.max)
	}
	return snapshot, nil
}

// load reads at most one byte more than is allowed.
func (s *Store) load(ctx context.Context, name string) ([]byte, error) {
	bucket, err := s.bucket(ctx, false)
	if err != nil {
		return nil, err
	}
	object, err := bucket.Get(ctx, name)
	if err != nil {
		return nil, s.connection.explain(err)
	}
	defer func() { _ = object.Close() }() // there is nothing to lose
	snapshot, err := io.ReadAll(io.LimitReader(object, int64(s.max)+1))
	return snapshot, s.connection.explain(err)
}

// Ping says whether a server can be reached and knows us.
func (s *Store) Ping(ctx context.Context) error { return s.connection.ping(ctx) }

// Close closes the connection. What goes on fails.
func (s *Store) Close() error {
	s.connection.close()
	return nil
}
