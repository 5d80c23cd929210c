package modelserver_test

import (
	"bufio"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling/simulation/modelserver"
)

// socket is a client's end of a websocket.
type socket struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// dial opens a session. The header is of lines, each with its end.
func dial(t testing.TB, s *modelserver.Server, path, header string) (*socket, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Address())
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\n"+header+"\r\n")
	require.NoError(t, err)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	return &socket{t, conn, in}, resp
}

const upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// send sends a frame: its first byte, and its data, masked.
func (s *socket) send(first byte, data string) {
	s.t.Helper()
	frame := []byte{first}
	if n := len(data); n < 126 {
		frame = append(frame, 0x80|byte(n))
	} else {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	}
	mask := []byte{1, 2, 3, 4}
	frame = append(frame, mask...)
	for i := range len(data) {
		frame = append(frame, data[i]^mask[i%4])
	}
	_, err := s.conn.Write(frame)
	require.NoError(s.t, err)
}

func (s *socket) receive() (first byte, data string) {
	s.t.Helper()
	head := make([]byte, 2)
	_, err := io.ReadFull(s.in, head)
	require.NoError(s.t, err)
	n := int(head[1])
	if n == 126 {
		more := make([]byte, 2)
		_, err = io.ReadFull(s.in, more)
		require.NoError(s.t, err)
		n = int(binary.BigEndian.Uint16(more))
	}
	text := make([]byte, n)
	_, err = io.ReadFull(s.in, text)
	require.NoError(s.t, err)
	return head[0], string(text)
}

type serverEvent struct {
	Type, Delta, Text string
	Error             struct{ Message, Code string }
	Response          struct {
		Status string
		Usage  struct {
			In  int `json:"input_tokens"`
			Out int `json:"output_tokens"`
		}
	}
}

// event returns the next event, which must be of a kind.
func (s *socket) event(kind string) (e serverEvent) {
	s.t.Helper()
	first, data := s.receive()
	require.Equal(s.t, byte(0x81), first, data)
	require.NoError(s.t, json.Unmarshal([]byte(data), &e))
	require.Equal(s.t, kind, e.Type, data)
	return e
}

func TestRealtime(t *testing.T) {
	s := start(t, modelserver.Options{Models: []string{"m"}})
	for header, beta := range map[string]bool{"Sec-WebSocket-Protocol: realtime, x\r\n": false, "OpenAI-Beta: realtime=v1\r\n": true} {
		c, resp := dial(t, s, "/v1/realtime?model=m", upgrade+header)
		require.Equal(t, 101, resp.StatusCode)
		require.Equal(t, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", resp.Header.Get("Sec-Websocket-Accept"), "the example of RFC 6455")
		require.Equal(t, beta, resp.Header.Get("Sec-Websocket-Protocol") == "")
		text := map[bool]string{true: "response.text", false: "response.output_text"}[beta]
		c.event("session.created")
		c.send(0x81, `{"type":"session.update","session":{}}`)
		c.event("session.updated")
		// In three frames, with a ping between them.
		item := `{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"the wide sea, the wide sea, the wide sea, the wide sea, the wide sea"}]}}`
		c.send(0x01, item[:10])
		c.send(0x89, "ping")
		first, data := c.receive()
		require.Equal(t, byte(0x8a), first)
		require.Equal(t, "ping", data)
		c.send(0x00, item[10:20])
		c.send(0x80, item[20:])
		c.event("conversation.item.added")
		c.send(0x81, `{"type":"input_audio_buffer.append","audio":"`+base64.StdEncoding.EncodeToString(make([]byte, 24000))+`"}`)
		c.send(0x81, `{"type":"input_audio_buffer.commit"}`)
		c.event("input_audio_buffer.committed")
		before := 0
		for range 2 {
			c.send(0x81, `{"type":"response.create","x-sim-output-tokens":3}`)
			c.event("response.created")
			whole := ""
			for range 3 {
				whole += c.event(text + ".delta").Delta
			}
			require.Equal(t, whole, c.event(text+".done").Text)
			done := c.event("response.done").Response
			require.Equal(t, "completed", done.Status)
			require.Equal(t, 3, done.Usage.Out)
			require.Greater(t, done.Usage.In, before)
			before = done.Usage.In
		}
		for _, wrong := range []string{"no JSON", `{"type":"nothing"}`, `{"type":"response.cancel"}`, `{"type":"conversation.item.create","item":{"content":7}}`} {
			c.send(0x81, wrong)
			require.NotEmpty(t, c.event("error").Error.Message)
		}
		c.send(0x88, "\x03\xe8")
		first, data = c.receive()
		require.Equal(t, byte(0x88), first)
		require.Equal(t, "\x03\xe8", data)
		_, err := c.in.ReadByte()
		require.ErrorIs(t, err, io.EOF)
	}
	eventually(t, "nothing is left", func() bool { return s.Stats().Running == 0 })
}

func TestRealtimeCancelled(t *testing.T) {
	s := start(t, modelserver.Options{TimeScale: 1})
	c, _ := dial(t, s, "/v1/realtime", upgrade)
	c.event("session.created")
	c.send(0x81, `{"type":"response.create","x-sim-output-tokens":5000}`)
	c.event("response.created")
	c.event("response.output_text.delta")
	c.send(0x81, `{"type":"response.create"}`)
	c.send(0x81, `{"type":"response.cancel"}`)
	for {
		_, data := c.receive()
		var e serverEvent
		require.NoError(t, json.Unmarshal([]byte(data), &e))
		if e.Type == "error" {
			require.Equal(t, "conversation_already_has_active_response", e.Error.Code)
		}
		if e.Type == "response.done" {
			require.Equal(t, "cancelled", e.Response.Status)
			break
		}
	}
	eventually(t, "the engine to have nothing to do", func() bool { return s.Stats().Running == 0 })

	c.send(0x81, `{"type":"response.create","x-sim-output-tokens":5000}`)
	c.event("response.created")
	s.Kill() // it waits for the session
	_, err := io.Copy(io.Discard, c.in)
	if ne, ok := err.(net.Error); ok {
		require.False(t, ne.Timeout(), "the connection is still open")
	}
}

func TestRealtimeRefused(t *testing.T) {
	s := start(t, modelserver.Options{Models: []string{"m"}})
	for _, tt := range []struct {
		path, header string
		status       int
	}{
		{"/v1/realtime?model=none", upgrade, 404},
		{"/v1/realtime?model=m", "", 426},
		{"/v1/realtime?model=m", strings.Replace(upgrade, "13", "12", 1), 400},
		{"/v1/realtime?model=m", strings.Replace(upgrade, "dGhl", "", 1), 400},
	} {
		if _, resp := dial(t, s, tt.path, tt.header); resp.StatusCode != tt.status {
			t.Errorf("%s %q: status %d, want %d", tt.path, tt.header, resp.StatusCode, tt.status)
		}
	}
	for name, frame := range map[string]struct {
		raw  string
		code uint16
	}{
		"not masked":             {"\x81\x01a", 1002},
		"a reserved bit":         {"\xc1\x80aaaa", 1002},
		"a ping in pieces":       {"\x09\x80aaaa", 1002},
		"goes on from nothing":   {"\x80\x80aaaa", 1002},
		"of 2^40 bytes":          {"\x81\xff\x00\x00\x01\x00\x00\x00\x00\x00aaaa", 1009},
		"not UTF-8":              {"\x81\x81\x00\x00\x00\x00\xff", 1007},
		"begins in the middle":   {"\x01\x80aaaa\x81\x80aaaa", 1002},
		"of a kind there is not": {"\x83\x80aaaa", 1002},
	} {
		c, _ := dial(t, s, "/v1/realtime", upgrade)
		c.event("session.created")
		_, err := io.WriteString(c.conn, frame.raw)
		require.NoError(t, err)
		first, data := c.receive()
		require.Equal(t, byte(0x88), first, name)
		require.Equal(t, frame.code, binary.BigEndian.Uint16([]byte(data)), name)
	}
}
