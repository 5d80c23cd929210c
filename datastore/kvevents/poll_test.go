package kvevents_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/types"
)

// drain answers as TensorRT-LLM does: each event is given out once.
type drain struct {
	method string

	mu     sync.Mutex
	events []string
}

func (d *drain) add(events ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, events...)
}

func (d *drain) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case req.URL.Path != "/kv_cache_events":
		http.NotFound(w, req)
	case req.Method != d.method:
		w.WriteHeader(http.StatusMethodNotAllowed)
	default:
		fmt.Fprintf(w, "[%s]", strings.Join(d.events, ","))
		d.events = nil
	}
}

func trtStored(id, window, rank int, parent string, blocks ...string) string {
	return fmt.Sprintf(`{"event_id":%d,"data":{"type":"stored","parent_hash":%s,"blocks":[%s]},"window_size":%d,"attention_dp_rank":%d}`, id, parent, strings.Join(blocks, ","), window, rank)
}

func trtBlock(hash any, level int) string {
	return fmt.Sprintf(`{"type":"stored_block","block_hash":%v,"tokens":[{"type":"unique_token","token_id":5,"token_extra_id":0},{"token_id":6}],"cache_level":%d,"priority":35}`, hash, level)
}

func TestPoll(t *testing.T) {
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		t.Run(method, func(t *testing.T) {
			var port string
			r := newRig(t, func(o *kvevents.Options) {
				o.PollInterval = 10e6
				o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
					_, port, _ = strings.Cut(ep.Address, ":")
					return []kvevents.Source{{Endpoint: "http://:" + port + "/kv_cache_events"}}
				}
			})
			d := &drain{method: method}
			d.add(`{"event_id":0,"data":{"type":"created","num_blocks_per_cache_level":[100,0]},"window_size":4096}`,
				trtStored(1, 4096, 0, "null", trtBlock(11, 0), trtBlock(`"12"`, 0), trtBlock(-1, 1)))
			r.serve("a", d)
			r.holds("a", kvevents.Live, 11, 12)
			require.Equal(t, []uint64{1<<64 - 1}, r.index.Held("a", 0).Hashes(kvevents.CPU))

			d.add(trtStored(2, 1024, 0, "12", trtBlock(99, 0)), // a smaller window
				`{"event_id":3,"data":{"type":"updated","block_hash":11,"cache_level":{"type":"event_diff","new_value":1,"old_value":0}},"window_size":4096}`,
				`{"event_id":4,"data":{"type":"removed","block_hashes":[18446744073709551615]},"window_size":4096}`,
				`{"event_id":5,"data":{"type":"unknown"},"window_size":4096}`)
			r.holds("a", kvevents.Live, 12)
			eventually(t, "CPU", func() bool { return fmt.Sprint(r.index.Held("a", 0).Hashes(kvevents.CPU)) == "[11]" })

			d.add(trtStored(9, 4096, 0, "12", trtBlock(13, 0))) // a gap: what was before is not known
			r.holds("a", kvevents.Late, 13)
			d.add(trtStored(0, 4096, 0, "null", trtBlock(1, 0))) // another process
			r.holds("a", kvevents.Live, 1)
			d.add(trtStored(1, 8192, 0, "null", trtBlock(2, 0))) // a larger window
			r.holds("a", kvevents.Late, 2)
			d.add(`{"event_id":true}`, trtStored(2, 8192, 0, "null", trtBlock(3, 0)))
			r.holds("a", kvevents.Late, 2, 3)
			require.Equal(t, uint64(1), r.sub.Stats().BatchErrors)
			d.add(trtStored(0, 8192, 1, "null", trtBlock(7, 0)))
			eventually(t, "rank 1", func() bool { return fmt.Sprint(r.index.Held("a", 1).Hashes(kvevents.GPU)) == "[7]" })
		})
	}
}

func TestPollErrors(t *testing.T) {
	r := newRig(t, func(o *kvevents.Options) {
		o.Sources = func(_ types.NamespacedName, ep *types.Endpoint) []kvevents.Source {
			_, port, _ := strings.Cut(ep.Address, ":")
			return []kvevents.Source{{Endpoint: "http://:" + port + "/" + ep.ID}}
		}
	})
	r.serve("missing", http.NotFoundHandler())
	r.serve("html", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	for _, want := range []string{"status 404: TensorRT-LLM has events if kv_cache_config has event_buffer_max_size", "the answer is no list of events: invalid character '<'"} {
		eventually(t, want, func() bool { return strings.Contains(r.failed(), want) })
	}
}
