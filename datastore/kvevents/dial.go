package kvevents

import (
	"context"
	"fmt"

	"github.com/inferpick/inferpick/internal/zmtp"
)

// dial connects to a socket and shakes hands. The connection is closed when ctx is done.
func (t *target) dial(ctx context.Context, address string, o zmtp.Options) (*zmtp.Conn, error) {
	o.MaxMessage = t.opt.MaxMessage
	limit, cancel := context.WithTimeout(ctx, t.opt.Timeout)
	defer cancel()
	conn, err := t.opt.Dial(limit, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("kvevents: %w", err)
	}
	stop := context.AfterFunc(limit, func() { conn.Close() })
	c, err := zmtp.New(conn, o)
	if !stop() && err == nil {
		err = limit.Err()
	}
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
		return c, nil
	}
	conn.Close()
	if limit.Err() != nil {
		err = fmt.Errorf("no handshake within %v: is there a publisher at that port? %w", t.opt.Timeout, err)
	}
	return nil, fmt.Errorf("kvevents: %w", err)
}
