package exchange

import (
	"crypto/rand"
	"encoding/hex"
	"iter"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/scheduling/director"
)

// Fields are the headers of a request or a response as they come, or its trailers: names in lower
// case, with pseudo-headers. The values must not change afterwards.
type Fields = iter.Seq2[string, string]

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

// Untrusted returns the names of headers that no server gets from a client, the destination among
// them.
func Untrusted() []string { return append([]string{KeyDestination}, removedHeaders...) }

func lower(s string) string { return strings.ToLower(s) }

// readRequest reads the headers of a request: the canonical form, without pseudo-headers
// and ControlHeaders.
func readRequest(fields Fields) (in director.Incoming) {
	in.Header = make(map[string][]string, 16)
	var room []string // for values: most names have one
	for key, value := range fields {
		switch {
		case key == ":method":
			in.Method = value
		case key == ":path":
			in.Path = value
		case strings.HasPrefix(key, ":"):
		default:
			name := textproto.CanonicalMIMEHeaderKey(key)
			if before := in.Header[name]; before != nil {
				in.Header[name] = append(before, value)
				continue
			}
			if len(room) == cap(room) {
				room = make([]string, 0, 16)
			}
			room = append(room, value)
			in.Header[name] = slices.Clip(room[len(room)-1:])
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

// readResponse returns what the headers of a response, or its trailers, say to the director.
func readResponse(fields Fields) (status int, header map[string][]string) {
	status = 502 // what is not said is not a success
	header = make(map[string][]string, 3)
	for key, value := range fields {
		switch lower(key) {
		case ":status":
			if n, err := strconv.Atoi(value); err == nil && n > 0 {
				status = n
			}
		case "content-type":
			header["Content-Type"] = []string{value}
		case "content-encoding":
			header["Content-Encoding"] = []string{value}
		case "grpc-status": // an error among the headers of an answer without a body, or a trailer
			header["Grpc-Status"] = []string{value}
		case "retry-after":
			header["Retry-After"] = []string{value}
		}
	}
	return status, header
}

// newID returns an id for a request that has none: a random UUID.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}
