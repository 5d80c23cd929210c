package httptransport_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/scheduling/director"
	"github.com/inferpick/inferpick/types"
)

// frame is a whole message of text in a frame of a websocket (RFC 6455, section 5.2), masked if it is a client's.
func frame(text string, masked bool) []byte {
	b := []byte{0x81, byte(len(text))}
	mask := [4]byte{}
	if masked {
		b[1] |= 0x80
		mask = [4]byte{1, 2, 3, 4}
		b = append(b, mask[:]...)
	}
	for i := range len(text) {
		b = append(b, text[i]^mask[i%4])
	}
	return b
}

// readFrame reads one.
func readFrame(r io.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return "", err
		}
	}
	b := make([]byte, head[1]&0x7f)
	_, err := io.ReadFull(r, b)
	for i := range b {
		b[i] ^= mask[i%4]
	}
	return string(b), err
}

const nonce = "dGhlIHNhbXBsZSBub25jZQ=="

func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// talks is a server that says of each message which it was, and in which session; "bye" ends it, "crash" resets it.
func talks(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
		http.Error(w, "no websocket", http.StatusUpgradeRequired)
		return
	}
	c := hijack(w)
	defer c.Close()
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: realtime\r\n\r\n",
		acceptOf(r.Header.Get("Sec-WebSocket-Key")))
	_, _ = c.Write(frame("created "+r.URL.RequestURI(), false))
	for {
		text, err := readFrame(c)
		switch {
		case err != nil, text == "bye":
			return
		case text == "crash":
			c.(*net.TCPConn).SetLinger(0)
			return
		}
		_, _ = c.Write(frame("you said "+text, false))
	}
}

// talk is a client's side of a session.
type talk struct {
	testing.TB
	net.Conn
	r    *bufio.Reader
	head *http.Response
}

func (f *fixture) talk(t testing.TB, path string, headers ...string) *talk {
	t.Helper()
	c, err := net.Dial("tcp", f.front.Listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: gateway\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n",
		path, nonce, strings.Join(append(headers, ""), "\r\n"))
	k := &talk{TB: t, Conn: c, r: bufio.NewReader(c)}
	k.head, err = http.ReadResponse(k.r, &http.Request{Method: "GET"})
	require.NoError(t, err)
	return k
}

func (k *talk) hears(want string) {
	k.Helper()
	text, err := readFrame(k.r)
	require.NoError(k, err)
	require.Equal(k, want, text)
}

func (k *talk) says(text string) { _, _ = k.Write(frame(text, true)) }

// ends waits for the end of the connection.
func (k *talk) ends() {
	k.Helper()
	_, err := readFrame(k.r)
	require.Error(k, err)
	require.NotErrorIs(k, err, context.DeadlineExceeded)
}

const sessionModels = `{"apiVersion":"inference.networking.x-k8s.io/v1alpha2","kind":"InferenceModel","metadata":{"name":"voice"},
 "spec":{"modelName":"voice","poolRef":{"name":"pool"},"targetModels":[{"name":"org/voice v2","weight":1}]}}`

func (f *fixture) model(t *testing.T, manifest string) {
	objs, err := types.DecodeManifests([]byte(`{"apiVersion":"inference.networking.k8s.io/v1","kind":"InferencePool","metadata":{"name":"pool"},"spec":{"selector":{"matchLabels":{"app":"x"}},"targetPorts":[{"number":8000}]}}` + manifest))
	require.NoError(t, err)
	require.NoError(t, f.store.Apply(objs...))
}

func (f *fixture) outcome(t *testing.T) types.Outcome {
	t.Helper()
	select {
	case out := <-f.outcomes:
		return out
	case <-time.After(10 * time.Second):
		t.Fatal("nothing has ended")
		return types.Outcome{}
	}
}

// TestSession: a websocket goes to the server for its model, is booked as long as it lives, and whoever ends it.
func TestSession(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*talk)
		want func(testing.TB, types.Outcome)
	}{
		"by the server": {func(k *talk) { k.says("bye"); k.ends() }, served},
		"by the client": {func(k *talk) { k.Close() }, served},
		"by a crash": {func(k *talk) { k.says("crash"); k.ends() }, func(t testing.TB, out types.Outcome) {
			require.Error(t, out.Err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil, talks)
			f.model(t, sessionModels)
			load := f.store.Snapshot().Pool(pool).Endpoints()[0].Load
			k := f.talk(t, "/v1/realtime?intent=x&model=voice&b=%2F", "X-Request-Id: r1")
			require.Equal(t, 101, k.head.StatusCode)
			require.Equal(t, acceptOf(nonce), k.head.Header.Get("Sec-Websocket-Accept"))
			require.Equal(t, "realtime", k.head.Header.Get("Sec-Websocket-Protocol"))
			k.hears("created /v1/realtime?intent=x&model=org%2Fvoice%20v2&b=%2F")
			for _, text := range []string{"a", "b", ""} {
				k.says(text)
				k.hears("you said " + text)
			}
			require.EqualValues(t, 1, load.Requests())
			require.Zero(t, load.Prefilling())
			tt.end(k)
			tt.want(t, f.outcome(t))
			f.ledgersEmpty(t)
		})
	}
}

func served(t testing.TB, out types.Outcome) {
	require.True(t, out.Served(), "%+v", out)
	require.Equal(t, 101, out.Status)
	require.NotZero(t, out.ResponseBytes)
	require.Zero(t, out.TTFT, "the time of a handshake is none until a token")
}

// TestSessionPaths: which websockets are taken, to which models, and what becomes of others.
func TestSessionPaths(t *testing.T) {
	f := newFixture(t, func(o *director.Options) {}, talks)
	f.model(t, sessionModels)
	for path, want := range map[string]string{
		"/v1/audio/speech/stream":        "/v1/audio/speech/stream", // names its model later
		"/v1/duplex?session_id=s1":       "/v1/duplex?session_id=s1",
		"/v1/realtime?model=other":       "/v1/realtime?model=other",
		"/v1/realtime?model=org%2Fother": "/v1/realtime?model=org%2Fother",
		"/v1/realtime?model=":            "/v1/realtime?model=",
	} {
		k := f.talk(t, path)
		require.Equal(t, 101, k.head.StatusCode, path)
		k.hears("created " + want)
		k.Close()
		f.outcome(t)
	}
	require.Equal(t, 403, f.talk(t, "/metrics").head.StatusCode)
	f.ledgersEmpty(t)
}

// TestSessionFallsBack: as long as no session has begun, another server is asked; a refusal that is no 101 is the client's.
func TestSessionFallsBack(t *testing.T) {
	full := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "full", http.StatusServiceUnavailable) }
	gone := func(w http.ResponseWriter, _ *http.Request) { hijack(w).Close() }
	f := newFixture(t, nil, full, gone, talks)
	k := f.talk(t, "/v1/realtime?model=m")
	require.Equal(t, 101, k.head.StatusCode)
	require.Equal(t, "2", k.head.Header.Get("X-Inferpick-Endpoint"))
	k.hears("created /v1/realtime?model=m")
	k.Close()
	served(t, f.outcome(t))
	f.ledgersEmpty(t)

	f = newFixture(t, nil, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "who are you?", http.StatusUnauthorized) })
	k = f.talk(t, "/v1/realtime?model=m")
	require.Equal(t, 401, k.head.StatusCode)
	body, err := io.ReadAll(k.head.Body)
	require.NoError(t, err)
	require.Equal(t, "who are you?\n", string(body))
	require.Equal(t, 401, f.outcome(t).Status)
	f.ledgersEmpty(t)
}

// TestSessionsEnd within the grace period: first by themselves, then closed.
func TestSessionsEnd(t *testing.T) {
	f := newFixture(t, nil, talks)
	require.NoError(t, f.transport.EndSessions(context.Background()), "there are none")
	first, second := f.talk(t, "/v1/realtime?model=m"), f.talk(t, "/v1/realtime?model=m")
	first.hears("created /v1/realtime?model=m")
	second.hears("created /v1/realtime?model=m")
	ended := make(chan error)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { ended <- f.transport.EndSessions(ctx) }()
	first.Close()
	served(t, f.outcome(t))
	second.says("still here")
	second.hears("you said still here")
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	second.ends()
	out := f.outcome(t)
	require.True(t, out.Cancelled && !out.Failed(), "%+v", out)
	f.ledgersEmpty(t)
	require.NoError(t, f.transport.EndSessions(context.Background()))
}

// TestSessionServerGone: the end of a server ends its sessions, and what is booked for them.
func TestSessionServerGone(t *testing.T) {
	f := newFixture(t, nil, talks)
	k := f.talk(t, "/v1/realtime?model=m")
	k.hears("created /v1/realtime?model=m")
	load := f.store.Snapshot().Pool(pool).Endpoints()[0].Load
	require.NoError(t, f.store.SetEndpoints(pool, []datastore.EndpointSpec{{ID: "9", Address: "127.0.0.1:1"}}))
	k.says("the list of servers may be wrong")
	k.hears("you said the list of servers may be wrong")
	require.EqualValues(t, 1, load.Requests())
	k.Close()
	f.outcome(t)
	require.Zero(t, load.Requests())
}

// TestWebsocketOverHTTP2 is refused in words.
func TestWebsocketOverHTTP2(t *testing.T) {
	f := newFixture(t, nil, talks)
	req, err := http.NewRequest("CONNECT", "http://gateway/v1/realtime?model=m", http.NoBody)
	require.NoError(t, err)
	req.Header[":protocol"] = []string{"websocket"}
	resp, err := f.transport.RoundTrip(req)
	require.NoError(t, err)
	body, _ := io.ReadAll(resp.Body)
	require.Equal(t, 501, resp.StatusCode)
	require.Contains(t, string(body), "HTTP/1.1")
}

// TestSessionOfAnotherProtocol is no session: it leaves nothing behind, whoever finds out.
func TestSessionOfAnotherProtocol(t *testing.T) {
	speaks := func(protocol string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(hijack(w), "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", protocol)
		}
	}
	f := newFixture(t, nil, speaks("foo"), talks)
	k := f.talk(t, "/v1/realtime?model=m")
	require.Equal(t, 101, k.head.StatusCode)
	require.Equal(t, "1", k.head.Header.Get("X-Inferpick-Endpoint"))
	k.hears("created /v1/realtime?model=m")
	k.Close()
	served(t, f.outcome(t))
	f.ledgersEmpty(t)

	// Who has the session drops it when its request is over.
	f = newFixture(t, nil, speaks("websocket"))
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://gateway/v1/realtime?model=m", http.NoBody)
	require.NoError(t, err)
	req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	resp, err := f.transport.RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, 101, resp.StatusCode)
	cancel()
	f.outcome(t)
	f.ledgersEmpty(t)
	require.NoError(t, f.transport.EndSessions(context.Background()))
}
