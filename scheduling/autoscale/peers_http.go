package autoscale

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guard"
)

// HTTPPeers is Peers that are asked by GET /autoscale/own (Autoscaler.Handler), all at the same time: for gateways that
// share nothing. Make it with NewHTTPPeers. One that does not answer, or not in a form that is understood, is taken to
// be as it was last for HTTPPeersOptions.Keep; after that it is missing. An address that is no more among Addresses
// counts less and less for as long. A gateway may have several addresses, if each has answered once.
type HTTPPeers struct {
	o HTTPPeersOptions

	mu sync.Mutex
	// guarded by mu
	book  book
	found []string  // addresses, as they were last
	at    time.Time // when
}

// HTTPPeersOptions say who the peers are. Addresses is required.
type HTTPPeersOptions struct {
	// Addresses returns the base URLs of all gateways, such as http://10.0.0.7:9090: this one may be among them. It is
	// called for each question, by one goroutine at a time: see PeerService and PeerList. While it fails those of before
	// are asked, for no longer than Keep.
	Addresses func(ctx context.Context) ([]string, error)
	// Client asks. Default: one of its own that follows no redirects and uses no proxy.
	Client *http.Client
	// Token returns a bearer token for each question: see RequireToken. Nil: there is none.
	Token func() string
	// Header is added to questions. Optional.
	Header http.Header
	// Timeout is how long an answer may take. Default DefaultAnswerTimeout.
	Timeout time.Duration
	// Keep is for how long an answer stands for one that did not come. Default DefaultKeepAnswers.
	Keep time.Duration
	// MaxBytes bounds an answer. Default 2 MiB.
	MaxBytes int64
	// MaxPeers bounds how many are asked; to have more is an error. Default 64.
	MaxPeers int
	// Now is the clock. Default time.Now, which also takes its place where it panics.
	Now func() time.Time
}

// DefaultAnswerTimeout is the default of HTTPPeersOptions.Timeout.
const DefaultAnswerTimeout = 200 * time.Millisecond

// NewHTTPPeers returns HTTPPeers that have asked nobody. The error names the option that is wrong.
func NewHTTPPeers(o HTTPPeersOptions) (*HTTPPeers, error) {
	wrong := check.Checks{Package: "autoscale"}
	if o.Addresses == nil {
		wrong.Failf("Addresses", "is required")
	}
	check.Default(&wrong, "Timeout", &o.Timeout, DefaultAnswerTimeout, time.Millisecond, time.Minute)
	check.Default(&wrong, "Keep", &o.Keep, DefaultKeepAnswers, time.Millisecond, mostKeepAnswers)
	check.Default(&wrong, "MaxBytes", &o.MaxBytes, 2<<20, 1<<10, mostOwnBytes)
	check.Default(&wrong, "MaxPeers", &o.MaxPeers, 64, 1, 1024)
	if err := wrong.Err(); err != nil {
		return nil, err
	}
	if o.Client == nil {
		o.Client = &http.Client{
			Transport: &http.Transport{
				MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	} else {
		o.Now = guard.Clock("HTTPPeersOptions.Now", o.Now, nil)
	}
	return &HTTPPeers{o: o, book: newBook(o.Keep)}, nil
}

func (p *HTTPPeers) bind(a *Autoscaler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.book.self = a.gateway
}

// Ask implements Peers.
func (p *HTTPPeers) Ask(ctx context.Context) (answers []Own, missing int, err error) {
	ctx, stop := context.WithTimeout(ctx, p.o.Timeout)
	defer stop()
	addresses, err := p.addresses(ctx)
	if err != nil {
		return nil, 0, err
	}
	owns, errs := make([]Own, len(addresses)), make([]error, len(addresses))
	var all sync.WaitGroup
	for i, address := range addresses {
		all.Go(func() {
			errs[i] = guard.Try("a question", func() (err error) {
				owns[i], err = p.one(ctx, address)
				return err
			})
		})
	}
	all.Wait()

	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Now()
	p.book.only(addresses)
	for i, address := range addresses {
		if errs[i] != nil {
			p.book.fails(address, errs[i])
		} else {
			p.book.says(address, owns[i], now)
		}
	}
	answers, missing = p.book.answers(now)
	return answers, missing, nil
}

// Peers returns what there is to say of each address.
func (p *HTTPPeers) Peers() []PeerStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.book.status(p.o.Now())
}

// addresses returns who is to be asked, each once.
func (p *HTTPPeers) addresses(ctx context.Context) ([]string, error) {
	var addresses []string
	err := guard.Try("HTTPPeersOptions.Addresses", func() (err error) {
		addresses, err = p.o.Addresses(ctx)
		return err
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.o.Now()
	if err != nil {
		if p.found != nil && now.Sub(p.at) <= p.o.Keep {
			return p.found, nil
		}
		return nil, fmt.Errorf("autoscale: addresses of peers: %w", err)
	}
	addresses = slices.Clone(addresses)
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	if len(addresses) > p.o.MaxPeers {
		return nil, fmt.Errorf("autoscale: %d addresses of peers are more than %d", len(addresses), p.o.MaxPeers)
	}
	p.found, p.at = addresses, now
	return addresses, nil
}

// one asks one gateway.
func (p *HTTPPeers) one(ctx context.Context, address string) (Own, error) {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return Own{}, fmt.Errorf("autoscale: address %q of a peer is not like http://10.0.0.7:9090", address)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.JoinPath("/autoscale/own").String(), nil)
	if err != nil {
		return Own{}, err
	}
	for name, values := range p.o.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if p.o.Token != nil {
		req.Header.Set("Authorization", "Bearer "+p.o.Token())
	}
	resp, err := p.o.Client.Do(req)
	if err != nil {
		return Own{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection may be used again
		return Own{}, fmt.Errorf("autoscale: %s answered with status %d", address, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, p.o.MaxBytes+1))
	switch {
	case err != nil:
		return Own{}, err
	case int64(len(data)) > p.o.MaxBytes:
		return Own{}, fmt.Errorf("autoscale: the answer of %s is larger than %d bytes", address, p.o.MaxBytes)
	}
	return ParseOwn(data)
}

var _ Peers = (*HTTPPeers)(nil)
