package picker

import (
	"crypto/rand"
	"encoding/hex"
	"net/textproto"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/inferpick/inferpick/scheduling/director"
)

// Keys of the Endpoint Picker Protocol, as they are on the wire.
var (
	keyDestination = lower(director.HeaderDestination)
	keySubset      = lower(director.HeaderSubset)
	keyServed      = lower(director.HeaderServed)
	keyFallback    = lower(director.HeaderFallback)
)

// removedHeaders are those that no server gets from a client. Only the director may say
// where a request goes and went; a response that came compressed could not be read.
var removedHeaders = func() []string {
	names := []string{"accept-encoding"}
	for _, name := range director.ControlHeaders() {
		if name != director.HeaderDestination { // which is set
			names = append(names, lower(name))
		}
	}
	return names
}()

func lower(s string) string { return strings.ToLower(s) }

// requestHead is what the headers of a request say.
type requestHead struct {
	method, path string
	header       map[string][]string // canonical, without pseudo-headers and ControlHeaders
	id           string              // that the picker gave it; empty if it came with one
}

func (h *requestHead) get(name string) string {
	if v := h.header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// tunnels reports whether the request asks for a connection of its own, for another
// protocol or for any bytes.
func (h *requestHead) tunnels() bool {
	if h.method == "CONNECT" {
		return true
	}
	if h.get("Upgrade") == "" {
		return false
	}
	for _, v := range h.header["Connection"] {
		for option := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
}

func (h *requestHead) read(m *corev3.HeaderMap) {
	h.header = make(map[string][]string, len(m.GetHeaders()))
	for _, hv := range m.GetHeaders() {
		switch key := hv.GetKey(); {
		case key == ":method":
			h.method = valueOf(hv)
		case key == ":path":
			h.path = valueOf(hv)
		case strings.HasPrefix(key, ":"):
		default:
			name := textproto.CanonicalMIMEHeaderKey(key)
			h.header[name] = append(h.header[name], valueOf(hv))
		}
	}
	director.StripControlHeaders(h.header)
}

// responseHead is what the headers of a response say, or its trailers.
type responseHead struct {
	status int
	header map[string][]string // those that the director reads
}

func (h *responseHead) read(m *corev3.HeaderMap) {
	h.status = 502 // what is not said is not a success
	h.header = make(map[string][]string, 3)
	for _, hv := range m.GetHeaders() {
		switch lower(hv.GetKey()) {
		case ":status":
			if n, err := strconv.Atoi(valueOf(hv)); err == nil && n > 0 {
				h.status = n
			}
		case "content-type":
			h.header["Content-Type"] = []string{valueOf(hv)}
		case "content-encoding":
			h.header["Content-Encoding"] = []string{valueOf(hv)}
		case "grpc-status": // an error among the headers of an answer without a body, or a trailer
			h.header["Grpc-Status"] = []string{valueOf(hv)}
		case "retry-after":
			h.header["Retry-After"] = []string{valueOf(hv)}
		}
	}
}

// valueOf returns the value of a header, which newer Envoys put into raw_value.
func valueOf(hv *corev3.HeaderValue) string {
	if raw := hv.GetRawValue(); len(raw) > 0 {
		return string(raw)
	}
	return hv.GetValue()
}

// requestMutation is what becomes of the request's headers.
func (x *exchange) requestMutation(addresses []string, withBody bool) *headerMutation {
	pairs := make([]string, 0, 8)
	pairs = append(pairs, keyDestination, strings.Join(addresses, ","))
	if withBody {
		pairs = append(pairs, "content-length", strconv.Itoa(len(x.routed.Body)))
	}
	if x.request.id != "" {
		pairs = append(pairs, director.HeaderRequestID, x.request.id)
	}
	return &headerMutation{
		SetHeaders:    setHeaders(x.span.Propagate(pairs)...),
		RemoveHeaders: removedHeaders,
	}
}

// newID returns an id for a request that has none: a random UUID.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
