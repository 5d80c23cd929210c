package scrape_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
)

// TestConnections: what becomes of a connection, by how the server answers. Each scrape gets
// the page; the first answer of a connection is followed by what the case says.
func TestConnections(t *testing.T) {
	ok := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(idle), idle)
	chunked := fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n%x\r\n%s\r\n0\r\nX: y\r\n\r\n", len(idle), idle)
	for _, tt := range []struct {
		name   string
		answer string
		then   string // sent after it, without a request
		closed bool   // after that
		kept   bool
		failed bool
	}{
		{name: "kept", answer: ok, kept: true},
		{name: "chunked", answer: chunked, kept: true},
		{name: "informational", answer: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok, kept: true},
		{name: "too much information", answer: strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 7) + ok, failed: true},
		{name: "closed while idle", answer: ok, closed: true},
		{name: "closed with a word", answer: ok, then: "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", closed: true},
		{name: "to be closed", answer: strings.Replace(ok, "OK\r\n", "OK\r\nConnection: close\r\n", 1)},
		{name: "HTTP/1.0", answer: strings.Replace(ok, "1.1", "1.0", 1)},
		{name: "more than asked for", answer: ok + ok},
		{name: "refused, empty", answer: "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", kept: true, failed: true},
		{name: "refused, with words", answer: "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nOops", failed: true},
		{name: "switching protocols", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", failed: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int64
			address := accept(t, func(c net.Conn) {
				connections.Add(1)
				request := make([]byte, 4096)
				for first := true; ; first = false {
					n, err := c.Read(request)
					if err != nil {
						return
					}
					if got, want := string(request[:n]), "GET /metrics HTTP/1.1\r\nHost: "+c.LocalAddr().String()+"\r\nUser-Agent: inferpick\r\nAccept: "; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\r\n\r\n") {
						t.Errorf("asked %q, want %q", got, want)
					}
					io.WriteString(c, tt.answer)
					if first && tt.then != "" {
						io.WriteString(c, tt.then)
					}
					if tt.closed {
						return
					}
				}
			})
			const scrapes = 4
			results := make(chan scrape.Result, 100)
			store := newStore(t, datastore.EndpointSpec{ID: "a", Address: address, Engine: "vllm"})
			stop := start(t, store, scrape.Options{Interval: 5 * time.Millisecond, MaxBackoff: 5 * time.Millisecond, Timeout: 5 * time.Second, ModelsInterval: -1,
				OnScrape: func(r scrape.Result) {
					select {
					case results <- r:
					default:
					}
				}})
			for range scrapes {
				r := <-results
				require.Equal(t, tt.failed, r.Err != nil, "%v", r.Err)
				require.Equal(t, "http://"+address+"/metrics", r.URL)
			}
			n := connections.Load()
			stop()
			require.Equal(t, tt.kept, n == 1, "%d connections", n)
		})
	}
}

// TestScrapeAllocations: one on a connection that is kept makes few allocations, most of them
// net/http's for the answer.
func TestScrapeAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	page, err := os.ReadFile(pageFile("vllm"))
	require.NoError(t, err)
	answer := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: %d\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n\r\n", len(page)), page...)
	address := accept(t, func(c net.Conn) {
		request := make([]byte, 4096)
		for {
			n, err := c.Read(request)
			if err != nil || !bytes.HasSuffix(request[:n], []byte("\r\n\r\n")) {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
	const scrapes = 300
	var mallocs [2]uint64
	n := 0
	done := make(chan struct{})
	store := newStore(t, datastore.EndpointSpec{ID: "a", Address: address})
	stop := start(t, store, scrape.Options{Interval: time.Millisecond, Timeout: 5 * time.Second, ModelsInterval: -1, OnScrape: func(r scrape.Result) {
		if r.Err != nil {
			t.Error(r.Err)
		}
		n++
		var m runtime.MemStats
		switch n {
		case 10: // it is connected, and all buffers are there
			runtime.ReadMemStats(&m)
			mallocs[0] = m.Mallocs
		case 10 + scrapes:
			runtime.ReadMemStats(&m)
			mallocs[1] = m.Mallocs
			close(done)
		}
	}})
	<-done
	stop()
	if per := float64(mallocs[1]-mallocs[0]) / scrapes; per > 20 {
		t.Errorf("%.1f allocations a scrape, want at most 20", per)
	} else {
		t.Logf("%.1f allocations a scrape", per)
	}
}
