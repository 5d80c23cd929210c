package redis_test

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/redis"
)

func TestStore(t *testing.T) {
	s := start(t)
	open := func(o redis.StoreOptions) *redis.Store {
		o.Address, o.Timeout = s.address(), time.Minute
		store, err := redis.NewStore(o)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		return store
	}
	store := open(redis.StoreOptions{})
	require.NoError(t, store.Ping(t.Context()))
	_, err := store.Load(t.Context(), "gateway 1")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, fmt.Sprintf(`redis %s: snapshot "gateway 1": file does not exist`, s.address()))

	big := make([]byte, 16<<20)
	_, err = rand.Read(big)
	require.NoError(t, err)
	require.NoError(t, store.Save(t.Context(), "gateway 1", []byte("old")))
	require.NoError(t, store.Save(t.Context(), "gateway 1", big))
	got, err := store.Load(t.Context(), "gateway 1")
	require.NoError(t, err)
	require.Equal(t, big, got)
	require.ErrorContains(t, store.Save(t.Context(), "gateway 1", append(big, 0)), `snapshot "gateway 1" has 16777217 bytes, at most 16777216 are allowed`)

	_, err = open(redis.StoreOptions{Prefix: "other"}).Load(t.Context(), "gateway 1")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = open(redis.StoreOptions{MaxBytes: 1 << 10}).Load(t.Context(), "gateway 1")
	require.ErrorContains(t, err, "has more than the 1024 bytes that are allowed")
	_, err = open(redis.StoreOptions{MaxBytes: len(big)}).Load(t.Context(), "gateway 1")
	require.NoError(t, err)

	client := s.client("")
	ttl := client.PTTL(t.Context(), "inferpick:snapshot:gateway 1").Val()
	require.InDelta(t, 15*time.Minute, ttl, float64(time.Minute))
	require.NoError(t, client.LPush(t.Context(), "inferpick:snapshot:list", 1).Err())
	_, err = store.Load(t.Context(), "list")
	require.ErrorContains(t, err, "WRONGTYPE")
}

func TestStoreExpires(t *testing.T) {
	s := start(t)
	store, err := redis.NewStore(redis.StoreOptions{Server: redis.Server{Address: s.address()}, TTL: time.Second})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Save(t.Context(), "x", []byte("y")))
	got, err := store.Load(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, "y", string(got))
	require.Eventually(t, func() bool {
		_, err := store.Load(t.Context(), "x")
		return err != nil
	}, 20*time.Second, 10*time.Millisecond)
	_, err = store.Load(t.Context(), "x")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Without a server the store fails soon, and works again when there is one.
func TestStoreServerRestarts(t *testing.T) {
	s := start(t)
	store, err := redis.NewStore(redis.StoreOptions{Server: redis.Server{Address: s.address()}, Timeout: 500 * time.Millisecond})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close()) }()
	require.NoError(t, store.Save(t.Context(), "x", []byte("y")))
	s.kill()
	require.Error(t, store.Save(t.Context(), "x", []byte("y")))
	_, err = store.Load(t.Context(), "x")
	require.ErrorContains(t, err, `snapshot "x": redis `+s.address()+": connect: connection refused")
	s.run()
	require.Eventually(t, func() bool { return store.Save(t.Context(), "x", []byte("z")) == nil }, 20*time.Second, 10*time.Millisecond)
	got, err := store.Load(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, "z", string(got))
}
