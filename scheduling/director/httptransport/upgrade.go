package httptransport

import (
	"net/http"
	"strings"
)

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
