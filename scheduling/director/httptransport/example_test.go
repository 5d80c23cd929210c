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
