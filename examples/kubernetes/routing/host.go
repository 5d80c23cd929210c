package routing

import (
	"net"
	"strings"
)

// anyHost is the pattern of all hosts.
const anyHost = ""

// hostOf returns the host of a Host header, in lower case and without port or final dot.
func hostOf(header string) string {
	host := header
	if h, _, err := net.SplitHostPort(header); err == nil {
		host = h
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// byHost has values by pattern: a host name, "*.example.com", or anyHost.
type byHost[T any] map[string]T

// of yields the values whose patterns match a host, the most specific first.
func (m byHost[T]) of(host string) func(yield func(T) bool) {
	return func(yield func(T) bool) {
		if v, ok := m[host]; ok && host != anyHost && !yield(v) {
			return
		}
		for rest := host; ; {
			_, after, more := strings.Cut(rest, ".")
			if !more {
				break
			}
			if v, ok := m["*."+after]; ok && !yield(v) {
				return
			}
			rest = after
		}
		if v, ok := m[anyHost]; ok {
			yield(v)
		}
	}
}

// intersect returns the pattern of the hosts that both patterns match, and whether there are
// any.
func intersect(a, b string) (string, bool) {
	switch {
	case a == b || b == anyHost || covers(b, a):
		return a, true
	case a == anyHost || covers(a, b):
		return b, true
	}
	return "", false
}

// covers reports whether a wildcard matches all that another pattern does.
func covers(wildcard, pattern string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*")
	return ok && strings.HasSuffix(strings.TrimPrefix(pattern, "*"), suffix) && pattern != anyHost
}
