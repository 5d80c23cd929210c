package autoscale

import (
	"context"
	crand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
)

// HTTPPeers is Peers that are asked by GET /autoscale/own. Make it with NewHTTPPeers.
type HTTPPeers struct {
	o      HTTPPeersOptions
	mu     sync.Mutex
	before map[string]answer // guarded by mu: the last that each gave
}

type answer struct {
	own Own
	at  time.Time
}

// HTTPPeersOptions say who the peers are. Addresses is required.
type HTTPPeersOptions struct {
	// Addresses returns the base URLs of all gateways, such as http://10.0.0.7:9090: this one may be among them. It is
	// called for each question; the addresses of a headless service are what net.Resolver.LookupHost returns.
	Addresses func(ctx context.Context) ([]string, error)
	// Client asks. Default: one of its own that follows no redirects and uses no proxy.
	Client *http.Client
	// Header is added to questions, for a token. Optional.
	Header http.Header
	// Keep is for how long an answer stands for one that did not come. Default DefaultKeepAnswers.
	Keep time.Duration
	// MaxBytes bounds an answer. Default 8 MiB.
	MaxBytes int64
}

// DefaultKeepAnswers is the default of HTTPPeersOptions.Keep.
const DefaultKeepAnswers = 5 * time.Second

// mostPeers bounds how many are asked at a time.
const mostPeers = 32

// NewHTTPPeers returns HTTPPeers that have asked nobody. The error names the option that is wrong.
func NewHTTPPeers(o HTTPPeersOptions) (*HTTPPeers, error) {
	wrong := check.Checks{Package: "autoscale"}
	if o.Addresses == nil {
		wrong.Failf("Addresses", "is required")
	}
	check.Default(&wrong, "Keep", &o.Keep, DefaultKeepAnswers, time.Millisecond, time.Minute)
	check.Default(&wrong, "MaxBytes", &o.MaxBytes, 8<<20, 1<<10, 1<<30)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	if o.Client == nil {
		o.Client = &http.Client{
			Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &HTTPPeers{o: o, before: map[string]answer{}}, nil
}

// Ask implements Peers.
func (p *HTTPPeers) Ask(ctx context.Context) (answers []Own, missing int, err error) {
	addresses, err := p.o.Addresses(ctx)
	if err != nil {
		return nil, 0, err
	}
	answered := make([]*Own, len(addresses))
	var all sync.WaitGroup
	turns := make(chan struct{}, mostPeers)
	for i, address := range addresses {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			if own, err := p.one(ctx, address); err == nil {
				answered[i] = &own
			}
		})
	}
	all.Wait()
	return p.collect(addresses, answered)
}

// collect returns the answers, of which those of a moment ago stand for what did not come.
func (p *HTTPPeers) collect(addresses []string, answered []*Own) (answers []Own, missing int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, next, seen := time.Now(), map[string]answer{}, map[string]bool{}
	for i, address := range addresses {
		a, ok := p.before[address]
		if answered[i] != nil {
			a, ok = answer{*answered[i], now}, true
		}
		if !ok || now.Sub(a.at) > p.o.Keep {
			missing++
			continue
		}
		next[address] = a
		if !seen[a.own.Gateway] { // it may have several addresses
			seen[a.own.Gateway] = true
			answers = append(answers, a.own)
		}
	}
	p.before = next
	return answers, missing, nil
}

// one asks one gateway.
func (p *HTTPPeers) one(ctx context.Context, address string) (Own, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"/autoscale/own", nil)
	if err != nil {
		return Own{}, err
	}
	for name, values := range p.o.Header {
		req.Header[name] = values
	}
	resp, err := p.o.Client.Do(req)
	if err != nil {
		return Own{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, p.o.MaxBytes+1))
	switch {
	case err != nil:
		return Own{}, err
	case resp.StatusCode != http.StatusOK:
		return Own{}, fmt.Errorf("autoscale: %s answered with status %d", address, resp.StatusCode)
	case int64(len(data)) > p.o.MaxBytes:
		return Own{}, fmt.Errorf("autoscale: the answer of %s is larger than %d bytes", address, p.o.MaxBytes)
	}
	return ParseOwn(data)
}

// ParseOwn reads an Own from JSON. Unknown fields are left out, as gateways of several versions may run side by side;
// figures that cannot be are an error.
func ParseOwn(data []byte) (Own, error) {
	var o Own
	if err := json.Unmarshal(data, &o); err != nil {
		return Own{}, fmt.Errorf("autoscale: what a gateway says: %w", err)
	}
	if o.Gateway == "" {
		return Own{}, errors.New("autoscale: what a gateway says has no gateway")
	}
	for i := range o.Signals {
		if err := o.Signals[i].check(); err != nil {
			return Own{}, fmt.Errorf("autoscale: what gateway %q says: signals[%d]: %w", o.Gateway, i, err)
		}
	}
	return o, nil
}

// newName returns a name that no other gateway has.
func newName() string { return crand.Text() }
