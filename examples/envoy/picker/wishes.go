package picker

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
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

// wishesOf reads them. The error is a gRPC status.
func wishesOf(ctx context.Context) (w exchange.Wishes, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(PoolMetadata); len(v) > 0 {
		if w.Pool, err = exchange.ParsePool(v[0]); err != nil {
			return w, status.Errorf(codes.InvalidArgument, "picker: gRPC metadata %s: %v", PoolMetadata, err)
		}
	}
	if v := md.Get(DestinationsMetadata); len(v) > 0 {
		if w.Destinations, err = exchange.ParseDestinations(v[0]); err != nil {
			return w, status.Errorf(codes.InvalidArgument, "picker: gRPC metadata %s: %v", DestinationsMetadata, err)
		}
	}
	return w, nil
}
