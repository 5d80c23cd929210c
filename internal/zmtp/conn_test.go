package zmtp_test

import (
	"bytes"
	"encoding/hex"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/internal/zmtp"
)

// What libzmq sends as a publisher, and what is to be sent to it.
const (
	peerGreeting = "ff00000000000000017f" + "0301" + "4e554c4c00000000000000000000000000000000" + "00" + "00000000000000000000000000000000000000000000000000000000000000"
	peerReady    = "0419055245414459" + "0b536f636b65742d54797065" + "00000003505542"
	ourGreeting  = "ff00000000000000007f" + "0300" + "4e554c4c00000000000000000000000000000000" + "00" + "00000000000000000000000000000000000000000000000000000000000000"
	ourSubReady  = "0419055245414459" + "0b536f636b65742d54797065" + "00000003535542"
	ourDealer    = "0429055245414459" + "0b536f636b65742d54797065" + "000000064445414c4552" + "084964656e74697479" + "00000000"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// peer is the other end of a connection: it sends what is given, then ends or stays silent.
type peer struct {
	net.Conn
	in   io.Reader
	out  bytes.Buffer
	stay bool
}

func (p *peer) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	if err == io.EOF && p.stay {
		return 0, timeout{}
	}
	return n, err
}
func (p *peer) Write(b []byte) (int, error)     { return p.out.Write(b) }
func (p *peer) SetReadDeadline(time.Time) error { return nil }

type timeout struct{}

func (timeout) Error() string   { return "timeout" }
func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

var sub = zmtp.Options{Socket: "SUB", Peers: []string{"PUB", "XPUB"}, MaxMessage: 1 << 20}

func connect(t testing.TB, after []byte) (*zmtp.Conn, *peer) {
	t.Helper()
	p := &peer{in: io.MultiReader(bytes.NewReader(unhex(t, peerGreeting+peerReady)), bytes.NewReader(after))}
	c, err := zmtp.New(p, sub)
	require.NoError(t, err)
	return c, p
}

func TestHandshake(t *testing.T) {
	c, p := connect(t, nil)
	require.Equal(t, ourGreeting+ourSubReady, hex.EncodeToString(p.out.Bytes()))
	p.out.Reset()
	require.NoError(t, c.Subscribe(""))
	require.NoError(t, c.Subscribe("kv"))
	require.Equal(t, "000101"+"0003016b76", hex.EncodeToString(p.out.Bytes()))

	p = &peer{in: bytes.NewReader(unhex(t, peerGreeting+"041c0552454144590b536f636b65742d5479706500000006524f55544552"))}
	c, err := zmtp.New(p, zmtp.Options{Socket: "DEALER", Peers: []string{"ROUTER"}})
	require.NoError(t, err)
	require.Equal(t, ourGreeting+ourDealer, hex.EncodeToString(p.out.Bytes()))
	p.out.Reset()
	require.NoError(t, c.Send(nil, []byte{0, 0, 0, 0, 0, 0, 0, 9}))
	require.Equal(t, "0100"+"00080000000000000009", hex.EncodeToString(p.out.Bytes()))
}

func TestHandshakeErrors(t *testing.T) {
	for want, sent := range map[string]string{
		`zmtp: the peer does not speak ZMTP: what it sends begins with "HTTP/1.1 400 Bad Request"`:     hex.EncodeToString([]byte("HTTP/1.1 400 Bad Request")),
		"zmtp: the peer closed the connection: unexpected EOF":                                         "ff00",
		"zmtp: the peer does not speak ZMTP 2 or later: its greeting begins with ff000000000000000100": "ff000000000000000100" + "0000",
		"zmtp: the peer speaks ZMTP 1, want 3":                                                         "ff00000000000000017f" + "0100",
		`zmtp: the peer wants security "PLAIN", which is not spoken here: want NULL`:                   strings.Replace(peerGreeting, "4e554c4c00", "504c41494e", 1),
		"zmtp: a message comes before the peer is READY":                                               peerGreeting + "000101",
		`zmtp: the command "PING" comes before the peer is READY`:                                      peerGreeting + "0407" + "0450494e47" + "0000",
		`zmtp: the peer refuses us: "no"`:                                                              peerGreeting + "0409" + "054552524f52" + "026e6f",
		"zmtp: the peer's READY has no Socket-Type that can be read":                                   peerGreeting + "0406" + "055245414459",
		"zmtp: a command of 1000000000000 bytes, want 4096 at most":                                    peerGreeting + "06" + "000000e8d4a51000",
		"zmtp: a command of 3 bytes has no name":                                                       peerGreeting + "0403" + "055245",
		`zmtp: the peer is a "ROUTER" socket, want PUB or XPUB for our SUB: is it the right port?`:     peerGreeting + "041c0552454144590b536f636b65742d5479706500000006524f55544552",
	} {
		_, err := zmtp.New(&peer{in: bytes.NewReader(unhex(t, sent))}, sub)
		require.EqualError(t, err, want)
	}
}

func TestReceive(t *testing.T) {
	long := strings.Repeat("ab", 300)
	ping := "0409" + "0450494e47" + "000a" + "6869"
	c, p := connect(t, unhex(t, "01026b76"+ping+"010800000000000000070003"+"616263"+"02"+"000000000000012c"+long))
	p.out.Reset()
	frames, err := c.Receive()
	require.NoError(t, err)
	require.Equal(t, [][]byte{[]byte("kv"), {0, 0, 0, 0, 0, 0, 0, 7}, []byte("abc")}, frames)
	require.Equal(t, "0407"+"04504f4e47"+"6869", hex.EncodeToString(p.out.Bytes()))
	frames, err = c.Receive()
	require.NoError(t, err)
	require.Equal(t, [][]byte{unhex(t, long)}, frames)
	_, err = c.Receive()
	require.EqualError(t, err, "zmtp: the peer closed the connection: unexpected EOF")
}

func TestReceiveErrors(t *testing.T) {
	for want, sent := range map[string]string{
		"zmtp: a message of more than 1048576 bytes: a frame of 18446744073709551615 follows 0 of others": "02ffffffffffffffff",
		"zmtp: a message of more than 1048576 bytes: a frame of 1048576 follows 1 of others":              "0101ff" + "020000000000100000",
		"zmtp: a message of more than 64 frames":                                                          strings.Repeat("0100", 65),
		"zmtp: a frame begins with the byte 0x10, which are no flags":                                     "1000",
		"zmtp: a frame begins with the byte 0x05, which are no flags":                                     "0500",
		"zmtp: a PING of 1 bytes, want 2 at least":                                                        "0406" + "0450494e47" + "00",
		`zmtp: the peer refuses us: "no"`:                                                                 "0409" + "054552524f52" + "026e6f",
	} {
		c, _ := connect(t, unhex(t, sent))
		_, err := c.Receive()
		require.EqualError(t, err, want)
		var violation *zmtp.ProtocolError
		require.ErrorAs(t, err, &violation)
	}
}

// A length is a claim: memory is taken for what has come.
func TestReceiveTakesMemoryAsItComes(t *testing.T) {
	head := "02" + "0000000004000000" // 64 MiB
	var before, after runtime.MemStats
	p := &peer{in: bytes.NewReader(unhex(t, peerGreeting+peerReady+head+strings.Repeat("00", 100)))}
	c, err := zmtp.New(p, zmtp.Options{Socket: "SUB", Peers: []string{"PUB"}})
	require.NoError(t, err)
	runtime.ReadMemStats(&before)
	_, err = c.Receive()
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

func TestReceiveAllocatesNothing(t *testing.T) {
	message := unhex(t, "01026b760108000000000000000700"+"03616263")
	c, _ := connect(t, bytes.Repeat(message, 2000))
	_, err := c.Receive()
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := c.Receive(); err != nil {
			t.Error(err)
		}
	}))
}

func TestWait(t *testing.T) {
	c, p := connect(t, unhex(t, "000161"))
	p.stay = true
	ready, err := c.Wait(time.Time{})
	require.NoError(t, err)
	require.True(t, ready)
	_, err = c.Receive()
	require.NoError(t, err)
	ready, err = c.Wait(time.Now())
	require.NoError(t, err)
	require.False(t, ready)
	p.stay = false
	_, err = c.Wait(time.Time{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

// FuzzConn: whatever a peer sends, nothing panics, and messages stay within their bounds.
func FuzzConn(f *testing.F) {
	for _, seed := range []string{
		peerGreeting + peerReady + "01026b76010800000000000000070003616263",
		peerGreeting + peerReady + "0409" + "0450494e47" + "000a" + "6869" + "000161",
		peerGreeting + peerReady + "02ffffffffffffffff", peerGreeting + "0406055245414459", "485454502f312e31",
	} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		c, err := zmtp.New(&peer{in: bytes.NewReader(sent)}, zmtp.Options{Socket: "SUB", Peers: []string{"PUB"}, MaxMessage: 1000})
		for err == nil {
			var frames [][]byte
			if frames, err = c.Receive(); err != nil {
				break
			}
			size := 0
			for _, f := range frames {
				size += len(f)
			}
			require.LessOrEqual(t, size, 1000)
			require.NotEmpty(t, frames)
		}
	})
}
