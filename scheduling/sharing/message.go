package sharing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"math"

	"github.com/inferpick/inferpick/internal/figures"
)

// This file is the form of messages:
//
//	magic    4 bytes, the last of which is the version of the form
//	origin  16 bytes, random, of one gateway from its start to its end
//	tick     8 bytes, which message of the origin it is a part of
//	sections: kind (1 byte), scope (8), length (2), and as many bytes of items
//	MAC     32 bytes, if there is a key
//
// Fixed numbers are big-endian, others are uvarints. What is told at one time may take several messages of the
// same tick. Kinds that are not known are passed over.

const (
	magic   = "ipk\x01"
	header  = len(magic) + 16 + 8
	section = 1 + 8 + 2
	macSize = sha256.Size
)

// origin is one gateway from its start to its end.
type origin [16]byte

// kind is what a section is about.
type kind uint8

const (
	kindHello kind = iota + 1 // the name of the gateway
	kindLeave                 // it ends
	kindLoad
	kindPlacement
	kindEjection
	kindBinding
	kindAccount
	kindWant // asks for a page of a snapshot
	kindPage
	kindNote
	kindDenoise // follows kindLoad
	kinds
)

var (
	errVersion = errors.New("has another version")
	errMAC     = errors.New("is not signed by the key")
)

// writer makes messages of items, and hands each to send when it is full.
type writer struct {
	send   func([]byte)
	origin origin
	tick   uint64
	mac    hash.Hash // nil: no key

	buf   []byte
	kind  kind
	scope uint64
	at    int // of the length of the section; 0: there is none
}

// begin sets what the next items are about.
func (w *writer) begin(k kind, scope uint64) {
	w.closeSection()
	w.kind, w.scope = k, scope
}

// item makes room for an item of at most size bytes; the caller appends it to the result and hands it to end.
func (w *writer) item(size int) []byte {
	if len(w.buf) > 0 && len(w.buf)+section+size+macSize > MaxMessage {
		w.flush()
	}
	if len(w.buf) == 0 {
		w.buf = append(w.buf, magic...)
		w.buf = append(w.buf, w.origin[:]...)
		w.buf = binary.BigEndian.AppendUint64(w.buf, w.tick)
	}
	if w.at == 0 {
		w.buf = append(w.buf, byte(w.kind))
		w.buf = binary.BigEndian.AppendUint64(w.buf, w.scope)
		w.at = len(w.buf)
		w.buf = append(w.buf, 0, 0)
	}
	return w.buf
}

func (w *writer) end(buf []byte) { w.buf = buf }

func (w *writer) closeSection() {
	if w.at > 0 {
		binary.BigEndian.PutUint16(w.buf[w.at:], uint16(len(w.buf)-w.at-2))
		w.at = 0
	}
}

// flush hands on what has been written.
func (w *writer) flush() {
	w.closeSection()
	if len(w.buf) == 0 {
		return
	}
	if w.mac != nil {
		w.mac.Reset()
		w.mac.Write(w.buf)
		w.buf = w.mac.Sum(w.buf)
	}
	w.send(w.buf)
	w.buf = w.buf[:0]
}

// message is a message that was read.
type message struct {
	origin origin
	tick   uint64
	body   []byte // sections
}

// readMessage checks what is common to all messages.
func readMessage(msg []byte, mac hash.Hash) (m message, err error) {
	switch {
	case len(msg) > MaxMessage:
		return m, fmt.Errorf("has %d bytes, want at most %d", len(msg), MaxMessage)
	case len(msg) < header || string(msg[:3]) != magic[:3]:
		return m, errors.New("is none of this package's")
	case msg[3] != magic[3]:
		return m, errVersion
	}
	if mac != nil {
		if len(msg) < header+macSize {
			return m, errMAC
		}
		signed, sum := msg[:len(msg)-macSize], msg[len(msg)-macSize:]
		mac.Reset()
		mac.Write(signed)
		var room [macSize]byte
		if !hmac.Equal(mac.Sum(room[:0]), sum) {
			return m, errMAC
		}
		msg = signed
	}
	copy(m.origin[:], msg[4:])
	m.tick = binary.BigEndian.Uint64(msg[20:])
	m.body = msg[header:]
	return m, nil
}

// each calls f for each section, until it fails.
func (m *message) each(f func(kind, uint64, reader) error) error {
	for body := m.body; len(body) > 0; {
		if len(body) < section {
			return errCut
		}
		n := int(binary.BigEndian.Uint16(body[9:]))
		if len(body) < section+n {
			return errCut
		}
		if err := f(kind(body[0]), binary.BigEndian.Uint64(body[1:]), reader{figures.NewReader(body[section : section+n])}); err != nil {
			return err
		}
		body = body[section+n:]
	}
	return nil
}

var errCut = figures.ErrCut

// reader reads items.
type reader struct{ *figures.Reader }

// float64 reads any number, and what is none.
func (r reader) float64() float64 { return math.Float64frombits(r.Uint64()) }
