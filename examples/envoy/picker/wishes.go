package picker

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/types"
)

// Keys of the gRPC metadata by which Envoy's configuration says what it wants
// (initial_metadata of the filter's grpc_service, or grpc_initial_metadata of an
// ExtProcPerRoute). They go before Options. Clients cannot set them.
const (
	// PoolMetadata names the pool of a route, as name or namespace/name.
	PoolMetadata = "x-inferpick-pool"
	// DestinationsMetadata is how many endpoints Envoy wants to be told of, the choice and
	// its fallbacks: a number from 1, or "all" that the profile names.
	DestinationsMetadata = "x-inferpick-destinations"
)

// wishes is what Envoy's configuration asks for, for one stream.
type wishes struct {
	pool         types.NamespacedName
	destinations int // at most so many
}

// wishesOf reads them. The error is a gRPC status.
func (s *Server) wishesOf(ctx context.Context) (w wishes, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	w = wishes{pool: s.o.Pool, destinations: s.o.MaxDestinations}
	if v := md.Get(PoolMetadata); len(v) > 0 {
		if w.pool, err = ParsePool(v[0]); err != nil {
			return w, status.Errorf(codes.InvalidArgument, "picker: gRPC metadata %s: %v", PoolMetadata, err)
		}
	}
	if v := md.Get(DestinationsMetadata); len(v) > 0 {
		if w.destinations, err = parseDestinations(v[0]); err != nil {
			return w, status.Errorf(codes.InvalidArgument, "picker: gRPC metadata %s: %v", DestinationsMetadata, err)
		}
	}
	return w, nil
}

// ParsePool reads the name of a pool: name, or namespace/name.
func ParsePool(s string) (types.NamespacedName, error) {
	namespace, name, ok := strings.Cut(s, "/")
	if !ok {
		namespace, name = types.DefaultNamespace, s
	}
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return types.NamespacedName{}, fmt.Errorf("pool is %.80q, want name or namespace/name", s)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

func parseDestinations(s string) (int, error) {
	if s == "all" {
		return math.MaxInt, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%.80q, want a number from 1, or all", s)
	}
	return n, nil
}
