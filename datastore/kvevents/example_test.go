package kvevents_test

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/types"
)

// printer is a Sink that prints what it is told.
type printer struct{ done func() }

func (p printer) Apply(endpoint string, _ int, batch []kvevents.Event) {
	for _, e := range batch {
		fmt.Println(endpoint, e.Kind, e.Hashes, "of", e.BlockSize, "tokens on", e.Tier)
	}
}

func (p printer) State(endpoint string, _ int, s kvevents.State) {
	fmt.Println(endpoint, "is", s)
	if s == kvevents.Live {
		p.done()
	}
}

func (p printer) Reset(endpoint string, _ int) { fmt.Println(endpoint, "is forgotten") }
func (p printer) Remove(endpoint string)       { fmt.Println(endpoint, "is gone") }

func Example() {
	engine, err := kveventstest.New(kveventstest.Options{})
	if err != nil {
		panic(err)
	}
	defer engine.Close()
	engine.Publish(kvevents.Event{Hashes: []uint64{17, 18}, BlockSize: 16, Full: true})

	store := datastore.New(datastore.Options{})
	pool := types.NamespacedName{Name: "llama"}
	if err := store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "gpu-1", Address: "127.0.0.1:8000"}}); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	sub, err := kvevents.New(store, kvevents.Options{
		Sink: printer{done: cancel},
		Sources: func(types.NamespacedName, *types.Endpoint) []kvevents.Source {
			return []kvevents.Source{engine.Source()}
		},
	})
	if err != nil {
		panic(err)
	}
	if err := sub.Run(ctx); err != nil {
		panic(err)
	}
	// Output:
	// gpu-1 is replaying
	// gpu-1 stored [17 18] of 16 tokens on gpu
	// gpu-1 is live
	// gpu-1 is unsynced
}

// listen runs a Subscriber beside what else a gateway runs.
func listen(ctx context.Context, store *datastore.Store, index kvevents.Sink) error {
	sub, err := kvevents.New(store, kvevents.Options{Sink: index})
	if err != nil {
		return err
	}
	go sub.Run(ctx)
	return nil
}

var _ = listen

// Engines that cannot say where they publish have it in the configuration of the gateway.
func ExampleOptions_sources() {
	o := kvevents.Options{
		Sources: func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			return []kvevents.Source{{Endpoint: "tcp://*:5557", Replay: "tcp://*:5558", Ranks: 2}}
		},
	}
	fmt.Println(o.Sources(types.NamespacedName{}, nil)[0].Endpoint)
	// Output: tcp://*:5557
}

// Engines whose endpoint names the gateway's host connect to it.
func ExampleOptions_listen() {
	store, sink := datastore.New(datastore.Options{}), printer{}
	sub, err := kvevents.New(store, kvevents.Options{Sink: sink, Listen: []string{":5557"}})
	fmt.Println(sub.Addrs(), err) // where it listens, once it runs
	// Output: [] <nil>
}
