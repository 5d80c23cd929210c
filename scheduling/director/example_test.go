package director_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// What a gateway does for each request, in whatever data plane. Errors of the
// wiring are left out; gateways on net/http use package httptransport instead.
func Example() {
	store := datastore.New(datastore.Options{})
	_ = store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{
		{ID: "a", Address: "10.0.0.1:8000"}, {ID: "b", Address: "10.0.0.2:8000"},
	})
	scheduler, _ := scheduling.New(plugins.Default())
	d, _ := director.New(director.Options{Store: store, Scheduler: scheduler})
	defer d.Close()

	// A request has come in.
	route, err := d.Route(context.Background(), director.Incoming{
		Path:   "/v1/chat/completions",
		Header: http.Header{"X-Session-Id": {"42"}},
		Body:   []byte(`{"model":"llama-3","stream":true,"messages":[{"role":"user","content":"Hi"}]}`),
	})
	if err != nil {
		e := director.AsError(err)
		fmt.Println(e.Status, e.Header(), string(e.Body()))
		return
	}
	defer route.Done(nil)

	for ep := route.Endpoint(); ep != nil; ep = route.Next() {
		status, contentType, chunks, err := send(ep.Address, route.Body)
		if err != nil {
			continue // no byte has gone to the client: the next one, please
		}
		route.Response(status, contentType)
		for _, chunk := range chunks {
			fmt.Printf("%s", route.Data(chunk))
		}
		fmt.Printf("%s", route.End())
		break
	}
	// Output:
	// data: {"choices":[{"delta":{"content":"Hello"}}]}
	//
	// data: [DONE]
}

// send stands for the data plane: the first server is down.
func send(address string, _ []byte) (status int, contentType string, chunks [][]byte, err error) {
	if !up[address] {
		up["10.0.0.1:8000"], up["10.0.0.2:8000"] = true, true
		return 0, "", nil, fmt.Errorf("%s: connection refused", address)
	}
	return 200, "text/event-stream", [][]byte{
		[]byte("data: {\"choices\":[{\"delta\":{\"content\":\"Hello\"}}]}\n\n"), []byte("data: [DONE]\n\n"),
	}, nil
}

var up = map[string]bool{}

// Why would the request go there?
func ExampleDirector_Explain() {
	store := datastore.New(datastore.Options{})
	pool := types.NamespacedName{Name: "llama"}
	_ = store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "a", Address: "10.0.0.1:8000"}, {ID: "b", Address: "10.0.0.2:8000"}})
	for i, ep := range store.Snapshot().Pool(pool).Endpoints() {
		store.UpdateMetrics(ep.Load, types.Metrics{UpdatedAt: time.Now(), Waiting: types.Known(float64(3 * i)), KVUsage: types.Known(0.5)})
	}
	scheduler, _ := scheduling.New(plugins.Classic())
	d, _ := director.New(director.Options{Store: store, Scheduler: scheduler})
	defer d.Close()

	why, err := d.Explain(context.Background(), director.Incoming{
		Path: "/v1/chat/completions",
		Body: []byte(`{"model":"llama-3","messages":[{"role":"user","content":"Hi"}]}`),
	})
	if err != nil {
		panic(err)
	}
	fmt.Print(why)
	// Output:
	// rank  endpoint  total  queue x2           kv-cache x2      prefix-cache x3
	// 1     a         3.000  2.000 (0 waiting)  1.000 (KV 50 %)  0.000 (0 of 0 blocks cached)
	// 2     b         1.000  0.000 (3 waiting)  1.000 (KV 50 %)  0.000 (0 of 0 blocks cached)
}

// filter is what a data plane keeps of one request that it meets in pieces, in callbacks
// like those of Envoy's modules or of nginx.
type filter struct {
	director *director.Director
	exchange *director.Exchange
}

func (f *filter) onRequestHeaders(path string, header http.Header, last bool) *director.Answer {
	exchange, answer := f.director.Begin(context.Background(), director.Incoming{Path: path, Header: header, HeadersOnly: last})
	f.exchange = exchange
	return answer // goes to the client, unless it is nil
}

func (f *filter) onRequestBody(piece []byte, last bool) *director.Answer {
	return f.exchange.Body(piece, last) // once it was the last one, f.exchange.Route() says where to send what
}

func (f *filter) onResponseHeaders(status int, header http.Header) {
	f.exchange.ResponseHeader(status, header)
}

func (f *filter) onResponseBody(piece []byte, last bool) []byte {
	return f.exchange.ResponseBody(piece, last)
}

func (f *filter) onDestroy() { f.exchange.Close(context.Canceled) } // what has ended stays as it is

// A request and its response in pieces.
func ExampleExchange() {
	store := datastore.New(datastore.Options{})
	_ = store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{{Address: "10.0.0.1:8000"}})
	scheduler, _ := scheduling.New(plugins.Default())
	d, _ := director.New(director.Options{Store: store, Scheduler: scheduler})
	defer d.Close()

	f := &filter{director: d}
	defer f.onDestroy()
	f.onRequestHeaders("/v1/chat/completions", http.Header{"Content-Type": {"application/json"}}, false)
	f.onRequestBody([]byte(`{"model":"llama-3","messages":[{"role":"us`), false)
	if answer := f.onRequestBody([]byte(`er","content":"Hi"}]}`), true); answer != nil {
		fmt.Println(answer.Status)
		return
	}
	route := f.exchange.Route()
	fmt.Println("send", len(route.Body), "bytes to", route.Endpoint().Address)
	f.onResponseHeaders(200, http.Header{"Content-Type": {"application/json"}})
	fmt.Printf("%s\n", f.onResponseBody([]byte(`{"choices":[{"message":{"content":"Hello"}}]}`), true))
	// Output:
	// send 63 bytes to 10.0.0.1:8000
	// {"choices":[{"message":{"content":"Hello"}}]}
}

// Where pools come and go, each gets a scheduler of its own when it is first asked for.
func ExampleOptions_newScheduler() {
	store := datastore.New(datastore.Options{})
	d, err := director.New(director.Options{
		Store: store,
		NewScheduler: func(pool *datastore.Pool) (*scheduling.Scheduler, error) {
			fmt.Println("a scheduler for", pool.Name())
			return scheduling.New(plugins.Default())
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	for _, name := range []string{"llama", "qwen"} {
		pool := types.NamespacedName{Name: name}
		_ = store.SetEndpoints(pool, []datastore.EndpointSpec{{Address: "10.0.0.1:8000"}})
		for range 2 {
			route, err := d.Route(context.Background(), director.Incoming{
				Path: "/v1/chat/completions", Pool: pool, Body: []byte(`{"model":"m","messages":[]}`),
			})
			if err != nil {
				fmt.Println(err)
				return
			}
			route.Done(nil)
		}
	}
	// Output:
	// a scheduler for default/llama
	// a scheduler for default/qwen
}
