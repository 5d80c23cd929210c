package filter

import (
	"maps"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
)

// isGRPC reports whether Envoy takes a request with this content type for one of gRPC. It makes answers to those ones of
// gRPC.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	return ok && (rest == "" || rest[0] == '+')
}

// withGRPCStatus returns a with the status of gRPC. Envoy would derive it, as it does for ext_proc, but its interface for
// modules says 0 in its place, which clients take for success. A header goes before that.
func withGRPCStatus(a *exchange.Answer) *exchange.Answer {
	b := *a
	if b.Header = maps.Clone(a.Header); b.Header == nil {
		b.Header = map[string][]string{}
	}
	b.Header["Grpc-Status"] = []string{strconv.Itoa(int(grpcStatus(a.Status)))}
	return &b
}

// grpcStatus is the status of gRPC that an HTTP status becomes, for Envoy as for all who follow gRPC's
// doc/http-grpc-status-mapping.md.
func grpcStatus(http int) codes.Code {
	switch http {
	case 400:
		return codes.Internal
	case 401:
		return codes.Unauthenticated
	case 403:
		return codes.PermissionDenied
	case 404:
		return codes.Unimplemented
	case 429, 502, 503, 504:
		return codes.Unavailable
	}
	return codes.Unknown
}
