package director_test

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// With admission control a request waits in Route until a server has room for it.
func Example_admission() {
	store := datastore.New(datastore.Options{})
	_ = store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{{Address: "10.0.0.1:8000"}})
	scheduler, err := scheduling.New(plugins.Default())
	if err != nil {
		panic(err)
	}
	d, err := director.New(director.Options{
		Store: store, Scheduler: scheduler,
		Admission: func(types.NamespacedName) *admission.Options { return &admission.Options{} },
	})
	if err != nil {
		panic(err)
	}
	defer d.Close()

	route, err := d.Route(context.Background(), director.Incoming{
		Path: "/v1/chat/completions",
		Body: []byte(`{"model":"llama-3","messages":[{"role":"user","content":"Hi"}]}`),
	})
	if err != nil {
		panic(err)
	}
	defer route.Done(nil)
	fmt.Println(route.Endpoint().Address, route.Waited)
	// Output: 10.0.0.1:8000 0s
}
