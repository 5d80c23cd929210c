package httptransport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/inferpick/inferpick/openai"
	"github.com/inferpick/inferpick/scheduling/director"
)

// readBody returns the whole body and closes it. release gives back what it takes of
// Transport.MaxBodies; it may be called more than once.
func (t *Transport) readBody(req *http.Request) (body []byte, release func(), err error) {
	if req.Body == nil || req.Body == http.NoBody {
		return nil, func() {}, nil
	}
	defer req.Body.Close()
	most, all := t.MaxBody, t.MaxBodies
	if most == 0 {
		most = t.Director.MaxBody()
	}
	if all == 0 {
		all = DefaultMaxBodies
	}
	account := &account{held: &t.held, most: all}
	release = sync.OnceFunc(account.release)
	tooLarge := &director.Error{Status: 413, Code: openai.CodeTooLarge, Message: fmt.Sprintf("request body is larger than %d bytes", most)}
	if req.ContentLength > most {
		return nil, release, tooLarge
	}
	var buf bytes.Buffer
	if n := req.ContentLength; n > 0 {
		buf.Grow(int(min(n, 1<<16)) + bytes.MinRead) // no more on a mere promise
	}
	account.from = io.LimitReader(req.Body, most+1)
	n, err := buf.ReadFrom(account)
	var limit *http.MaxBytesError
	switch {
	case errors.As(err, &limit):
		return nil, release, &director.Error{Status: 413, Code: openai.CodeTooLarge, Err: err,
			Message: fmt.Sprintf("request body is larger than %d bytes", limit.Limit)}
	case errors.Is(err, errBodies):
		return nil, release, &director.Error{Status: 503, Code: director.CodeBodies, RetryAfter: time.Second, Err: err,
			Message: "the gateway holds as much of requests as it may, try again later"}
	case err != nil:
		return nil, release, &director.Error{Status: 400, Code: "incomplete_body", Message: "request body could not be read: " + err.Error(), Err: err}
	case n > most:
		return nil, release, tooLarge
	}
	return buf.Bytes(), release, nil
}

var errBodies = errors.New("httptransport: the bodies under way have as many bytes as they may have")

// account reads a body as long as all bodies together may have more bytes.
type account struct {
	from interface{ Read([]byte) (int, error) }
	held interface{ Add(int64) int64 }
	most int64
	mine int64
}

// Read implements io.Reader.
func (a *account) Read(p []byte) (int, error) {
	n, err := a.from.Read(p)
	a.mine += int64(n)
	if a.held.Add(int64(n)) > a.most {
		return n, errBodies
	}
	return n, err
}

func (a *account) release() {
	a.held.Add(-a.mine)
	a.mine = 0
}
