//go:build unix

package modelserver_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// BenchmarkFleet is a laptop demo: 16 servers with 20 streams each, and a
// client that does no more than read. cpu-µs/token is the time of both;
// tokens/s is what was delivered. One iteration is 100 tokens a stream.
//
//	go test -run - -bench Fleet -benchtime 3x
func BenchmarkFleet(b *testing.B) {
	const servers, streams, tokens = 16, 20, 100
	for _, scale := range []float64{.25, 1, 4, 1000} {
		b.Run(fmt.Sprintf("servers=%d/streams=%d/scale=%v", servers, servers*streams, scale), func(b *testing.B) {
			var fleet []*modelserver.Server
			for range servers {
				fleet = append(fleet, start(b, modelserver.Options{TimeScale: scale}))
			}
			body := chatBody("simulated-llm", "hello", fmt.Sprintf(`,"stream":true,"x-sim-output-tokens":%d`, tokens))
			request := fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			b.ReportAllocs()
			before := cpu(b)
			for b.Loop() {
				var clients sync.WaitGroup
				for i := range servers * streams {
					clients.Go(func() { discard(b, fleet[i%servers].Address(), request) })
				}
				clients.Wait()
			}
			total := float64(b.N * servers * streams * tokens)
			b.ReportMetric((cpu(b)-before)*1e6/total, "cpu-µs/token")
			b.ReportMetric(total/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// discard sends a request and reads to the end of the connection.
func discard(b *testing.B, address, request string) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		b.Error(err)
	}
	if n, err := bufio.NewReader(conn).WriteTo(io.Discard); err != nil || n < 1000 {
		b.Errorf("%d bytes, %v", n, err)
	}
}

// cpu returns the seconds of processor time this process has used.
func cpu(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Skip(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
