package scrape_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/datastore/scrape"
	"github.com/inferpick/inferpick/types"
)

// serversEnv makes the test binary a process of model servers instead: so many,
// whose addresses it prints. They end with their standard input.
const serversEnv = "SCRAPE_TEST_SERVERS"

func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(serversEnv)); err == nil {
		serve(n)
		return
	}
	os.Exit(m.Run())
}

// serve answers every request with the same bytes: as little work as possible,
// to leave the machine to the scraper.
func serve(n int) {
	page, err := os.ReadFile(pageFile("vllm"))
	if err != nil {
		panic(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\ndate: Fri, 21 Nov 2025 11:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: %d\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n\r\n", len(page))
	answer = append(answer, page...)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					request := make([]byte, 4096)
					for {
						if n, err := c.Read(request); err != nil || !strings.HasSuffix(string(request[:n]), "\r\n\r\n") {
							return
						}
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}()
			}
		}()
	}
	io.Copy(io.Discard, os.Stdin)
}

// startServers starts n model servers in another process, so that their CPU time
// is not taken for the scraper's.
func startServers(b *testing.B, n int) (addresses []string) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serversEnv+"="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	lines := bufio.NewScanner(out)
	for len(addresses) < n && lines.Scan() {
		addresses = append(addresses, lines.Text())
	}
	if len(addresses) != n {
		b.Fatalf("%d of %d servers started", len(addresses), n)
	}
	return addresses
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkScrape lets a Scraper read 59 kB vLLM pages of servers in another
// process, on loopback. One operation is one scrape; what counts is
//
//	cores      CPU time of the scraper's process over wall time
//	rate       scrapes in a second over those that are asked for
//	us/scrape  CPU time of one scrape, in µs
//
// Compare with
//
//	go test -run xxx -bench Scrape/ -benchtime 5s -count 6 ./datastore/scrape | benchstat -
func BenchmarkScrape(b *testing.B) {
	for _, bench := range []struct {
		endpoints int
		interval  time.Duration
	}{
		{100, 50 * time.Millisecond},
		{100, 200 * time.Millisecond},
		{1000, time.Second},
	} {
		b.Run(fmt.Sprintf("endpoints=%d/interval=%v", bench.endpoints, bench.interval), func(b *testing.B) {
			store := datastore.New(datastore.Options{})
			pool := types.NamespacedName{Namespace: "default", Name: "pool"}
			var specs []datastore.EndpointSpec
			for i, address := range startServers(b, bench.endpoints) {
				specs = append(specs, datastore.EndpointSpec{ID: strconv.Itoa(i), Address: address})
			}
			if err := store.SetEndpoints(pool, specs); err != nil {
				b.Fatal(err)
			}
			var scrapes, failures atomic.Int64
			enough := make(chan int64, 1)
			var limit atomic.Int64
			o := scrape.Options{Interval: bench.interval, OnScrape: func(r scrape.Result) {
				if r.Err != nil {
					failures.Add(1)
				}
				if n, l := scrapes.Add(1), limit.Load(); l > 0 && n >= l {
					select {
					case enough <- n:
					default:
					}
				}
			}}
			s, err := scrape.New(store, o)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			for scrapes.Load() < 2*int64(bench.endpoints) { // all are connected
				time.Sleep(10 * time.Millisecond)
			}
			if n := failures.Load(); n > 0 {
				b.Fatalf("%d scrapes failed", n)
			}

			b.ReportAllocs()
			b.ResetTimer()
			first := scrapes.Load()
			start, cpu := time.Now(), cpuTime()
			limit.Store(first + int64(b.N))
			var n int64
			select {
			case at := <-enough:
				n = at - first
			case <-time.After(time.Minute):
				b.Fatal("no end after a minute")
			}
			wall, used := time.Since(start), cpuTime()-cpu
			b.StopTimer()
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			if n := failures.Load(); n > 0 {
				b.Errorf("%d scrapes failed", n)
			}
			b.ReportMetric(used.Seconds()/wall.Seconds(), "cores")
			b.ReportMetric(float64(n)/wall.Seconds()/(float64(bench.endpoints)/bench.interval.Seconds()), "rate")
			b.ReportMetric(float64(used.Microseconds())/float64(n), "us/scrape")
		})
	}
}
