package httptransport_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/disagg"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
)

// A gateway on net/http. Errors of the wiring are left out.
func Example() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"choices":[{"message":{"content":"Hello"}}]}`)
	}))
	defer server.Close()

	store := datastore.New(datastore.Options{})
	_ = store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{{Address: server.Listener.Addr().String()}})
	scheduler, _ := scheduling.New(plugins.Default())
	d, _ := director.New(director.Options{Store: store, Scheduler: scheduler})
	defer d.Close()
	gateway := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:       func(*httputil.ProxyRequest) {},
		Transport:     httptransport.New(d),
		FlushInterval: -1,
	})
	defer gateway.Close()

	resp, err := http.Post(gateway.URL+"/v1/chat/completions", "application/json", strings.NewReader(
		`{"model":"llama-3","messages":[{"role":"user","content":"Hi"}]}`))
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body))
	// Output: 200 {"choices":[{"message":{"content":"Hello"}}]}
}

// A gateway in front of vLLM servers of which some compute prompts for the others, and hand the KV cache
// over by NIXL. Here both are stand-ins, and errors of the wiring are left out.
func Example_disaggregated() {
	prefill := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"choices":[{"text":"H","finish_reason":"length"}],"kv_transfer_params":{"remote_engine_id":"p"}}`)
	}))
	defer prefill.Close()
	decode := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, `{"choices":[{"message":{"content":"Hello"}}],"handed over":%v}`, strings.Contains(string(body), `"remote_engine_id":"p"`))
	}))
	defer decode.Close()

	store := datastore.New(datastore.Options{})
	_ = store.SetEndpoints(types.NamespacedName{Name: "llama"}, []datastore.EndpointSpec{
		{Address: prefill.Listener.Addr().String(), Labels: map[string]string{types.RoleLabel: "prefill"}},
		{Address: decode.Listener.Addr().String(), Labels: map[string]string{types.RoleLabel: "decode-only"}}, // never alone
	})
	scheduler, _ := scheduling.New(plugins.Default())
	nixl := disagg.NIXL(disagg.Options{})
	d, _ := director.New(director.Options{
		Store: store, Scheduler: scheduler,
		Handover: func(_, _ *types.Endpoint) disagg.Protocol { return nixl },
	})
	defer d.Close()
	client := &http.Client{Transport: httptransport.New(d)}

	resp, err := client.Post("http://any/v1/chat/completions", "application/json", strings.NewReader(
		`{"model":"llama-3","messages":[{"role":"user","content":"Hi"}]}`))
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body))
	// Output: 200 {"choices":[{"message":{"content":"Hello"}}],"handed over":true}
}
