package plugins_test

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// The default policy, told by engines what they hold. Requests get their sessions from
// director.Options.EngineSessions.
func ExampleKVSink() {
	pool := types.NamespacedName{Namespace: "default", Name: "pool"}
	store := datastore.New(datastore.Options{})
	if err := store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "gpu-1", Address: "127.0.0.1:1"}}); err != nil {
		fmt.Println(err)
		return
	}
	told := func(ctx context.Context) (*scheduling.Scheduler, error) {
		profile := plugins.Default()
		sink, err := plugins.KVSinkOf(profile, plugins.KVOptions{}) // the index that the profile decides by
		if err != nil {
			return nil, err
		}
		sub, err := kvevents.New(store, kvevents.Options{Sink: sink})
		if err != nil {
			return nil, err
		}
		go sub.Run(ctx)
		return scheduling.New(profile)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := told(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	req := &types.Request{Model: "llama", Prompt: types.Prompt{Spans: []types.Span{}}}
	d, err := s.Schedule(ctx, req, store.Snapshot().Pool(pool).Endpoints())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Done(types.Outcome{})
	fmt.Println(d.Endpoint.ID)
	// Output: gpu-1
}
