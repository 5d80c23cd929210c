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

// readRequest reads the headers of a request: the canonical form, without pseudo-headers
// and ControlHeaders.
func readRequest(m *corev3.HeaderMap) (in director.Incoming) {
	in.Header = make(map[string][]string, len(m.GetHeaders()))
	for _, hv := range m.GetHeaders() {
		switch key := hv.GetKey(); {
		case key == ":method":
			in.Method = valueOf(hv)
		case key == ":path":
			in.Path = valueOf(hv)
		case strings.HasPrefix(key, ":"):
		default:
			name := textproto.CanonicalMIMEHeaderKey(key)
			in.Header[name] = append(in.Header[name], valueOf(hv))
		}
	}
	director.StripControlHeaders(in.Header)
	return in
}

// first returns the first value of a header, empty if there is none.
func first(header map[string][]string, name string) string {
	if v := header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// tunnels reports whether a request asks for a connection of its own, for another
// protocol or for any bytes.
func tunnels(in *director.Incoming) bool {
	if in.Method == "CONNECT" {
		return true
	}
	if first(in.Header, "Upgrade") == "" {
		return false
	}
	for _, v := range in.Header["Connection"] {
		for option := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
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
func (x *exchange) requestMutation(to destinations, withBody bool) *headerMutation {
	pairs := make([]string, 0, 8)
	pairs = append(pairs, keyDestination, to.all)
	pairs = x.tellSidecar(pairs)
	if withBody {
		pairs = append(pairs, "content-length", strconv.Itoa(len(x.core.Route().Body)))
	}
	if path := x.core.Route().RequestPath(); path != x.core.Incoming.Path { // of a session, whose model is in its query
		pairs = append(pairs, ":path", path)
	}
	if x.named {
		pairs = append(pairs, director.HeaderRequestID, x.id)
	}
	return &headerMutation{
		RemoveHeaders: removing(pairs),
		SetHeaders:    setHeaders(x.span.Propagate(pairs)...),
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
