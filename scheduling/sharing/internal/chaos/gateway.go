package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/gateway"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/types"
)

// variable makes a process a gateway: it has the settings of it.
const variable = "INFERPICK_CHAOS_GATEWAY"

// settings are what a process is told.
type settings struct {
	Name    string
	Servers []string // addresses
	Network string   // for who makes the Transport
}

// state is what a gateway says of itself.
type state struct {
	Open        int           // requests that the scheduler has booked
	Held, Peers types.Booking // in sum over the endpoints
	Alive       int           // peers
	Stats       sharing.Stats
	Goroutines  int
	Heap        uint64 // bytes that are in use after a collection
}

// Main is to be called by TestMain first. In a process that is to be a gateway it does not return. profile makes the
// policy, and open the Transport of what Network.Join has returned.
func Main(profile func() scheduling.Profile, open func(config string) (sharing.Transport, error)) {
	text := os.Getenv(variable)
	if text == "" {
		return
	}
	if err := serve(text, profile(), open); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve is a gateway until its standard input ends. It says where it is on its standard output.
func serve(text string, profile scheduling.Profile, open func(string) (sharing.Transport, error)) error {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	transport, err := open(s.Network)
	if err != nil {
		return err
	}
	g, err := gateway.New(gateway.Options{
		Profile: profile, Servers: gateway.Addresses(s.Servers...),
		Admission: func() *admission.Options { return new(admission.Options) },
		Sharing:   &sharing.Options{Name: s.Name, Transport: transport},
	})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { io.Copy(io.Discard, os.Stdin); stop() }() // also if who has started it is killed
	running := make(chan struct{})
	go func() { defer close(running); g.Run(ctx) }()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", g.Proxy())
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		s := stateOf(g)
		if r.URL.RawQuery == "heap" {
			s.Heap = heap()
		}
		json.NewEncoder(w).Encode(s) // who has asked may have gone
	})
	server := &http.Server{Handler: mux, ErrorLog: log.New(io.Discard, "", 0)}
	go server.Serve(ln)
	fmt.Println(ln.Addr())
	<-ctx.Done()
	server.Close()
	<-running
	g.Close()
	return nil
}

// has returns what counts of the requests of a peer.
func (s state) has(peer string) (n int64) {
	for _, p := range s.Stats.Peers {
		if p.Name == peer {
			n += p.Held.Requests
		}
	}
	return n
}

func stateOf(g *gateway.Gateway) (s state) {
	for _, eps := range g.Pools {
		for _, ep := range eps {
			s.Held = s.Held.Plus(ep.Load.Held())
			s.Peers = s.Peers.Plus(ep.Load.Peers())
		}
	}
	s.Open = g.Scheduler.Open()
	s.Stats = g.Sharing.Stats(time.Now())
	s.Alive = s.Stats.Alive()
	s.Goroutines = runtime.NumGoroutine()
	return s
}

func heap() uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
