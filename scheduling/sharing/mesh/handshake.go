package mesh

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// A connection begins with:
//
//	who dials                       who accepts
//	hello                      →
//	                           ←    hello
//	proof                      →
//	                           ←    verdict, proof
//
// A hello is magic, version, mode, the id of the gateway's transport and a nonce. Each proof is a MAC of both hellos,
// and of what binds it to the TLS connection if there is one, with the key, different for the two sides: so it is of
// no use anywhere else. The keys of the frames are made in the same way. Who accepts says nothing that depends on the
// key to who does not know it.
const (
	magic   = "IPMESH"
	version = 1

	modeOpen  = 0
	modeKeyed = 1

	idBytes    = 16
	prefix     = len(magic) + 2
	helloBytes = prefix + 2*idBytes
	proofBytes = sha256.Size
)

// identity is a transport, from its start to its end.
type identity [idBytes]byte

func newIdentity() (id identity) {
	rand.Read(id[:]) // does not fail
	return id
}

// verdict is what who accepts says to who dials.
type verdict byte

const (
	welcome  verdict = 0
	wrongKey verdict = 1
	full     verdict = 2
)

var (
	errSelf = errors.New("it is this gateway itself")
	errKey  = violation("it has another key, or somebody is between")
	errFull = errors.New("it has as many connections as it takes")
)

// party is one side of handshakes.
type party struct {
	id identity
	// keys are secrets of which one must be the peer's; the first is used to dial. None: peers have none.
	keys [][]byte
}

// session is what both sides know after a handshake.
type session struct {
	peer identity
	// Keys of the frames to who accepted the connection, and of those back. Nil: they have no tags.
	to, back []byte
}

type hello [helloBytes]byte

func (p *party) hello() (h hello) {
	copy(h[:], magic)
	h[len(magic)] = version
	h[len(magic)+1] = p.mode()
	copy(h[prefix:], p.id[:])
	rand.Read(h[prefix+idBytes:]) // does not fail
	return h
}

func (p *party) mode() byte {
	if len(p.keys) > 0 {
		return modeKeyed
	}
	return modeOpen
}

func (h *hello) id() identity { return identity(h[prefix : prefix+idBytes]) }

// readHello reads what a peer says first. Nothing more is read from who does not begin as it should. The error is io.EOF
// if it says nothing.
func readHello(r io.Reader) (h hello, err error) {
	n, err := io.ReadFull(r, h[:prefix])
	if err == io.EOF {
		return h, err
	}
	if begin := h[:min(n, len(magic))]; !bytes.HasPrefix([]byte(magic), begin) {
		return h, violates("it begins with %q, which is not this protocol", h[:n])
	}
	if err == nil {
		_, err = io.ReadFull(r, h[prefix:])
	}
	if err != nil {
		return h, fmt.Errorf("reading its hello: %w", cutOff(err))
	}
	return h, nil
}

// check checks the hello of a peer.
func (p *party) check(h *hello) error {
	switch v, m := h[len(magic)], h[len(magic)+1]; {
	case v != version:
		return violates("it speaks version %d, want %d", v, version)
	case h.id() == p.id:
		return errSelf
	case m != p.mode() && m == modeOpen:
		return violates("it has no key, and this gateway has one")
	case m != p.mode():
		return violates("it has a key, and this gateway has none")
	}
	return nil
}

// secret returns what the proofs and keys of a connection are made with.
func secret(key []byte, dialer, acceptor *hello, binding []byte) []byte {
	return mac(key, []byte("inferpick mesh 1"), dialer[:], acceptor[:], binding)
}

func mac(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func proof(secret []byte, side string) []byte { return mac(secret, []byte("proof of who "+side)) }

func (p *party) session(peer *hello, secret []byte) session {
	s := session{peer: peer.id()}
	if len(p.keys) > 0 {
		s.to, s.back = mac(secret, []byte("frames")), mac(secret, []byte("answers"))
	}
	return s
}

// all returns the keys, or, if there are none, one that everybody knows.
func (p *party) all() [][]byte {
	if len(p.keys) > 0 {
		return p.keys
	}
	return [][]byte{[]byte("inferpick mesh without a key")}
}

// dial is the handshake of who dials. The caller sets deadlines.
func (p *party) dial(rw io.ReadWriter, binding []byte) (session, error) {
	own := p.hello()
	if _, err := rw.Write(own[:]); err != nil {
		return session{}, err
	}
	peer, err := readHello(rw)
	if err == nil {
		err = p.check(&peer)
	}
	if err != nil {
		return session{}, err
	}
	s := secret(p.all()[0], &own, &peer, binding)
	if _, err := rw.Write(proof(s, "dials")); err != nil {
		return session{}, err
	}
	var answer [1 + proofBytes]byte
	if _, err := io.ReadFull(rw, answer[:]); err != nil {
		return session{}, fmt.Errorf("reading its verdict: %w", cutOff(err))
	}
	switch v := verdict(answer[0]); {
	case v == full:
		return session{}, errFull
	case v == wrongKey || v == welcome && !hmac.Equal(answer[1:], proof(s, "accepts")):
		return session{}, errKey
	case v != welcome:
		return session{}, violates("its verdict is %d, which is unknown", v)
	}
	return p.session(&peer, s), nil
}

// accept is the handshake of who accepts. admit says what becomes of a peer that has proved who it is.
func (p *party) accept(rw io.ReadWriter, binding []byte, admit func() verdict) (session, error) {
	peer, err := readHello(rw)
	if err != nil {
		return session{}, err
	}
	own := p.hello()
	if _, err := rw.Write(own[:]); err != nil {
		return session{}, err
	}
	if err := p.check(&peer); err != nil {
		return session{}, err // which the peer finds by itself
	}
	var given [proofBytes]byte
	if _, err := io.ReadFull(rw, given[:]); err != nil {
		return session{}, fmt.Errorf("reading its proof: %w", cutOff(err))
	}
	for _, key := range p.all() {
		s := secret(key, &peer, &own, binding)
		if !hmac.Equal(given[:], proof(s, "dials")) {
			continue
		}
		if v := admit(); v != welcome {
			return session{}, errors.Join(errFull, answer(rw, v, nil))
		}
		return p.session(&peer, s), answer(rw, welcome, proof(s, "accepts"))
	}
	return session{}, errors.Join(errKey, answer(rw, wrongKey, nil))
}

func answer(w io.Writer, v verdict, proof []byte) error {
	var b [1 + proofBytes]byte
	b[0] = byte(v)
	copy(b[1:], proof)
	_, err := w.Write(b[:])
	return err
}
