package kvevents

import (
	"context"
	"fmt"
	"net"

	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/zmtp"
)

// dial connects to a socket and shakes hands. The connection is closed when ctx is done.
func (t *target) dial(ctx context.Context, address string, o zmtp.Options) (*zmtp.Conn, error) {
	limit, cancel := context.WithTimeout(ctx, t.opt.Timeout)
	defer cancel()
	conn, err := t.opt.Dial(limit, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("kvevents: %w", err)
	}
	c, err := t.greet(limit, conn, o)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { guard.Close(conn) })
	return c, nil
}

// subscriber says that we are a subscriber.
var subscriber = zmtp.Options{Socket: "SUB", Peers: []string{"PUB", "XPUB"}}

// greet shakes hands until limit is done. It closes a connection by which that fails.
func (r run) greet(limit context.Context, conn net.Conn, o zmtp.Options) (*zmtp.Conn, error) {
	o.MaxMessage = r.opt.MaxMessage
	stop := context.AfterFunc(limit, func() { guard.Close(conn) })
	c, err := zmtp.New(conn, o)
	if !stop() && err == nil {
		err = limit.Err()
	}
	if err == nil {
		return c, nil
	}
	conn.Close()
	if limit.Err() != nil {
		err = fmt.Errorf("no handshake within %v: is there a publisher at that port? %w", r.opt.Timeout, err)
	}
	return nil, fmt.Errorf("kvevents: %w", err)
}
