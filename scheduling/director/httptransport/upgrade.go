package httptransport

import (
	"net/http"
	"strings"
)

// asksForWebsocket reports whether a client wants a websocket, without which it can do
// nothing. Other protocols (h2c, TLS/1.0) are offers, which may be ignored: RFC 9110,
// section 7.8.
func asksForWebsocket(h http.Header) bool {
	for _, line := range h["Upgrade"] {
		for offer := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(strings.TrimSpace(offer), "/")
			if strings.EqualFold(name, "websocket") {
				return true
			}
		}
	}
	return false
}

// removeConnectionHeaders removes what concerns the client's connection alone, offers of
// other protocols among it.
func removeConnectionHeaders(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range [...]string{"Connection", "Proxy-Connection", "Keep-Alive", "Upgrade", "Http2-Settings"} {
		h.Del(name)
	}
}
