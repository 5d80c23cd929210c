package autoscale

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// This file is how gateways that ask each other over HTTP are found, and know each other.

// PeerList returns HTTPPeersOptions.Addresses that are always the same.
func PeerList(addresses ...string) func(context.Context) ([]string, error) {
	return func(context.Context) ([]string, error) { return addresses, nil }
}

// PeerService returns HTTPPeersOptions.Addresses that are those of a name, such as that of a headless Service, by
// scheme http or https. A gateway that has an IPv4 and an IPv6 address is asked at the first one only: addresses are of
// one family. resolver may be nil.
func PeerService(resolver *net.Resolver, scheme, host string, port uint16) func(context.Context) ([]string, error) {
	resolver = cmp.Or(resolver, net.DefaultResolver)
	return func(ctx context.Context) ([]string, error) {
		found, err := resolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			return nil, err
		}
		return peerURLs(found, scheme, port), nil
	}
}

// peerURLs are the base URLs of addresses of one family: of IPv4 if there are any.
func peerURLs(found []netip.Addr, scheme string, port uint16) (urls []string) {
	for i := range found {
		found[i] = found[i].Unmap()
	}
	has4 := slices.ContainsFunc(found, netip.Addr.Is4)
	for _, a := range found {
		if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && a.Is4() == has4 {
			urls = append(urls, scheme+"://"+netip.AddrPortFrom(a, port).String())
		}
	}
	return urls
}

// RequireToken serves next to who has one of the bearer tokens, which are asked for with each request so that they may
// change, and answers 401 to others. Empty tokens are none.
func RequireToken(tokens func() []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "Bearer") && oneOf(strings.TrimSpace(token), tokens()) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		serveJSON(w, http.StatusUnauthorized, map[string]string{"error": "autoscale: no bearer token that is known"})
	})
}

// oneOf compares in a time that says nothing of the tokens.
func oneOf(token string, tokens []string) bool {
	got, found := sha256.Sum256([]byte(token)), 0
	for _, t := range tokens {
		want := sha256.Sum256([]byte(t))
		if same := subtle.ConstantTimeCompare(got[:], want[:]); t != "" {
			found |= same
		}
	}
	return found == 1
}
