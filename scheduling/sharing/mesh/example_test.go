package mesh_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
)

// Two gateways hear each other. Both have the same list of peers, in which they are themselves.
func Example() {
	key := []byte("32 random bytes, from a Secret..")
	first, err := mesh.New(mesh.Options{Listen: "127.0.0.1:0", Key: key})
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()
	second, err := mesh.New(mesh.Options{Listen: "127.0.0.1:0", Key: key, Peers: []string{first.Addr().String()}})
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()

	heard := make(chan string, 1)
	first.Receive(func(_ string, msg []byte) {
		select {
		case heard <- string(msg): // msg is valid during the call only
		default:
		}
	})
	second.Receive(func(string, []byte) {})
	for {
		// Messages may be lost, here those of before the two are connected: so they are of state, sent again and again.
		if err := second.Broadcast(context.Background(), []byte("hello")); err != nil {
			log.Fatal(err)
		}
		select {
		case msg := <-heard:
			fmt.Println(msg)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	// Output: hello
}
