package modelserver

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Kinds of frames, of RFC 6455.
const (
	frameMore  = 0x0
	frameText  = 0x1
	frameBytes = 0x2
	frameClose = 0x8
	framePing  = 0x9
	framePong  = 0xa
)

// Why a socket is closed.
const (
	closedWell     = 1000
	closedProtocol = 1002
	closedNotText  = 1007
	closedTooLarge = 1009
)

// maxMessage bounds a message that a client sends over a socket.
const maxMessage = 4 << 20

// socket is the server's end of a websocket.
type socket struct {
	conn net.Conn
	in   *bufio.Reader
	mu   sync.Mutex // one frame is written at a time
}

// hasToken reports whether a header lists a token, whatever its case.
func hasToken(h http.Header, name, token string) bool {
	for _, value := range h.Values(name) {
		for one := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(strings.TrimSpace(one), token) {
				return true
			}
		}
	}
	return false
}

// accept makes a websocket of a request. The caller closes its connection.
func accept(w http.ResponseWriter, r *http.Request) (*socket, *apiError) {
	key := r.Header.Get("Sec-Websocket-Key")
	raw, err := base64.StdEncoding.DecodeString(key)
	if !hasToken(r.Header, "Upgrade", "websocket") || !hasToken(r.Header, "Connection", "upgrade") {
		e := invalid("", "This is a websocket: send an Upgrade.")
		e.status = http.StatusUpgradeRequired
		w.Header().Set("Upgrade", "websocket")
		return nil, e
	}
	if err != nil || len(raw) != 16 || r.Header.Get("Sec-Websocket-Version") != "13" {
		w.Header().Set("Sec-WebSocket-Version", "13")
		return nil, invalid("", "Want a Sec-WebSocket-Key of 16 bytes, and version 13.")
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, invalid("", "The connection cannot become a websocket: %v", err)
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	for _, name := range slices.Sorted(slices.Values([]string{"Server", "X-Sim-Server"})) {
		head += name + ": " + w.Header().Get(name) + "\r\n"
	}
	if hasToken(r.Header, "Sec-Websocket-Protocol", "realtime") {
		head += "Sec-WebSocket-Protocol: realtime\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		conn.Close()
		panic(http.ErrAbortHandler)
	}
	return &socket{conn: conn, in: buffered.Reader}, nil
}

// write sends one frame.
func (s *socket) write(kind byte, data []byte) error {
	head := []byte{0x80 | kind}
	switch n := len(data); {
	case n < 126:
		head = append(head, byte(n))
	case n < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, 126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, 127), uint64(n))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := s.conn.Write(append(head, data...))
	return err
}

// end tells the client why nothing more will come.
func (s *socket) end(code uint16) { s.write(frameClose, binary.BigEndian.AppendUint16(nil, code)) }

var errProtocol = errors.New("modelserver: not a frame that a client may send")

// frame reads one frame.
func (s *socket) frame(room int) (kind byte, last bool, data []byte, err error) {
	var head [14]byte
	if _, err = io.ReadFull(s.in, head[:2]); err != nil {
		return 0, false, nil, err
	}
	kind, last = head[0]&0x0f, head[0]&0x80 != 0
	size, control := uint64(head[1]&0x7f), kind >= frameClose
	if head[0]&0x70 != 0 || head[1]&0x80 == 0 || control && (size > 125 || !last) {
		s.end(closedProtocol)
		return 0, false, nil, errProtocol
	}
	more := 4 // the mask
	switch size {
	case 126:
		more += 2
	case 127:
		more += 8
	}
	if _, err = io.ReadFull(s.in, head[2:2+more]); err != nil {
		return 0, false, nil, err
	}
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		size = binary.BigEndian.Uint64(head[2:])
	}
	if !control && size > uint64(room) {
		s.end(closedTooLarge)
		return 0, false, nil, errProtocol
	}
	data = make([]byte, size)
	if _, err = io.ReadFull(s.in, data); err != nil {
		return 0, false, nil, err
	}
	mask := head[2+more-4 : 2+more]
	for i := range data {
		data[i] ^= mask[i%4]
	}
	return kind, last, data, nil
}

// read returns the next message, which is text. It answers pings, and io.EOF is that the client has closed.
func (s *socket) read() (message []byte, err error) {
	begun := false
	for {
		kind, last, data, err := s.frame(maxMessage - len(message))
		if err != nil {
			return nil, err
		}
		switch kind {
		case framePing:
			if err := s.write(framePong, data); err != nil {
				return nil, err
			}
			continue
		case framePong:
			continue
		case frameClose:
			s.end(closedWell)
			return nil, io.EOF
		}
		if begun != (kind == frameMore) || kind > frameBytes {
			s.end(closedProtocol)
			return nil, errProtocol
		}
		begun = true
		if message = append(message, data...); !last {
			continue
		}
		if !utf8.Valid(message) {
			s.end(closedNotText)
			return nil, errProtocol
		}
		return message, nil
	}
}
