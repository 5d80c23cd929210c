package nats_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"

	"github.com/inferpick/inferpick/scheduling/sharing/nats"
)

// Gateways that use the same servers and prefix hear each other. None of this waits for a server but Save
// and Load.
func Example() {
	server := nats.Server{URL: "nats://nats-1.example,nats://nats-2.example", Credentials: "/etc/gateway.creds"}
	transport, err := nats.New(nats.Options{Server: server, Prefix: "fleet-1"})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	transport.Receive(func(from string, msg []byte) { fmt.Println(from, "told", len(msg), "bytes") })
	if err := transport.Broadcast(context.Background(), []byte("state")); err != nil {
		log.Print(err)
	}

	store, err := nats.NewStore(nats.StoreOptions{Server: server, Bucket: "fleet-1"})
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
