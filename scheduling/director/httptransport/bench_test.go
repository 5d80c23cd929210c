package httptransport_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
)

// conversation returns a chat of ten messages with about n bytes of body.
func conversation(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"model":"m","stream":true,"max_tokens":256,"messages":[`)
	line := `It was the best of \"times\", it was the worst of times.\n`
	for i := range 10 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"role":"user","content":"%d %s"}`, i, strings.Repeat(line, max(n/10-60, 0)/len(line)))
	}
	b.WriteString("]}")
	return []byte(b.String())
}

// BenchmarkReverseProxy is a request through a httputil.ReverseProxy to one of four
// servers and its answer, over loopback, with this Transport and with one that takes
// servers in turn. cpu-µs/op is the time of all cores, of client and servers too, which is
// the same for both. With one client, who waits for each answer, not all cores are busy all
// the time; with eight they are, and ns/op says what rate there is room for.
func BenchmarkReverseProxy(b *testing.B) {
	for _, size := range []int{1 << 10, 220 << 10} {
		body := conversation(size)
		for _, clients := range []int{1, 8} {
			for _, by := range []string{"turn", "director"} {
				b.Run(fmt.Sprintf("body=%dKiB/clients=%d/by=%s", size>>10, clients, by), func(b *testing.B) {
					front := newFront(b, by)
					b.SetBytes(int64(len(body)))
					b.ReportAllocs()
					b.SetParallelism(max(clients/runtime.GOMAXPROCS(0), 1))
					b.ResetTimer()
					before := cpuTime(b)
					if clients == 1 {
						for b.Loop() {
							ask(b, front, body)
						}
					} else {
						b.RunParallel(func(pb *testing.PB) {
							for pb.Next() {
								ask(b, front, body)
							}
						})
					}
					b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
				})
			}
		}
	}
}

// newFront returns the URL of a gateway before four servers.
func newFront(b *testing.B, by string) string {
	var servers []string
	for range 4 {
		s := httptest.NewServer(answer(streamed))
		b.Cleanup(s.Close)
		servers = append(servers, s.Listener.Addr().String())
	}
	proxy := inTurn(servers)
	if by == "director" {
		proxy = byDirector(b, servers)
	}
	front := httptest.NewServer(proxy)
	b.Cleanup(front.Close)
	return front.URL
}

// ask sends a request and reads the answer.
func ask(b *testing.B, front string, body []byte) {
	resp, err := client.Post(front+"/v1/chat/completions", "application/json", bytes.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(streamed)) {
		b.Errorf("%d bytes, %v", n, err)
	}
}

// client keeps the connections of all clients of the benchmark.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func inTurn(servers []string) *httputil.ReverseProxy {
	var next atomic.Uint64
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: servers[next.Add(1)%uint64(len(servers))]})
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}, FlushInterval: -1,
	}
}

func byDirector(b *testing.B, servers []string) *httputil.ReverseProxy {
	store := datastore.New(datastore.Options{})
	for _, address := range servers {
		if err := store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: address}); err != nil {
			b.Fatal(err)
		}
	}
	s, err := scheduling.New(plugins.Default())
	if err != nil {
		b.Fatal(err)
	}
	d, err := director.New(director.Options{Store: store, Scheduler: s})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.Close)
	return &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: httptransport.New(d), FlushInterval: -1}
}

// cpuTime is what this process has used of all cores.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Skip(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
