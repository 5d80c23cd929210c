package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	natsio "github.com/nats-io/nats.go"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/scheduling/sharing/internal/mailbox"
)

// Server says which servers are used, and as whom.
type Server struct {
	// URL is that of a server, or of several of a cluster, with commas between: nats://HOST:PORT, tls: for
	// TLS, ws: and wss: for WebSocket. A user, or a token, may be in it. Default nats://localhost:4222.
	URL string
	// Credentials is a file with the JWT and the key of a user, which is read with every connection.
	Credentials string
	// Username and Password, or Token, come before those of a URL. Default: none.
	Username, Password, Token string
	// TLS is how to connect if not in the clear. Default, if the URL or the server wants TLS: to check the server's
	// name against the certificates that the system trusts.
	TLS *tls.Config
	// Connect are further options, which come after all that is said above, and after those that this
	// package sets: it needs those of reconnecting, of buffers, and of timeouts as they are.
	Connect []natsio.Option

	// Conn is used instead of all above, if it is not nil. It is not closed. It should never give up
	// reconnecting (MaxReconnects below 0), and have a FlusherTimeout of about Options.Timeout: a server that
	// hangs may hold up Close for that long. What the server complains about is told to its ErrorHandler only.
	Conn *natsio.Conn
}

// connection is one that is being made.
type connection struct {
	name    string
	given   bool
	timeout time.Duration

	ready chan struct{} // closed when conn or never is there
	conn  *natsio.Conn
	never error // why there will be no conn

	mu  sync.Mutex
	err error // the last that was wrong with it; nil: all is well
}

// connect makes a connection in the background. It may take timeout to connect, and patience to write, and for a
// sign of life. told is told what the server complains about.
func (s Server) connect(timeout, patience time.Duration, told func(error)) (*connection, error) {
	c := &connection{name: "nats", given: s.Conn != nil, timeout: timeout, ready: make(chan struct{}), conn: s.Conn}
	if c.given {
		close(c.ready)
		return c, nil
	}
	hosts, err := s.hosts()
	if err != nil {
		return nil, err
	}
	c.name += " " + hosts
	options := s.options(c, patience, told)
	go func() {
		defer close(c.ready)
		// It looks up names, and tries each server once, before it goes on in the background.
		c.never = guard.Try("nats: Server.Connect", func() (err error) {
			c.conn, err = natsio.Connect(s.url(), options...)
			return err
		})
	}()
	return c, nil
}

func (s Server) url() string {
	if s.URL == "" {
		return natsio.DefaultURL
	}
	return s.URL
}

// hosts returns the servers, without secrets.
func (s Server) hosts() (string, error) {
	var hosts []string
	for one := range strings.SplitSeq(s.url(), ",") {
		one = strings.TrimSpace(one)
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		scheme, rest, _ := strings.Cut(one, "://")
		shown := scheme + "://" + rest
		if i := strings.LastIndexByte(rest, '@'); i >= 0 {
			shown = scheme + "://…" + rest[i:]
		}
		bad := func(want string) error {
			return &check.Error{Package: "nats", Field: "Server.URL", Value: shown, Want: want}
		}
		u, err := url.Parse(one)
		var parse *url.Error
		switch {
		case errors.As(err, &parse):
			return "", bad("URLs like nats://HOST:PORT: " + parse.Err.Error())
		case u.Host == "":
			return "", bad("URLs like nats://HOST:PORT")
		}
		switch scheme {
		case "nats", "tls", "ws", "wss":
		default:
			return "", bad("URLs of the scheme nats, tls, ws or wss")
		}
		hosts = append(hosts, u.Host)
	}
	return strings.Join(hosts, ","), nil
}

func (s Server) options(c *connection, patience time.Duration, told func(error)) []natsio.Option {
	note := func(_ *natsio.Conn, err error) { c.note(err) }
	well := func(*natsio.Conn) { c.note(nil) }
	options := []natsio.Option{
		natsio.Name("inferpick"),
		natsio.NoEcho(),
		natsio.RetryOnFailedConnect(true), natsio.MaxReconnects(-1), natsio.IgnoreAuthErrorAbort(),
		natsio.CustomReconnectDelay(func(attempts int) time.Duration { return mailbox.Backoff(attempts - 1) }),
		natsio.ReconnectBufSize(-1), // nothing is kept for later
		natsio.Timeout(c.timeout), natsio.FlusherTimeout(patience), natsio.PingInterval(patience), natsio.MaxPingsOutstanding(2),
		natsio.DisconnectErrHandler(note), natsio.ReconnectErrHandler(note),
		natsio.ConnectHandler(well), natsio.ReconnectHandler(well),
		natsio.ErrorHandler(func(_ *natsio.Conn, _ *natsio.Subscription, err error) { // without it they are written to stderr
			c.note(err)
			told(err)
		}),
	}
	if s.Credentials != "" {
		options = append(options, natsio.UserCredentials(s.Credentials))
	}
	if s.Username != "" || s.Password != "" {
		options = append(options, natsio.UserInfo(s.Username, s.Password))
	}
	if s.Token != "" {
		options = append(options, natsio.Token(s.Token))
	}
	if s.TLS != nil {
		options = append(options, natsio.Secure(s.TLS))
	}
	return append(options, s.Connect...)
}

// note notes what is wrong, or that nothing is.
func (c *connection) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// problem returns what is wrong; nil: nothing.
func (c *connection) problem() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.explain(c.err)
}

// get returns the connection, which may be without a server just now.
func (c *connection) get(ctx context.Context) (*natsio.Conn, error) {
	select {
	case <-c.ready:
		return c.conn, c.explain(c.never)
	case <-ctx.Done():
		return nil, c.explain(ctx.Err())
	}
}

// connected is get of one that has a server.
func (c *connection) connected(ctx context.Context) (*natsio.Conn, error) {
	conn, err := c.get(ctx)
	if err != nil {
		return nil, err
	}
	if conn.IsConnected() {
		return conn, nil
	}
	if err := c.problem(); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s: %s", c.name, strings.ToLower(conn.Status().String()))
}

// ping waits for an answer of the server.
func (c *connection) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, err := c.connected(ctx)
	if err != nil {
		return err
	}
	return c.explain(conn.FlushWithContext(ctx))
}

// close closes the connection, if it is our own, when it has been made.
func (c *connection) close() {
	<-c.ready
	if !c.given && c.conn != nil {
		c.conn.Close()
	}
}

func (c *connection) explain(err error) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, natsio.ErrAuthorization), errors.Is(err, natsio.ErrAuthExpired), errors.Is(err, natsio.ErrAuthRevoked):
		hint = ": check Server.Credentials, Username, Password and Token"
	case errors.Is(err, natsio.ErrPermissionViolation):
		hint = ": see the documentation of package nats"
	case errors.Is(err, natsio.ErrNoResponders):
		hint = ": is JetStream enabled?"
	}
	return fmt.Errorf("%s: %w%s", c.name, err, hint)
}
