package kvevents

import (
	"sync"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// LoadInto returns an Options.OnLoad that makes readings of the endpoints of store out of the load that
// they push: what waits and runs and how full the KV cache is, of all ranks that were heard together, and how fast one of
// them computes prompts. The rest
// of a reading stays as it was scraped. It knows endpoints by their IDs, as Options.Name has it by
// default.
func LoadInto(store *datastore.Store) func(endpoint string, rank int, l Load) {
	s := &loadStore{store: store, ranks: map[string]map[int]Load{}}
	return s.take
}

type loadStore struct {
	store *datastore.Store

	mu    sync.Mutex
	ranks map[string]map[int]Load // the last of each, by endpoint
}

func (s *loadStore) take(endpoint string, rank int, l Load) {
	var found []*types.Endpoint
	for _, pool := range s.store.Snapshot().Pools() {
		for _, ep := range pool.Endpoints() {
			if ep.ID == endpoint {
				found = append(found, ep)
			}
		}
	}
	sum := s.sum(endpoint, rank, l, len(found) > 0)
	for _, ep := range found {
		m := ep.Metrics
		m.UpdatedAt = time.Now()
		m.Waiting, m.Running = types.Known(float64(sum.Waiting)), types.Known(float64(sum.Running))
		if sum.KVMax > 0 {
			m.KVUsage = types.Known(min(float64(sum.KVUsed)/float64(sum.KVMax), 1))
		}
		if sum.PrefillRate > 0 {
			m.PrefillRate = types.Known(sum.PrefillRate)
		}
		s.store.UpdateMetrics(ep.Load, m)
	}
}

// sum is the load of all ranks of an endpoint, and the mean of their rates. One that has gone is forgotten.
func (s *loadStore) sum(endpoint string, rank int, l Load, known bool) (sum Load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !known {
		delete(s.ranks, endpoint)
		return sum
	}
	if s.ranks[endpoint] == nil {
		s.ranks[endpoint] = map[int]Load{}
	}
	s.ranks[endpoint][rank] = l
	rates := 0.
	for _, r := range s.ranks[endpoint] {
		if r.PrefillRate > 0 {
			rates++
			sum.PrefillRate += (r.PrefillRate - sum.PrefillRate) / rates
		}
		sum.Waiting += r.Waiting
		sum.Running += r.Running
		sum.KVUsed += r.KVUsed
		sum.KVMax += r.KVMax
	}
	return sum
}
