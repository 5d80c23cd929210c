package datastore

import (
	"fmt"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// PerRank returns the specs of the n data-parallel ranks of a server that spec describes, all of them
// behind its Address, as vLLM has with --data-parallel-size n and one port. Each is an endpoint of its own, whose ID is that of
// spec with the rank after it, as in "pod-a-rank-0". What is said of the server's capacity is said of
// each rank. Of a server that has some of the ranks only, as one of several hosts, take those.
func (s EndpointSpec) PerRank(n int) []EndpointSpec {
	specs := make([]EndpointSpec, max(n, 0))
	id := s.ID
	if id == "" {
		id = s.Address
	}
	for i := range specs {
		specs[i] = s
		specs[i].ID, specs[i].Rank = rankID(id, i), types.Rank{Index: i, Of: n}
	}
	return specs
}

func rankID(server string, rank int) string { return fmt.Sprintf("%s-rank-%d", server, rank) }

// clash is why an endpoint cannot be beside another one.
type clash struct {
	at  int
	err *check.Error
}

// clashes returns what is wrong with the ranks of specs that have the same address.
func clashes(specs []EndpointSpec) (all []clash) {
	type place struct {
		address string
		rank    int
	}
	servers := map[string]int{} // the first endpoint of each address that has ranks; -1: not met yet
	for i := range specs {
		if specs[i].Rank.IsSet() {
			servers[specs[i].Address] = -1
		}
	}
	if len(servers) == 0 {
		return nil
	}
	taken := map[place]int{}
	for i := range specs {
		first, ranked := servers[specs[i].Address]
		if !ranked {
			continue
		}
		if first < 0 {
			first, servers[specs[i].Address] = i, i
		}
		at := place{specs[i].Address, specs[i].Rank.Index}
		if err := beside(&specs[i], &specs[first]); err != nil {
			all = append(all, clash{i, err})
		} else if j, twice := taken[at]; twice {
			all = append(all, clash{i, sameRank(&specs[i], specs[j].ID)})
		} else {
			taken[at] = i
		}
	}
	return all
}

// beside returns why spec cannot have the address of another one, whatever its rank.
func beside(spec, other *EndpointSpec) *check.Error {
	switch r, o := spec.Rank, other.Rank; {
	case r.IsSet() != o.IsSet():
		return &check.Error{Field: "rank", Problem: fmt.Sprintf("is set for one of this endpoint and %s, which have the same address %s: want all endpoints of an address to be ranks, or none", shorten(other.ID), shorten(spec.Address))}
	case r.Of != o.Of:
		return &check.Error{Field: "ranks", Value: r.Of, Want: fmt.Sprintf("%d, as endpoint %s of the same address has", o.Of, shorten(other.ID))}
	}
	return nil
}

func sameRank(spec *EndpointSpec, other string) *check.Error {
	return &check.Error{Field: "rank", Value: spec.Rank.Index, Want: fmt.Sprintf("another one than endpoint %s of the same address has", shorten(other))}
}

// is reports whether c is the endpoint that spec describes, and not another one with its ID.
func (c *cell) is(spec *EndpointSpec) bool { return c.address == spec.Address && c.rank == spec.Rank }

// rankLocked returns why spec cannot be set beside what else p has. Caller must hold Store.mu.
func (p *poolState) rankLocked(spec *EndpointSpec) error {
	if p == nil {
		return nil
	}
	for _, c := range p.cells {
		if c.address != spec.Address || c.id == spec.ID || !c.rank.IsSet() && !spec.Rank.IsSet() {
			continue
		}
		err := beside(spec, &EndpointSpec{ID: c.id, Rank: c.rank})
		if err == nil && c.rank == spec.Rank {
			err = sameRank(spec, c.id)
		}
		if err != nil {
			return fmt.Errorf("datastore: pool %s: endpoint %s: %w", p.name, shorten(spec.ID), err)
		}
	}
	return nil
}
