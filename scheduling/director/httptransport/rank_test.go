package httptransport_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// Each rank of a server is told its requests by a header, also where another one failed; what a client says is not passed
// on.
func TestRanksAreTold(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, strings.Join(r.Header.Values(types.HeaderRank), ","))
		if len(asked) == 1 {
			w.WriteHeader(503)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[]}`)
	}))
	defer server.Close()
	store := datastore.New(datastore.Options{})
	spec := datastore.EndpointSpec{Address: server.Listener.Addr().String()}
	require.NoError(t, store.SetEndpoints(types.NamespacedName{Name: "llama"}, spec.PerRank(2)))
	d, err := director.New(director.Options{Store: store, Scheduler: scheduling.Must(scheduling.New(plugins.Default()))})
	require.NoError(t, err)
	defer d.Close()
	client := &http.Client{Transport: httptransport.New(d)}
	req, _ := http.NewRequest("POST", "http://any/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[]}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(types.HeaderRank, "7")
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.ElementsMatch(t, []string{"0", "1"}, asked)
}
