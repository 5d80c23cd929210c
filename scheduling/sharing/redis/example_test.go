package redis_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"

	"github.com/inferpick/inferpick/scheduling/sharing/redis"
)

// Gateways that use the same server and prefix hear each other. None of this waits for the server but Save
// and Load.
func Example() {
	server := redis.Server{Address: "redis://gateway:secret@127.0.0.1:6379"}
	transport, err := redis.New(redis.Options{Server: server, Prefix: "fleet-1"})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	transport.Receive(func(from string, msg []byte) { fmt.Println(from, "told", len(msg), "bytes") })
	if err := transport.Broadcast(context.Background(), []byte("state")); err != nil {
		log.Print(err)
	}

	store, err := redis.NewStore(redis.StoreOptions{Server: server, Prefix: "fleet-1"})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	snapshot, err := store.Load(context.Background(), "gateway-1")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Println("a fresh start")
	case err != nil:
		log.Print(err)
	default:
		fmt.Println("restored from", len(snapshot), "bytes")
	}
}
