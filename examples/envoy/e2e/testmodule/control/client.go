package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
)

// Client asks a Server. Make it with NewClient, and close it. Its methods may be called from any goroutine.
type Client struct{ http http.Client }

// NewClient returns a Client of the Server at the path of a socket.
func NewClient(path string) *Client {
	return &Client{http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}}
}

// Close closes connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// State returns the state of a picker. With heap garbage is collected first, and the heap is told.
func (c *Client) State(ctx context.Context, picker string, heap bool) (s State, err error) {
	query := url.Values{"picker": {picker}}
	if heap {
		query.Set("heap", "1")
	}
	return s, c.ask(ctx, http.MethodGet, "/state?"+query.Encode(), &s)
}

// View returns what was seen of a session.
func (c *Client) View(ctx context.Context, session string) (v View, err error) {
	return v, c.ask(ctx, http.MethodGet, "/view?"+url.Values{"session": {session}}.Encode(), &v)
}

// Views returns what was seen of all sessions.
func (c *Client) Views(ctx context.Context) (v map[string]View, err error) {
	return v, c.ask(ctx, http.MethodGet, "/views", &v)
}

// Reset forgets views.
func (c *Client) Reset(ctx context.Context) error { return c.ask(ctx, http.MethodPost, "/reset", nil) }

// Arm switches panics on and off at what has this name.
func (c *Client) Arm(ctx context.Context, name string, on bool) error {
	return c.ask(ctx, http.MethodPost, "/arm?"+url.Values{"name": {name}, "on": {strconv.FormatBool(on)}}.Encode(), nil)
}

func (c *Client) ask(ctx context.Context, method, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, nil)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("control: %s: %s", path, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
