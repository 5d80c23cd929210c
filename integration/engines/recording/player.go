package recording

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
)

// Play is an answer to play: the bytes to write.
type Play struct {
	Bytes []byte
	// Piece is how many bytes are written at once. 0: all.
	Piece int
	// Hangup closes the connection after the bytes.
	Hangup bool
}

// Player is a TCP server that answers requests with bytes, whatever they are.
type Player struct {
	listener net.Listener
	answer   func(*http.Request) Play
	all      sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool // open; guarded by mu
}

// NewPlayer starts a Player on a free port of the loopback. answer is asked for each
// request, whose body was read, from many goroutines. Close the Player.
func NewPlayer(answer func(*http.Request) Play) (*Player, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Player{listener: l, answer: answer, conns: make(map[net.Conn]bool)}
	p.all.Go(p.accept)
	return p, nil
}

// Address returns host:port.
func (p *Player) Address() string { return p.listener.Addr().String() }

// Close ends the listener and all connections, and waits until nothing runs any more.
func (p *Player) Close() {
	p.mu.Lock()
	p.closed = true
	p.listener.Close()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

func (p *Player) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.closed {
			conn.Close()
		} else {
			p.conns[conn] = true
			p.all.Go(func() { p.serve(conn) })
		}
		p.mu.Unlock()
	}
}

func (p *Player) serve(conn net.Conn) {
	defer func() {
		p.mu.Lock()
		delete(p.conns, conn)
		p.mu.Unlock()
		conn.Close()
	}()
	for r := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		play := p.answer(req)
		for rest := play.Bytes; len(rest) > 0; {
			n := len(rest)
			if play.Piece > 0 {
				n = min(n, play.Piece)
			}
			if _, err := conn.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
		if play.Hangup {
			return
		}
	}
}
