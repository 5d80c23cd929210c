package loader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// Options say how servers are asked. The zero value works. How long a call may take is up to its context.
type Options struct {
	// URL is the base URL of an endpoint's server, such as https://10.0.0.7:8000. Default: http://ADDRESS. See URLs for
	// endpoints of a store with their schemes.
	URL func(ep *types.Endpoint) string
	// Header is sent with each request, such as Authorization with the key of vLLM's --api-key.
	Header http.Header
	// Transport makes the requests, if set: for TLS settings or a proxy. It must be safe for concurrent use. Default: an
	// http.Transport without proxy.
	Transport http.RoundTripper
	// Every is how often Manual looks. Default 2 s, at least 10 ms.
	Every time.Duration
}

const (
	maxBody  = 1 << 20 // bytes of an answer that are read
	maxName  = 256     // bytes of an adapter's name
	maxPath  = 4096    // bytes of a source
	maxHops  = 3       // redirects within a server
	maxWords = 300     // bytes of a server's own words in an error
)

// Client is what loaders ask servers with. Make it with New. Its loaders are safe for concurrent use.
type Client struct {
	o     Options
	http  http.Client
	own   *http.Transport // nil: the transport is the user's
	turns turns
}

// New returns a Client, or an error that lists all options that are out of range.
func New(o Options) (*Client, error) {
	c := check.Checks{Package: "loader"}
	check.Default(&c, "Every", &o.Every, 2*time.Second, 10*time.Millisecond, 0)
	if err := c.Err(); err != nil {
		return nil, err
	}
	if o.URL == nil {
		o.URL = func(ep *types.Endpoint) string { return "http://" + ep.Address }
	}
	o.Header = o.Header.Clone()
	client := &Client{o: o}
	client.http = http.Client{Transport: o.Transport, CheckRedirect: sameServer}
	if o.Transport == nil {
		client.own = &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
		client.http.Transport = client.own
	}
	return client, nil
}

// Close closes connections that are not in use, unless they are those of Options.Transport. The Client stays usable.
func (c *Client) Close() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// sameServer follows redirects within a server: frameworks send paths on to others with a slash. Anything else could
// make us hand a key to whoever a server names. A POST that would become a GET is not followed either.
func sameServer(req *http.Request, via []*http.Request) error {
	first := via[0]
	same := req.URL.Scheme == first.URL.Scheme && req.URL.Host == first.URL.Host && req.Method == first.Method
	if len(via) > maxHops || !same {
		return http.ErrUseLastResponse
	}
	return nil
}

// answer is what a server said.
type answer struct {
	op     string
	url    string
	status int
	body   []byte
	onward string // where a redirect goes that was not followed
}

// ask makes one request. body is sent as JSON, nil: none. The error is an *Error: that of ctx, or there was no answer.
func (c *Client) ask(ctx context.Context, ep *types.Endpoint, op, method, path string, body any) (answer, error) {
	base := strings.TrimSuffix(c.o.URL(ep), "/")
	a := answer{op: op}
	fail := func(err error, what string) (answer, error) { return a, a.fail(what, "", err) }
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fail(nil, fmt.Sprintf("Options.URL is no http://host:port or https://host:port for endpoint %q", ep.ID))
	}
	a.url = u.Redacted() + path
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fail(err, "request")
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return fail(err, "request")
	}
	maps.Copy(req.Header, c.o.Header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if name, value, ok := ep.RankHeader(); ok {
		req.Header.Set(name, value)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if bare := (*url.Error)(nil); errors.As(err, &bare) {
			err = bare.Err // the URL is in ours
		}
		return fail(err, "no answer")
	}
	defer resp.Body.Close()
	a.status, a.onward = resp.StatusCode, resp.Header.Get("Location")
	if a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1)); err != nil {
		return fail(err, "no complete answer")
	}
	if len(a.body) > maxBody {
		a.body = nil
		return fail(nil, fmt.Sprintf("the answer is larger than %d bytes", maxBody))
	}
	return a, nil
}
