package scrape_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
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
	answer := serverAnswer()
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

func serverAnswer() []byte {
	page, err := os.ReadFile(pageFile("vllm"))
	if err != nil {
		panic(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\ndate: Fri, 21 Nov 2025 11:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: %d\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n\r\n", len(page))
	return append(answer, page...)
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

// BenchmarkScrape reads 59 kB vLLM pages of servers in another process, on loopback. One
// operation is one scrape; what counts is
//
//	cores      CPU time of this process over wall time
//	rate       scrapes in a second over those that are asked for
//	us/scrape  CPU time of one scrape, in µs
//
// It is done by a Scraper, and for comparison by the client of net/http and by bare
// connections, which both throw the page away: what a page costs that nobody reads. Compare with
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
		for _, by := range []struct {
			name string
			run  func(ctx context.Context, addresses []string, interval time.Duration, scraped func(error)) error
		}{{"scraper", byScraper}, {"client", byClient}, {"conn", byConn}} {
			b.Run(fmt.Sprintf("endpoints=%d/interval=%v/by=%s", bench.endpoints, bench.interval, by.name), func(b *testing.B) {
				addresses := startServers(b, bench.endpoints)
				var scrapes, failures atomic.Int64
				enough := make(chan int64, 1)
				var limit atomic.Int64
				ctx, cancel := context.WithCancel(b.Context())
				done := make(chan error, 1)
				go func() {
					done <- by.run(ctx, addresses, bench.interval, func(err error) {
						if err != nil {
							failures.Add(1)
						}
						if n, l := scrapes.Add(1), limit.Load(); l > 0 && n >= l {
							select {
							case enough <- n:
							default:
							}
						}
					})
				}()
				for scrapes.Load() < 2*int64(bench.endpoints) { // all are connected
					time.Sleep(10 * time.Millisecond)
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
				failed := failures.Load()
				cancel()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				if failed > 0 {
					b.Errorf("%d scrapes failed", failed)
				}
				b.ReportMetric(used.Seconds()/wall.Seconds(), "cores")
				b.ReportMetric(float64(n)/wall.Seconds()/(float64(bench.endpoints)/bench.interval.Seconds()), "rate")
				b.ReportMetric(float64(used.Microseconds())/float64(n), "us/scrape")
			})
		}
	}
}

func byScraper(ctx context.Context, addresses []string, interval time.Duration, scraped func(error)) error {
	store := datastore.New(datastore.Options{})
	pool := types.NamespacedName{Namespace: "default", Name: "pool"}
	var specs []datastore.EndpointSpec
	for i, address := range addresses {
		specs = append(specs, datastore.EndpointSpec{ID: strconv.Itoa(i), Address: address})
	}
	if err := store.SetEndpoints(pool, specs); err != nil {
		return err
	}
	s, err := scrape.New(store, scrape.Options{Interval: interval, OnScrape: func(r scrape.Result) { scraped(r.Err) }})
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// byClient asks as little as net/http lets one ask for.
func byClient(ctx context.Context, addresses []string, interval time.Duration, scraped func(error)) error {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: time.Second}
	defer client.CloseIdleConnections()
	return each(ctx, addresses, interval, func(address string) func() {
		return func() {
			resp, err := client.Get("http://" + address + "/metrics")
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			scraped(err)
		}
	})
}

// byConn is what the kernel and the scheduler of goroutines cost.
func byConn(ctx context.Context, addresses []string, interval time.Duration, scraped func(error)) error {
	answer := serverAnswer()
	var buffers sync.Pool
	return each(ctx, addresses, interval, func(address string) func() {
		request := fmt.Appendf(nil, "GET /metrics HTTP/1.1\r\nHost: %s\r\n\r\n", address)
		c, err := net.Dial("tcp", address)
		if err != nil {
			return func() { scraped(err) }
		}
		context.AfterFunc(ctx, func() { c.Close() })
		return func() {
			b, ok := buffers.Get().(*[]byte)
			if !ok {
				b = new([]byte)
				*b = make([]byte, len(answer))
			}
			defer buffers.Put(b)
			_, err := c.Write(request)
			if err == nil {
				_, err = io.ReadFull(c, *b)
			}
			scraped(err)
		}
	})
}

// each calls a function for each address once in an interval, in a goroutine for each.
func each(ctx context.Context, addresses []string, interval time.Duration, start func(address string) func()) error {
	var wg sync.WaitGroup
	for i, address := range addresses {
		wg.Go(func() {
			scrape := start(address)
			time.Sleep(interval * time.Duration(i) / time.Duration(len(addresses)))
			every := time.NewTicker(interval)
			defer every.Stop()
			for {
				select {
				case <-every.C:
					scrape()
				case <-ctx.Done():
					return
				}
			}
		})
	}
	wg.Wait()
	return nil
}
