package nats_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing/nats"
)

func withJetStream(t *testing.T) func(*natsserver.Options) {
	dir := t.TempDir()
	return func(o *natsserver.Options) { o.JetStream, o.StoreDir = true, dir }
}

func openStore(t *testing.T, s *server, o nats.StoreOptions) *nats.Store {
	o.URL = s.url()
	store, err := nats.NewStore(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return store
}

func TestStore(t *testing.T) {
	s := start(t, withJetStream(t))
	store := openStore(t, s, nats.StoreOptions{Timeout: time.Minute})
	require.NoError(t, store.Ping(t.Context()))
	_, err := store.Load(t.Context(), "gateway 1")
	require.ErrorIs(t, err, fs.ErrNotExist, "there is no bucket")
	require.ErrorContains(t, err, `snapshot "gateway 1": file does not exist`)

	big := make([]byte, 16<<20)
	_, err = rand.Read(big)
	require.NoError(t, err)
	require.NoError(t, store.Save(t.Context(), "gateway 1", []byte("old")))
	_, err = store.Load(t.Context(), "gateway 2")
	require.ErrorIs(t, err, fs.ErrNotExist, "there is no object")
	require.NoError(t, store.Save(t.Context(), "gateway 1", big))
	got, err := store.Load(t.Context(), "gateway 1")
	require.NoError(t, err)
	require.Equal(t, big, got)
	require.ErrorContains(t, store.Save(t.Context(), "gateway 1", append(big, 0)), `snapshot "gateway 1" has 16777217 bytes, at most 16777216 are allowed`)

	_, err = openStore(t, s, nats.StoreOptions{Bucket: "other", Timeout: time.Minute}).Load(t.Context(), "gateway 1")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = openStore(t, s, nats.StoreOptions{MaxBytes: 1 << 10, Timeout: time.Minute}).Load(t.Context(), "gateway 1")
	require.ErrorContains(t, err, "has more than the 1024 bytes that are allowed")
	_, err = openStore(t, s, nats.StoreOptions{MaxBytes: len(big), Timeout: time.Minute}).Load(t.Context(), "gateway 1")
	require.NoError(t, err)
	require.NoError(t, store.Save(t.Context(), "empty", nil))
	_, err = store.Load(t.Context(), "empty")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// The user of the package's documentation may do what a store needs.
func TestStoreUser(t *testing.T) {
	s := start(t, withJetStream(t), func(o *natsserver.Options) {
		o.Users = []*natsserver.User{{Username: "gateway", Password: "secret", Permissions: &natsserver.Permissions{
			Publish:   &natsserver.SubjectPermission{Allow: []string{"inferpick.messages", "$O.inferpick-snapshots.>", "$JS.API.>"}},
			Subscribe: &natsserver.SubjectPermission{Allow: []string{"inferpick.messages", "_INBOX.>"}},
		}}}
	})
	store := openStore(t, s, nats.StoreOptions{Server: nats.Server{Username: "gateway", Password: "secret"}})
	require.NoError(t, store.Save(t.Context(), "x", []byte("old")))
	require.NoError(t, store.Save(t.Context(), "x", []byte("y")))
	got, err := store.Load(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, "y", string(got))
}

func TestStoreExpires(t *testing.T) {
	s := start(t, withJetStream(t))
	store := openStore(t, s, nats.StoreOptions{TTL: time.Second, Timeout: 2 * time.Second})
	require.NoError(t, store.Save(t.Context(), "x", []byte("y")))
	got, err := store.Load(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, "y", string(got))
	require.Eventually(t, func() bool {
		_, err := store.Load(t.Context(), "x") // for a moment there may be one half of it
		return errors.Is(err, fs.ErrNotExist)
	}, 20*time.Second, 50*time.Millisecond)
}

// Without JetStream, or without a server, the store fails soon; when the server is back it works, with what was in it.
func TestStoreServerRestarts(t *testing.T) {
	plain := openStore(t, start(t), nats.StoreOptions{})
	require.ErrorContains(t, plain.Save(t.Context(), "x", []byte("y")), "nats: no responders available for request: is JetStream enabled?")

	s := start(t, withJetStream(t))
	store := openStore(t, s, nats.StoreOptions{Timeout: time.Second})
	require.NoError(t, store.Save(t.Context(), "x", []byte("y")))
	s.stop()
	require.Eventually(t, func() bool { return store.Ping(t.Context()) != nil }, 20*time.Second, 10*time.Millisecond)
	at := time.Now()
	require.ErrorContains(t, store.Save(t.Context(), "x", []byte("y")), `snapshot "x": nats `)
	_, err := store.Load(t.Context(), "x")
	require.Error(t, err)
	require.Less(t, time.Since(at), 10*time.Second)
	s.run()
	require.Eventually(t, func() bool {
		got, err := store.Load(t.Context(), "x")
		return err == nil && string(got) == "y"
	}, 20*time.Second, 10*time.Millisecond)
}
