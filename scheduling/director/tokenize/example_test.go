package tokenize_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/tokenize"
	"github.com/inferpick/inferpick/types"
)

// A gateway that knows what engines hold by the token ids of prompts.
func ExampleClient() {
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprint(w, `{"count":3,"max_model_len":8192,"tokens":[9906,1917,0]}`)
	}))
	defer engine.Close()
	store := datastore.New(datastore.Options{})
	address := strings.TrimPrefix(engine.URL, "http://")
	if err := store.UpsertEndpoint(types.NamespacedName{Name: "pool"}, datastore.EndpointSpec{Address: address}); err != nil {
		fmt.Println(err)
		return
	}
	gateway := func(ctx context.Context) (*director.Director, error) {
		profile, err := plugins.DefaultWith(plugins.CostOptions{
			Prefix: plugins.PrefixOptions{BlockBytes: 4 * 16}, // the engine's block has 16 tokens
		})
		if err != nil {
			return nil, err
		}
		sink, err := plugins.KVSinkOf(profile, plugins.KVOptions{Model: "llama"}) // as engines are asked for it
		if err != nil {
			return nil, err
		}
		sub, err := kvevents.New(store, kvevents.Options{Sink: sink, Tokens: true})
		if err != nil {
			return nil, err
		}
		tokens, err := tokenize.New(tokenize.Options{}) // asks vLLM; or a function of your own
		if err != nil {
			return nil, err
		}
		scheduler, err := scheduling.New(profile)
		if err != nil {
			return nil, err
		}
		go sub.Run(ctx)
		return director.New(director.Options{Store: store, Scheduler: scheduler, Tokenize: tokens.Of})
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	d, err := gateway(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	r, err := d.Route(ctx, director.Incoming{
		Path: "/v1/completions", Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"model":"llama","prompt":"Hello world!"}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Done(nil)
	fmt.Println(r.Request.Prompt.Tokens, "tokens")
	// Output: 3 tokens
}
