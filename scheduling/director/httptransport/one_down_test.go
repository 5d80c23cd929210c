package httptransport_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/scheduling/director/httptransport"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// The fleet of this test, in virtual time: what is true of it does not depend on how busy
// the machine is.
const (
	fleetPlaces  = 8                      // requests that a server works at together
	fleetService = 500 * time.Millisecond // what one takes
	fleetClients = 30                     // each sends its next request when it has an answer
	fleetGiveUp  = 5 * time.Second        // how long a client waits

	fleetFails   = 10 * time.Second // when one server goes
	fleetNoticed = 40 * time.Second // when that must have been noticed
	fleetEnd     = 80 * time.Second
)

// fleet is a RoundTripper to servers in memory, all alike, the first of which goes.
type fleet struct {
	servers map[string]chan struct{} // address to places
	gone    func(*http.Request) (*http.Response, error)
	began   time.Time
}

func newFleet(n int, gone func(*http.Request) (*http.Response, error)) *fleet {
	f := &fleet{servers: map[string]chan struct{}{}, gone: gone, began: time.Now()}
	for i := range n {
		f.servers[fmt.Sprintf("10.0.0.%d:80", i)] = make(chan struct{}, fleetPlaces)
	}
	return f
}

// down reports whether nothing is to be had of a server any more.
func (f *fleet) down(address string) bool {
	return f.gone != nil && address == "10.0.0.0:80" && time.Since(f.began) > fleetFails
}

func (f *fleet) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	if f.down(req.URL.Host) {
		return f.gone(req)
	}
	places := f.servers[req.URL.Host]
	select {
	case places <- struct{}{}:
		defer func() { <-places }()
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	select {
	case <-time.After(fleetService):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	const answer = `{"object":"chat.completion","choices":[{"message":{"content":"yes"}}],"usage":{"prompt_tokens":20,"completion_tokens":20}}`
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(strings.NewReader(answer)),
		ContentLength: int64(len(answer)),
	}, nil
}

// refuses is a server of which the process has ended.
func refuses(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// hangs is a server that accepts and never answers.
func hangs(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// read publishes what the servers report, as scraping them would.
func (f *fleet) read(ctx context.Context, store *datastore.Store) {
	for tick := time.Tick(100 * time.Millisecond); ; {
		for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
			if !f.down(ep.Address) {
				n := float64(len(f.servers[ep.Address]))
				store.UpdateMetrics(ep.Load, types.Metrics{
					UpdatedAt: time.Now(), Running: types.Known(n), Waiting: types.Known(0), KVUsage: types.Known(n / 100),
				})
			}
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

// tally is what the clients saw from the time on when the loss must have been noticed.
type tally struct {
	mu           sync.Mutex
	served, lost int
	first        string // what was lost first
}

func (c *tally) client(ctx context.Context, transport http.RoundTripper, began time.Time) {
	for ctx.Err() == nil {
		sent := time.Now()
		wait, cancel := context.WithTimeout(ctx, fleetGiveUp)
		req, _ := http.NewRequestWithContext(wait, "POST", "http://any/v1/chat/completions", strings.NewReader(request))
		status, err := exchange(transport, req)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if sent.Sub(began) >= fleetNoticed {
			c.mu.Lock()
			if err == nil && status == http.StatusOK {
				c.served++
			} else {
				if c.lost++; c.lost == 1 {
					c.first = fmt.Sprint(time.Since(began), " ", status, " ", err)
				}
			}
			c.mu.Unlock()
		}
		if err != nil || status != http.StatusOK {
			time.Sleep(100 * time.Millisecond) // as clients do that try again
		}
	}
}

func exchange(transport http.RoundTripper, req *http.Request) (int, error) {
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// play runs clients against n servers, the first of which goes.
func play(t *testing.T, n int, gone func(*http.Request) (*http.Response, error), readings bool, detector func() admission.Detector) *tally {
	counted := new(tally)
	synctest.Test(t, func(t *testing.T) {
		store := datastore.New(datastore.Options{})
		f := newFleet(n, gone)
		for address := range f.servers {
			require.NoError(t, store.UpsertEndpoint(pool, datastore.EndpointSpec{Address: address}))
		}
		scheduler, err := scheduling.New(plugins.Default())
		require.NoError(t, err)
		o := director.Options{Store: store, Scheduler: scheduler}
		if detector != nil {
			o.Admission = func(types.NamespacedName) *admission.Options { return &admission.Options{Detector: detector()} }
		}
		d, err := director.New(o)
		require.NoError(t, err)
		transport := httptransport.New(d)
		transport.Base = f
		ctx, cancel := context.WithTimeout(t.Context(), fleetEnd)
		var all sync.WaitGroup
		if readings {
			all.Go(func() { f.read(ctx, store) })
		}
		for range fleetClients {
			all.Go(func() { counted.client(ctx, transport, f.began) })
		}
		all.Wait()
		cancel()
		d.Close()
		for _, ep := range store.Snapshot().Pool(pool).Endpoints() {
			if n := ep.Load.Requests(); n != 0 {
				t.Errorf("%d requests are booked at %s in the end", n, ep.ID)
			}
		}
	})
	return counted
}

// TestOneServerDown: a fleet of four of which one server is gone is a fleet of three, with
// whatever says how full servers are.
func TestOneServerDown(t *testing.T) {
	detectors := []struct {
		name string
		make func() admission.Detector
	}{
		{"no admission", nil},
		{"default", admission.Default},
		{"Concurrency", func() admission.Detector { return admission.Concurrency{Requests: fleetPlaces} }},
		{"LearnedConcurrency", func() admission.Detector { return new(admission.LearnedConcurrency) }},
		{"Utilization", func() admission.Detector { return admission.Utilization{} }},
		{"LearnedBatch", func() admission.Detector { return new(admission.LearnedBatch) }},
		{"LearnedBacklog", func() admission.Detector { return new(admission.LearnedBacklog) }},
		{"Backlog", func() admission.Detector { return admission.Backlog{Tokens: 8192} }},
		{"PredictedTTFT", func() admission.Detector { return new(admission.PredictedTTFT) }},
	}
	if raceEnabled {
		detectors = detectors[1:2] // the others are raced in package admission, and this takes ten times as long
	}
	for _, detector := range detectors {
		for _, readings := range []bool{true, false} {
			three := play(t, 3, nil, readings, detector.make)
			for name, gone := range map[string]func(*http.Request) (*http.Response, error){"refuses": refuses, "hangs": hangs} {
				t.Run(fmt.Sprintf("%s/%s/readings=%t", detector.name, name, readings), func(t *testing.T) {
					got := play(t, 4, gone, readings, detector.make)
					t.Logf("served %d, three servers %d (%.3f), lost %d", got.served, three.served, float64(got.served)/float64(three.served), got.lost)
					if got.lost > 0 {
						t.Errorf("lost %d requests after the loss must have been noticed, first: %s", got.lost, got.first)
					}
					if float64(got.served) < 0.9*float64(three.served) {
						t.Errorf("served %d requests where three servers serve %d", got.served, three.served)
					}
				})
			}
		}
	}
}
