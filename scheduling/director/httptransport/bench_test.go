package httptransport_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
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
// the same for both.
func BenchmarkReverseProxy(b *testing.B) {
	for _, size := range []int{1 << 10, 220 << 10} {
		body := conversation(size)
		for _, by := range []string{"turn", "director"} {
			b.Run(fmt.Sprintf("body=%dKiB/by=%s", size>>10, by), func(b *testing.B) {
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
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				b.ResetTimer()
				before := cpuTime(b)
				for b.Loop() {
					resp, err := http.Post(front.URL+"/v1/chat/completions", "application/json", bytes.NewReader(body))
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(streamed)) {
						b.Fatalf("%d bytes, %v", n, err)
					}
					resp.Body.Close()
				}
				b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

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
