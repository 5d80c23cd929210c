package kvevents_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/kvevents"
	"github.com/inferpick/inferpick/datastore/kvevents/kveventstest"
	"github.com/inferpick/inferpick/internal/zmtp"
	"github.com/inferpick/inferpick/types"
)

func TestReadSources(t *testing.T) {
	// What vLLM 0.32 answered.
	got, err := kvevents.ReadVLLM([]byte(`{"0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://127.0.0.1:18211","replay_endpoint":"tcp://127.0.0.1:18311","buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"topic":"kv@18111"}}`))
	require.NoError(t, err)
	require.Equal(t, []kvevents.Source{{Endpoint: "tcp://127.0.0.1:18211", Replay: "tcp://127.0.0.1:18311", Topic: "kv@18111"}}, got)

	got, err = kvevents.ReadVLLM([]byte(`{"1":{"endpoint":"tcp://*:2"},"0":{"endpoint":"tcp://*:1","replay_endpoint":null},"2":{"publisher":"null"},"3":{"enable_kv_cache_events":false,"endpoint":"tcp://*:3"},"-1":{"endpoint":"tcp://*:4"}}`))
	require.NoError(t, err)
	require.Equal(t, []kvevents.Source{{Endpoint: "tcp://*:1"}, {Endpoint: "tcp://*:2", Rank: 1}}, got)

	got, err = kvevents.ReadVLLM([]byte(`[{"data_parallel_rank":3,"endpoint":"tcp://10.0.0.1:5557","replay_endpoint":null,"topic":""}]`))
	require.NoError(t, err)
	require.Equal(t, []kvevents.Source{{Endpoint: "tcp://10.0.0.1:5557", Rank: 3}}, got)

	for _, bad := range []string{`"x"`, `{"a":{}}`, `{"0":1}`, ``, `[1]`} {
		_, err = kvevents.ReadVLLM([]byte(bad))
		require.Error(t, err, bad)
	}

	got, err = kvevents.ReadSGLang([]byte(`{"version":"0.5.23","kv_events":{"publisher":"zmq","endpoint_host":"*","endpoint_port_base":5557,"topic":"kv","block_size":64,"dp_size":2,"replay_endpoint_port_base":6557,"load_endpoint_port_base":5559,"load_topic":"load"}}`))
	require.NoError(t, err)
	require.Equal(t, []kvevents.Source{{Endpoint: "tcp://*:5557", Replay: "tcp://*:6557", Topic: "kv", Load: "tcp://*:5559", LoadTopic: "load", Ranks: 2}}, got)
	for _, none := range []string{`{}`, `{"kv_events":null}`, `{"kv_events":{"publisher":"null"}}`} {
		got, err = kvevents.ReadSGLang([]byte(none))
		require.NoError(t, err)
		require.Empty(t, got)
	}
	_, err = kvevents.ReadSGLang([]byte(`[]`))
	require.Error(t, err)
}

// asked answers requests by path, and knows when which were made.
type asked struct {
	began  time.Time
	answer func(path string) (int, string)

	mu    sync.Mutex
	times []string
}

func (a *asked) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, fmt.Sprintf("%v %s", time.Since(a.began), req.URL.Path))
	status, body := a.answer(req.URL.Path)
	if status == 0 {
		return nil, errors.New(body)
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}}, nil
}

// run runs a Subscriber for a time that is virtual.
func run(t *testing.T, spec datastore.EndpointSpec, o kvevents.Options, for_ time.Duration, during func(*datastore.Store)) kvevents.Stats {
	t.Helper()
	store := datastore.New(datastore.Options{})
	require.NoError(t, store.UpsertEndpoint(pool, spec))
	o.Sink = &kveventstest.Index{}
	sub, err := kvevents.New(store, o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- sub.Run(ctx) }()
	if during != nil {
		during(store)
	}
	time.Sleep(for_)
	cancel()
	require.NoError(t, <-done)
	return sub.Stats()
}

func TestDiscover(t *testing.T) {
	for _, c := range []struct {
		name, engine string
		answer       func(string) (int, string)
		want         []string
		errors       uint64
	}{
		{name: "an engine that is not known is asked in all ways, now and then", answer: func(string) (int, string) { return 404, "" },
			want: []string{"0s /kv_event_sources", "0s /server_info", "1m0s /kv_event_sources", "1m0s /server_info"}},
		{name: "vllm", engine: "vllm", answer: func(string) (int, string) { return 404, "" }, want: []string{"0s /kv_event_sources", "1m0s /kv_event_sources"}},
		{name: "sglang", engine: "SGLang", answer: func(string) (int, string) { return 200, "{}" }, want: []string{"0s /server_info", "1m0s /server_info"}},
		{name: "nothing is published", engine: "vllm", answer: func(string) (int, string) { return 200, "{}" }, want: []string{"0s /kv_event_sources", "1m0s /kv_event_sources"}},
		{name: "failures are tried again, ever later", engine: "vllm", errors: 6, answer: func(string) (int, string) { return 0, "down" },
			want: []string{"0s /kv_event_sources", "10s /kv_event_sources", "30s /kv_event_sources", "1m0s /kv_event_sources", "1m30s /kv_event_sources", "2m0s /kv_event_sources"}},
		{name: "nobody may ask", engine: "vllm", errors: 6, answer: func(string) (int, string) { return 401, "" },
			want: []string{"0s /kv_event_sources", "10s /kv_event_sources", "30s /kv_event_sources", "1m0s /kv_event_sources", "1m30s /kv_event_sources", "2m0s /kv_event_sources"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &asked{began: time.Now(), answer: c.answer}
				wait := 119 * time.Second
				o := kvevents.Options{Transport: a, MinBackoff: 10 * time.Second, MaxBackoff: 30 * time.Second}
				if c.errors > 0 {
					wait = 3 * time.Minute
				}
				s := run(t, datastore.EndpointSpec{ID: "a", Address: "10.0.0.7:8000", Engine: c.engine}, o, wait, nil)
				if c.errors == 0 {
					require.Equal(t, c.want, a.times)
					return
				}
				// Waits are up to a quarter longer than they have to be, at random.
				require.Len(t, a.times, int(s.DiscoveryErrors))
				require.GreaterOrEqual(t, int(c.errors), len(a.times)-1)
				for i := range min(len(a.times), len(c.want)) {
					least, got := seconds(t, c.want[i]), seconds(t, a.times[i])
					require.True(t, got >= least && got <= least+least/4, "request %d at %v, want from %v on", i, got, least)
				}
			})
		})
	}
}

func seconds(t *testing.T, at string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(strings.Fields(at)[0])
	require.NoError(t, err)
	return d
}

// A restart is asked about at once, and an engine that publishes no more is forgotten.
func TestDiscoverAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{began: time.Now(), answer: func(string) (int, string) { return 200, `{"0":{"endpoint":"tcp://10.9.9.9:5557"}}` }}
		var dialed []string
		var mu sync.Mutex
		o := kvevents.Options{Transport: a, MinBackoff: time.Hour, MaxBackoff: time.Hour, Dial: func(_ context.Context, network, address string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dialed = append(dialed, fmt.Sprint(time.Since(a.began), " ", network, " ", address))
			return nil, errors.New("refused")
		}}
		run(t, datastore.EndpointSpec{ID: "a", Address: "10.0.0.7:8000", Engine: "vllm"}, o, 2*time.Second, func(store *datastore.Store) {
			time.Sleep(time.Second)
			synctest.Wait()
			load := store.Snapshot().Pool(pool).Endpoints()[0].Load
			store.UpdateMetrics(load, types.Metrics{StartedAt: types.Known(1000)})
			store.UpdateMetrics(load, types.Metrics{StartedAt: types.Known(2000)})
		})
		require.Equal(t, []string{"0s /kv_event_sources", "1s /kv_event_sources"}, a.times)
		require.Equal(t, []string{"0s tcp 10.0.0.7:5557", "1s tcp 10.0.0.7:5557"}, dialed, "no other host, whatever the engine says")
	})
}

func TestDiscoverErrors(t *testing.T) {
	for answer, want := range map[string]string{
		"401 ":                              "kvevents: /kv_event_sources: status 401: give Options.Transport one that authenticates, or set Options.Sources",
		"500 ":                              "kvevents: /kv_event_sources: status 500",
		"200 <html>":                        "kvevents: /kv_event_sources: want an object of sources by rank, or a list of them: invalid character '<' looking for beginning of value",
		`200 {"0":{"endpoint":"ipc:///x"}}`: `kvevents: Endpoint is "ipc:///x", want tcp://host:port`,
		`200 [{"endpoint":"tcp://*:1"},{"endpoint":"tcp://*:2","data_parallel_rank":0}]`: "kvevents: two sources of the events of rank 0, want one",
		"200 " + strings.Repeat(" ", 2000):                                               "kvevents: the answer to http://10.0.0.7:8000/kv_event_sources has more than 1024 bytes",
	} {
		synctest.Test(t, func(t *testing.T) {
			a := &asked{began: time.Now(), answer: func(string) (status int, body string) {
				_, err := fmt.Sscan(answer, &status)
				require.NoError(t, err)
				return status, answer[4:]
			}}
			var got []error
			o := kvevents.Options{Transport: a, MaxBody: 1024, MinBackoff: time.Hour, OnFailure: func(f kvevents.Failure) { got = append(got, f.Err) }}
			run(t, datastore.EndpointSpec{ID: "a", Address: "10.0.0.7:8000"}, o, time.Second, nil)
			require.Len(t, got, 1)
			require.EqualError(t, got[0], want)
		})
	}
}

func TestDecodeLoad(t *testing.T) {
	got, err := kvevents.DecodeLoad(unhex(t, "9b a84c6f616453746174 03 02 cd03e8 ce000f4240 00 cd0fa0 cd1388 cd0100 cf0000000100000000 ce003d0900"))
	require.NoError(t, err)
	require.Equal(t, kvevents.Load{
		Running: 3, Waiting: 2, KVUsed: 1000, KVMax: 1_000_000, WaitingTokens: 4000, QueuedTokens: 5000, MaxRunning: 256,
		PrefillTokens: 1 << 32, PrefillBusy: 4 * time.Second,
	}, got)
	got, err = kvevents.DecodeLoad(unhex(t, "96 a84c6f616453746174 03 02 05 06 c0")) // an older one
	require.NoError(t, err)
	require.Equal(t, kvevents.Load{Running: 3, Waiting: 2, KVUsed: 5, KVMax: 6}, got)
	_, err = kvevents.DecodeLoad(unhex(t, "9d a84c6f616453746174 03 02 05 06 00 ff c0 cb0000000000000000 01 02 91c0 03"))
	require.NoError(t, err, "negative, missing and more")
	for payload, want := range map[string]string{
		"96 a3466f6f 0102030405": `kvevents: 6 values that begin with "Foo", want 5 or more with LoadStat`,
		"80":                     "kvevents: a load cannot be read: msgpack: at byte 0 of 1: a value is of type map, want array",
	} {
		_, err := kvevents.DecodeLoad(unhex(t, payload))
		require.EqualError(t, err, want)
	}
}

// The load comes at its own port, and the rate of prefill is that since the reading before.
func TestLoad(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		c, err := zmtp.New(conn, zmtp.Options{Socket: "PUB", Peers: []string{"SUB"}})
		if err != nil {
			return
		}
		if _, err := c.Receive(); err != nil { // the subscription
			return
		}
		for i, load := range []struct{ tokens, micros uint32 }{{1000, 100_000}, {1000, 100_000}, {5000, 300_000}, {5010, 300_500}, {20, 10_000}} {
			payload, _ := io.ReadAll(strings.NewReader("\x9b\xa8LoadStat\x03\x02\x05\x06\x00\x00\x00\x00"))
			payload = binary.BigEndian.AppendUint32(append(payload, 0xce), load.tokens)
			payload = binary.BigEndian.AppendUint32(append(payload, 0xce), load.micros)
			if c.Send([]byte("load"), binary.BigEndian.AppendUint64(nil, uint64(i)), payload) != nil {
				return
			}
		}
		_, _ = c.Receive()
	}()
	loads := make(chan kvevents.Load, 10)
	port := l.Addr().(*net.TCPAddr).Port
	r := newRig(t, func(o *kvevents.Options) {
		o.Sink = nil
		o.OnLoad = func(endpoint string, rank int, l kvevents.Load) {
			if endpoint == "a" && rank == 0 {
				loads <- l
			}
		}
	})
	r.serve("a", http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/server_info" {
			http.NotFound(w, req)
			return
		}
		fmt.Fprintf(w, `{"kv_events":{"publisher":"zmq","endpoint_port_base":1,"dp_size":1,"load_endpoint_port_base":%d,"load_topic":"load"}}`, port)
	}))
	for _, want := range []float64{10_000, 10_000, 20_000, 20_000, 2000} {
		got := <-loads
		require.Equal(t, 3, got.Running)
		require.InDelta(t, want, got.PrefillRate, 1e-6)
	}
	require.Equal(t, uint64(5), r.sub.Stats().Loads)
}
