package httptransport

import (
	"io"
	"sync"
)

// feed is a body that goes out while it still comes in.
type feed struct {
	of    *outgoing
	first []byte // what goes out in place of the first skip bytes
	skip  int
	size  int64 // of what goes out

	mu   sync.Mutex
	more sync.Cond // with mu
	came []byte    // of the body, as far as it may go out
	end  error     // io.EOF: that is all; another: it is broken off; nil: more may come
}

func newFeed(of *outgoing, first, came []byte, size int64) *feed {
	f := &feed{of: of, first: first, skip: len(came), came: came, size: size - int64(len(came)) + int64(len(first))}
	f.more.L = &f.mu
	return f
}

// add says what of the body may go out, and whether it ends there, or is broken off. The memory of what was there
// before must not be used for anything else as long as outgoing is not idle.
func (f *feed) add(came []byte, end error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != nil {
		return
	}
	if f.end = end; end == nil || end == io.EOF {
		f.came = came
	}
	f.more.Broadcast()
}

// isOpen reports whether more may come.
func (f *feed) isOpen() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.end == nil
}

// settled waits until it is known how the body ends, and returns why it was broken off, if it was.
func (f *feed) settled() error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.end == nil {
		f.more.Wait()
	}
	if f.end == io.EOF {
		return nil
	}
	return f.end
}

// read returns what reads all of it from the beginning.
func (f *feed) read() io.ReadCloser {
	f.of.open.Add(1)
	return &feedBody{feed: f}
}

// feedBody reads a feed. It may be closed while it is being read.
type feedBody struct {
	*feed
	at  int64
	err error // it was closed, or read to its end
}

// next waits for the bytes that come next, and returns them from where they lie.
func (b *feedBody) next() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil {
		from, at := b.first, b.at
		if at >= int64(len(b.first)) {
			from, at = b.came[b.skip:], at-int64(len(b.first))
		}
		switch rest := from[at:]; {
		case b.end != nil && (b.end != io.EOF || len(rest) == 0): // first is never all of it
			b.endLocked(b.end)
		case len(rest) > 0:
			return rest, nil
		default:
			b.more.Wait()
		}
	}
	return nil, b.err
}

// Read implements io.Reader.
func (b *feedBody) Read(p []byte) (int, error) {
	rest, err := b.next()
	n := copy(p, rest)
	b.at += int64(n)
	return n, err
}

// write writes up to n bytes to w as they come. Close does not wait for it, but the body is not idle before it
// returns.
func (b *feedBody) write(w io.Writer, n int64) (wrote int64, err error) {
	b.of.open.Add(1)
	defer b.of.open.Add(-1)
	for wrote < n {
		rest, err := b.next()
		if err == io.EOF {
			break
		} else if err != nil {
			return wrote, err
		}
		m, err := w.Write(rest[:min(n-wrote, int64(len(rest)))])
		b.at += int64(m)
		if wrote += int64(m); err != nil {
			return wrote, err
		}
	}
	return wrote, nil
}

// Close implements io.Closer.
func (b *feedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked(errClosed)
	return nil
}

func (b *feedBody) endLocked(err error) {
	if b.err == nil {
		b.err = err
		b.of.open.Add(-1)
		b.more.Broadcast()
	}
}
