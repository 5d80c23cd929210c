package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/inferpick/inferpick/internal/check"
)

// Server says which server is used, and as whom. Its connections read no answer that is longer than it may be.
type Server struct {
	// Address is HOST:PORT, or a URL: redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss: for TLS,
	// unix://USER:PASSWORD@/PATH?db=DATABASE; valkey: and valkeys: are the same as redis: and rediss:.
	// Default localhost:6379.
	Address string
	// Username and Password come before those of a URL. Default: none.
	Username, Password string
	// TLS is how to connect if not in the clear. With a URL of the scheme rediss: the default is
	// to check the server's name against the certificates that the system trusts.
	TLS *tls.Config

	// Client is used instead of all above, if it is not nil: for clusters, sentinels, credentials that
	// change, or because a program has one already. It is not closed. It should have
	// ContextTimeoutEnabled, or Close may have to wait for its own timeouts.
	Client goredis.UniversalClient
}

// connection is a client, and the name that people see.
type connection struct {
	goredis.UniversalClient
	name string
	own  bool
}

// close ends what it is waiting for, if the client is our own.
func (c *connection) close() {
	if c.own {
		_ = c.Close() // it says at most that it was closed before
	}
}

// ping says whether the server can be reached and knows us.
func (c *connection) ping(ctx context.Context) error { return c.explain(c.Ping(ctx).Err()) }

// connect returns a client with so many connections, which are made when they are needed. No answer may have
// a string longer than max.
func (s Server) connect(timeout time.Duration, connections, max int) (*connection, error) {
	if s.Client != nil {
		return &connection{UniversalClient: s.Client, name: "redis"}, nil
	}
	o, err := s.parse()
	if err != nil {
		return nil, err
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = timeout, timeout, timeout, timeout
	o.ContextTimeoutEnabled = true
	o.MaxRetries, o.DialerRetries = -1, 1
	o.PoolSize, o.MaxActiveConns, o.MinIdleConns, o.PipelinePoolSize = connections, connections, 0, -1
	o.Protocol = 2 // all that is needed, and what every server speaks
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.Dialer = dialer(timeout, o.TLSConfig, max)
	o.TLSConfig = nil // the dialer does it
	return &connection{UniversalClient: goredis.NewClient(o), name: "redis " + o.Addr, own: true}, nil
}

func (s Server) parse() (*goredis.Options, error) {
	o := &goredis.Options{Network: "tcp", Addr: s.Address}
	switch {
	case s.Address == "":
		o.Addr = "localhost:6379"
	case strings.Contains(s.Address, "://"):
		var err error
		if o, err = parseURL(s.Address); err != nil {
			return nil, err
		}
	default:
		if _, _, err := net.SplitHostPort(s.Address); err != nil {
			return nil, badAddress(s.Address, "HOST:PORT or a URL like redis://HOST:PORT")
		}
	}
	if s.TLS != nil {
		o.TLSConfig = s.TLS
	}
	if s.Username != "" {
		o.Username = s.Username
	}
	if s.Password != "" {
		o.Password = s.Password
	}
	if o.Username != "" && o.Password == "" {
		return nil, &check.Error{Package: "redis", Field: "Server.Password", Want: "not empty with the user name " + o.Username}
	}
	return o, nil
}

func parseURL(address string) (*goredis.Options, error) {
	scheme, rest, _ := strings.Cut(address, "://")
	if after, ok := strings.CutPrefix(scheme, "valkey"); ok {
		scheme = "redis" + after
	}
	if scheme != "redis" && scheme != "rediss" && scheme != "unix" {
		return nil, badAddress(scheme+"://…", "a URL of the scheme redis, rediss, valkey, valkeys or unix")
	}
	o, err := goredis.ParseURL(scheme + "://" + rest)
	if err == nil {
		return o, nil
	}
	// It may have the password in it.
	var parse *url.Error
	if errors.As(err, &parse) {
		err = parse.Err
	}
	if _, _, found := strings.Cut(rest, "@"); found {
		rest = "…" + rest[strings.LastIndexByte(rest, '@'):]
	}
	want := strings.TrimPrefix(err.Error(), "redis: ")
	return nil, badAddress(scheme+"://"+rest, "a URL like redis://USER:PASSWORD@HOST:PORT/DATABASE: "+want)
}

func badAddress(address, want string) error {
	return &check.Error{Package: "redis", Field: "Server.Address", Value: address, Want: want}
}

// dialer returns what makes connections. If one cannot be made, it still returns one, which says why
// to all who use it: go-redis writes to stderr if it gets none.
func dialer(timeout time.Duration, config *tls.Config, max int) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout}
	dial := plain.DialContext
	if config != nil {
		dial = (&tls.Dialer{NetDialer: plain, Config: config}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := dial(ctx, network, address)
		if err != nil {
			return failed{err}, nil
		}
		return &guard{Conn: conn, max: max}, nil
	}
}

// failed is a connection that could not be made.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error)       { return 0, f.err }
func (f failed) Write([]byte) (int, error)      { return 0, f.err }
func (failed) Close() error                     { return nil }
func (failed) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (failed) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (failed) SetDeadline(time.Time) error      { return nil }
func (failed) SetReadDeadline(time.Time) error  { return nil }
func (failed) SetWriteDeadline(time.Time) error { return nil }

// explain says what to do about an error where that is known.
func (c *connection) explain(err error) error {
	hint := ""
	switch {
	case err == nil:
		return nil
	case goredis.HasErrorPrefix(err, "WRONGPASS"), goredis.HasErrorPrefix(err, "NOAUTH"), strings.HasPrefix(err.Error(), "ERR AUTH"):
		hint = ": check Server.Username and Server.Password"
	case goredis.HasErrorPrefix(err, "NOPERM"):
		hint = ": the user may not do what is needed, see the documentation of package redis"
	case goredis.HasErrorPrefix(err, "MOVED"):
		hint = ": this is one server of a cluster, which needs a Server.Client"
	}
	return fmt.Errorf("%s: %w%s", c.name, err, hint)
}
