package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/sharing"
)

var secretKey = []byte("a key of 32 bytes for these tests")

// end is one end of a connection: what it reads is given, and what it writes is kept.
type end struct {
	io.Reader
	bytes.Buffer
}

func (e *end) Read(b []byte) (int, error) { return e.Reader.Read(b) }

func admitAll() verdict { return welcome }

// result is what a side of a handshake has.
type result struct {
	session
	err error
}

// shake has two parties shake hands, with what is between them changed by tamper, if it is not nil, and returns what
// both have, and all that went from who dials to who accepts.
func shake(dials, accepts *party, tamper func(fromDialer bool, b []byte), bindings ...string) (d, a result, sent []byte) {
	here, there := net.Pipe()
	var record bytes.Buffer
	tampered := func(c net.Conn, fromDialer bool) io.ReadWriter {
		return struct {
			io.Reader
			io.Writer
		}{c, writer(func(b []byte) (int, error) {
			b = bytes.Clone(b)
			if tamper != nil {
				tamper(fromDialer, b)
			}
			if fromDialer {
				record.Write(b)
			}
			return c.Write(b)
		})}
	}
	for len(bindings) < 2 {
		bindings = append(bindings, "")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.session, a.err = accepts.accept(tampered(there, false), []byte(bindings[1]), admitAll)
		there.Close()
	}()
	d.session, d.err = dials.dial(tampered(here, true), []byte(bindings[0]))
	here.Close()
	<-done
	return d, a, record.Bytes()
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestHandshake(t *testing.T) {
	for name, keys := range map[string][][]byte{"open": nil, "keyed": {secretKey}, "more keys": {[]byte("another key of some length"), secretKey}} {
		t.Run(name, func(t *testing.T) {
			dials, accepts := &party{id: newIdentity()}, &party{id: newIdentity(), keys: keys}
			if keys != nil {
				dials.keys = [][]byte{secretKey}
			}
			d, a, _ := shake(dials, accepts, nil)
			require.NoError(t, d.err)
			require.NoError(t, a.err)
			require.Equal(t, accepts.id, d.peer)
			require.Equal(t, dials.id, a.peer)
			require.Equal(t, d.to, a.to)
			require.Equal(t, d.back, a.back)
			require.Equal(t, keys == nil, d.to == nil)
			if keys != nil {
				require.NotEqual(t, d.to, d.back)
				again, _, _ := shake(dials, accepts, nil)
				require.NotEqual(t, d.to, again.to, "keys of a connection are its own")
			}
		})
	}
}

// Nobody who lacks the key gets through a handshake, whatever they make of what they have seen.
func TestTrapHandshakeIsNotForStrangers(t *testing.T) {
	dials, accepts := &party{id: newIdentity(), keys: [][]byte{secretKey}}, &party{id: newIdentity(), keys: [][]byte{secretKey}}
	t.Run("replay", func(t *testing.T) {
		_, _, sent := shake(dials, accepts, nil)
		e := &end{Reader: bytes.NewReader(sent)}
		_, err := accepts.accept(e, nil, admitAll)
		require.ErrorIs(t, err, errKey)
		require.Equal(t, byte(wrongKey), e.Bytes()[helloBytes])
		require.Equal(t, make([]byte, proofBytes), e.Bytes()[helloBytes+1:], "nothing that depends on the key")
	})
	t.Run("reflection", func(t *testing.T) {
		// Who has no key answers a hello with a hello, and a proof with that proof.
		here, there := net.Pipe()
		go func() {
			defer there.Close()
			var h hello
			if _, err := io.ReadFull(there, h[:]); err != nil {
				return
			}
			h[prefix]++ // or it would be seen to be one's own
			there.Write(h[:])
			var p [proofBytes]byte
			if _, err := io.ReadFull(there, p[:]); err != nil {
				return
			}
			there.Write(append([]byte{byte(welcome)}, p[:]...))
		}()
		_, err := dials.dial(here, nil)
		require.ErrorIs(t, err, errKey)
	})
	t.Run("oneself", func(t *testing.T) {
		d, a, _ := shake(dials, dials, nil)
		require.ErrorIs(t, d.err, errSelf)
		require.ErrorIs(t, a.err, errSelf)
	})
	t.Run("another TLS connection", func(t *testing.T) {
		d, a, _ := shake(dials, accepts, nil, "one", "two")
		require.ErrorIs(t, d.err, errKey)
		require.ErrorIs(t, a.err, errKey)
		d, a, _ = shake(dials, accepts, nil, "one", "one")
		require.NoError(t, errors.Join(d.err, a.err))
	})
	t.Run("a changed bit", func(t *testing.T) {
		for bit := range 8 * (helloBytes + proofBytes) {
			for _, fromDialer := range []bool{true, false} {
				seen := 0
				d, a, _ := shake(dials, accepts, func(from bool, b []byte) {
					if at := bit/8 - seen; from == fromDialer && at >= 0 && at < len(b) {
						b[at] ^= 1 << (bit % 8)
					}
					if from == fromDialer {
						seen += len(b)
					}
				})
				require.Error(t, errors.Join(d.err, a.err), "bit %d", bit)
				require.True(t, d.err != nil || bytes.Equal(d.to, a.to), "bit %d", bit)
			}
		}
	})
}

func TestFull(t *testing.T) {
	a, b := &party{id: newIdentity()}, &party{id: newIdentity()}
	here, there := net.Pipe()
	go func() {
		a.accept(there, nil, func() verdict { return full })
		there.Close()
	}()
	_, err := b.dial(here, nil)
	require.ErrorIs(t, err, errFull)
}

// frames returns messages as they are sent.
func frames(key []byte, msgs ...[]byte) []byte {
	var b bytes.Buffer
	w := newFrameWriter(&b, key)
	for _, m := range msgs {
		w.write(m)
	}
	w.flush()
	return b.Bytes()
}

// readAll returns the messages that can be read, and why there are no more.
func readAll(r io.Reader, key []byte) (msgs [][]byte, err error) {
	in := newFrameReader(r, key, sharing.MaxMessage)
	for {
		msg, err := in.read()
		if err != nil {
			return msgs, err
		}
		msgs = append(msgs, bytes.Clone(msg))
	}
}

// trickle gives one byte at a time.
type trickle struct{ io.Reader }

func (t trickle) Read(b []byte) (int, error) { return t.Reader.Read(b[:min(len(b), 1)]) }

func TestFrames(t *testing.T) {
	msgs := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("x"), sharing.MaxMessage), {}, {}, []byte("two")}
	for _, key := range [][]byte{nil, secretKey} {
		for _, r := range []io.Reader{bytes.NewReader(frames(key, msgs...)), trickle{bytes.NewReader(frames(key, msgs...))}} {
			got, err := readAll(r, key)
			require.Equal(t, io.EOF, err)
			require.Equal(t, msgs, got)
		}
	}
	sent := frames(nil, msgs...)
	for cut := range 20 {
		_, err := readAll(bytes.NewReader(sent[:cut]), nil)
		require.True(t, err == io.EOF || err == io.ErrUnexpectedEOF, "%v", err)
		require.Equal(t, cut == 0 || cut == 7 || cut == 11, err == io.EOF, "cut at %d", cut)
	}
	_, err := readAll(strings.NewReader("\x00\x01\x00\x01"+strings.Repeat("x", 1<<17)), nil)
	require.EqualError(t, err, "a frame of 65537 bytes, want 65536 at most")
	require.ErrorAs(t, err, new(violation))
}

// Frames of a key cannot be changed, left out, repeated, put in another order, or taken from another connection.
func TestTrapFramesAreAuthentic(t *testing.T) {
	one, two, three := []byte("one"), []byte("two"), []byte("three")
	whole := frames(secretKey, one, two, three)
	size := func(m []byte) int { return headBytes + len(m) + tagBytes }
	first, second, third := whole[:size(one)], whole[size(one):size(one)+size(two)], whole[size(one)+size(two):]
	for name, sent := range map[string][]byte{
		"left out":           bytes.Join([][]byte{first, third}, nil),
		"repeated":           bytes.Join([][]byte{first, first}, nil),
		"another order":      bytes.Join([][]byte{first, third, second}, nil),
		"another connection": bytes.Join([][]byte{first, frames([]byte("of another connection"), one)}, nil),
		"no tag":             bytes.Join([][]byte{first, frames(nil, two, bytes.Repeat(two, 100))}, nil),
	} {
		got, err := readAll(bytes.NewReader(sent), secretKey)
		require.ErrorContains(t, err, "a wrong tag", name)
		require.ErrorAs(t, err, new(violation), name)
		require.Equal(t, [][]byte{one}, got, name)
	}
	for bit := range 8 * len(whole) {
		changed := bytes.Clone(whole)
		changed[bit/8] ^= 1 << (bit % 8)
		got, err := readAll(bytes.NewReader(changed), secretKey)
		require.NotEqual(t, io.EOF, err, "bit %d", bit)
		require.Less(t, len(got), 3)
		for i, m := range got {
			require.Equal(t, [][]byte{one, two, three}[i], m)
		}
	}
}

// FuzzFrames: whatever comes, what is read is what was written, in little memory.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03one"), false)
	f.Add(frames(secretKey, []byte("one"), nil, []byte("two")), true)
	f.Add([]byte("\xff\xff\xff\xff"), true)
	f.Fuzz(func(t *testing.T, b []byte, keyed bool) {
		var key []byte
		if keyed {
			key = secretKey
		}
		msgs, err := readAll(bytes.NewReader(b), key)
		require.Error(t, err)
		again := frames(key, msgs...)
		require.True(t, bytes.HasPrefix(b, again), "what was read, written again, is not what came")
		if err == io.EOF {
			require.Equal(t, len(b), len(again))
		}
		whole, err := readAll(trickle{bytes.NewReader(frames(key, b[:min(len(b), sharing.MaxMessage)], b[:min(len(b), 1)]))}, key)
		require.Equal(t, io.EOF, err)
		require.Len(t, whole, 2)
		require.True(t, bytes.Equal(b[:min(len(b), sharing.MaxMessage)], whole[0]))
	})
}

// FuzzHandshake: nobody gets through it without the key, on either side, nor is answered without the magic.
func FuzzHandshake(f *testing.F) {
	p := &party{id: newIdentity(), keys: [][]byte{secretKey}}
	h := (&party{id: newIdentity(), keys: p.keys}).hello()
	f.Add(h[:], true)
	f.Add(append(h[:], make([]byte, 1+proofBytes)...), false)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), true)
	open := (&party{}).hello()
	f.Add(open[:], false)
	f.Fuzz(func(t *testing.T, b []byte, accepts bool) {
		e := &end{Reader: bytes.NewReader(b)}
		var err error
		if accepts {
			_, err = p.accept(e, nil, func() verdict { t.Error("admitted"); return welcome })
			if !bytes.HasPrefix(b, []byte(magic)) {
				require.Empty(t, e.Bytes())
			}
		} else {
			_, err = p.dial(e, nil)
		}
		require.Error(t, err)
		require.LessOrEqual(t, e.Len(), helloBytes+1+proofBytes)
		// Without keys it is a matter of form, and must end all the same.
		open := &party{id: newIdentity()}
		_, _ = open.accept(&end{Reader: bytes.NewReader(b)}, nil, admitAll)
		_, _ = open.dial(&end{Reader: bytes.NewReader(b)}, nil)
	})
}

// TestQueue compares a queue with a plain list.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	q := newQueue(sharing.MaxMessage)
	require.Zero(t, q.push([]byte("nobody is there")))
	q.start()
	var list [][]byte
	bytesOf := func() (n int) {
		for _, m := range list {
			n += len(m) + overhead
		}
		return n
	}
	for i := range 20_000 {
		if r.IntN(100) < 45 || i > 19_000 {
			got, more := q.pop()
			if len(list) == 0 {
				require.Nil(t, got)
				require.False(t, more)
				continue
			}
			require.Equal(t, list[0], got)
			list = list[1:]
			require.Equal(t, len(list) > 0, more)
			if more {
				require.Len(t, q.wake, 1)
			}
		} else {
			size := 1 + r.IntN(1000)
			if r.IntN(100) == 0 {
				size = sharing.MaxMessage // more than there is room for, with overhead
			}
			msg := bytes.Repeat([]byte{byte(i)}, size)
			list = append(list, msg)
			dropped := 0
			for bytesOf() > sharing.MaxMessage && len(list) > 1 {
				list = list[1:]
				dropped++
			}
			require.Equal(t, dropped, q.push(msg))
			require.Len(t, q.wake, 1)
		}
		require.Equal(t, bytesOf(), q.bytes)
		require.LessOrEqual(t, len(q.msgs), 2*len(list)+1)
	}
	require.Empty(t, list)
	require.NotZero(t, q.drops())
	q.push([]byte("x"))
	q.stop()
	msg, _ := q.pop()
	require.Nil(t, msg)
}

func TestBackoff(t *testing.T) {
	for failures, want := range []int{1: 100, 2: 200, 3: 400, 6: 3200, 7: 5000, 8: 5000, 1000: 5000} {
		if want == 0 {
			continue
		}
		for _, u := range []float64{0, 0.5, 1} {
			got := backoff(failures, 100*time.Millisecond, 5*time.Second, u)
			require.Equal(t, time.Duration(float64(want)*(1+u/4)*float64(time.Millisecond)), got, "%d failures", failures)
		}
	}
	require.Equal(t, time.Hour, backoff(5, time.Hour, time.Hour, 0))
}

func TestChoose(t *testing.T) {
	list := func(addrs ...string) (l []netip.AddrPort) {
		for _, a := range addrs {
			l = append(l, netip.MustParseAddrPort(a))
		}
		return l
	}
	lists := [][]netip.AddrPort{list("10.0.0.1:1", "10.0.0.2:1"), nil, list("10.0.0.2:1", "10.0.0.3:1", "10.0.0.3:2"), list("10.0.0.3:2", "10.0.0.4:1")}
	for _, tt := range []struct {
		most, more int
		want       string
	}{
		{9, 0, "map[10.0.0.1:1:0 10.0.0.2:1:0 10.0.0.3:1:2 10.0.0.3:2:2 10.0.0.4:1:3]"},
		{3, 2, "map[10.0.0.1:1:0 10.0.0.2:1:0 10.0.0.3:1:2]"},
		{1, 4, "map[10.0.0.1:1:0]"},
	} {
		got, more := choose(lists, tt.most)
		require.Equal(t, tt.want, fmt.Sprint(got))
		require.Equal(t, tt.more, more)
	}
}

func TestBudget(t *testing.T) {
	now := time.Now()
	b := budget{rate: 1000, left: 1000, at: now}
	for _, tt := range []struct {
		after time.Duration
		n     int
		want  time.Duration
	}{
		{0, 600, 0}, {0, 400, 0}, {0, 100, 100 * time.Millisecond}, {100 * time.Millisecond, 0, 0},
		{500 * time.Millisecond, 500, 0}, {time.Hour, 2000, time.Second}, {time.Second, 1, time.Millisecond},
	} {
		now = now.Add(tt.after)
		require.InDelta(t, tt.want, b.take(now, tt.n), float64(time.Microsecond))
	}
}

func TestQuiet(t *testing.T) {
	var q quiet
	now := time.Now()
	require.True(t, q.may("a", now))
	require.False(t, q.may("a", now.Add(quietFor-1)))
	require.True(t, q.may("b", now))
	require.True(t, q.may("a", now.Add(quietFor)))
	told := 0
	for i := range 3 * quietThing {
		if q.may(fmt.Sprint(i), now.Add(quietFor)) {
			told++
		}
	}
	require.LessOrEqual(t, told, quietThing)
	require.LessOrEqual(t, len(q.last), quietThing)
	require.True(t, q.may("c", now.Add(2*quietFor)))
	require.Len(t, q.last, 1)
}
