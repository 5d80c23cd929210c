package exchange

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/inferpick/inferpick/types"
)

// Wishes are what the part of Envoy's configuration that a request came by asks for. They go
// before Options. Clients cannot set them.
type Wishes struct {
	// Pool serves the request. Zero: that of Options.
	Pool types.NamespacedName
	// Destinations is how many endpoints Envoy is told of at most, the choice and its
	// fallbacks. 0: as many as Options say.
	Destinations int
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

// ParseDestinations reads how many endpoints to be told of: a number from 1, or "all" that the
// profile names.
func ParseDestinations(s string) (int, error) {
	if s == "all" {
		return math.MaxInt, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%.80q, want a number from 1, or all", s)
	}
	return n, nil
}
