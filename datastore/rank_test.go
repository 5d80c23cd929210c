package datastore_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/types"
)

// rankSpec is rank i of n of a server.
func rankSpec(id, address string, i, n int) datastore.EndpointSpec {
	return datastore.EndpointSpec{ID: id, Address: address, Rank: types.Rank{Index: i, Of: n}}
}

func TestPerRank(t *testing.T) {
	spec := datastore.EndpointSpec{ID: "ns/pod-a", Address: "10.0.0.1:8000", Labels: map[string]string{"zone": "1"}, Engine: "vllm"}
	s := datastore.New(datastore.Options{})
	require.NoError(t, s.SetEndpoints(llama, spec.PerRank(3)))
	eps := s.Snapshot().Pool(llama).Endpoints()
	require.Len(t, eps, 3)
	loads, slots := map[*types.Load]bool{}, map[uint32]bool{}
	for i, ep := range eps {
		require.Equal(t, "ns/pod-a-rank-"+string(rune('0'+i)), ep.ID)
		require.Equal(t, "10.0.0.1:8000", ep.Address)
		require.Equal(t, types.Rank{Index: i, Of: 3}, ep.Rank)
		require.Equal(t, "1", ep.Labels["zone"])
		loads[ep.Load], slots[ep.Slot] = true, true
	}
	require.Len(t, loads, 3, "ledgers")
	require.Len(t, slots, 3, "slots")

	require.NoError(t, s.SetEndpoints(llama, spec.PerRank(3)))
	require.Equal(t, eps, s.Snapshot().Pool(llama).Endpoints(), "set again")
	require.True(t, s.UpdateMetrics(eps[1].Load, types.Metrics{Waiting: types.Known(7)}))
	after := s.Snapshot().Pool(llama).Endpoints()
	require.Equal(t, types.Rank{Index: 1, Of: 3}, after[1].Rank)
	require.Equal(t, types.Known(7), after[1].Metrics.Waiting)
	require.False(t, after[0].Metrics.Waiting.IsKnown())

	// With another number of ranks the server was started anew.
	require.NoError(t, s.SetEndpoints(llama, spec.PerRank(2)))
	for _, ep := range s.Snapshot().Pool(llama).Endpoints() {
		require.False(t, loads[ep.Load])
	}
	require.Empty(t, datastore.EndpointSpec{Address: "a:1"}.PerRank(-1))
	require.NoError(t, s.SetEndpoints(llama, []datastore.EndpointSpec{{Address: "a:1", Rank: types.Rank{Index: 1, Of: 2}}}))
	require.Equal(t, "a:1-rank-1", s.Snapshot().Pool(llama).Endpoints()[0].ID)
}

func TestRanksOfOneAddress(t *testing.T) {
	const a, b = "10.0.0.1:8000", "10.0.0.2:8000"
	for _, tt := range []struct {
		name  string
		specs []datastore.EndpointSpec
		err   string
	}{
		{"some", []datastore.EndpointSpec{rankSpec("x", a, 4, 8), rankSpec("y", a, 2, 8)}, ""},
		{"of two servers", []datastore.EndpointSpec{rankSpec("x", a, 1, 8), rankSpec("y", b, 1, 2), {ID: "z", Address: "10.0.0.3:8000"}}, ""},
		{"out of range", []datastore.EndpointSpec{rankSpec("x", a, 8, 8)},
			`datastore: pool default/llama: endpoint 0, "x": rank is 8, want from 0 to 7, one less than ranks`},
		{"negative", []datastore.EndpointSpec{rankSpec("x", a, -1, 8)},
			`datastore: pool default/llama: endpoint 0, "x": rank is -1, want from 0 to 7, one less than ranks`},
		{"of none", []datastore.EndpointSpec{rankSpec("x", a, 1, 0)},
			`datastore: pool default/llama: endpoint 0, "x": ranks is 0, want 1 to 4096`},
		{"of too many", []datastore.EndpointSpec{rankSpec("x", a, 1, 5000)},
			`datastore: pool default/llama: endpoint 0, "x": ranks is 5000, want 1 to 4096`},
		{"twice the same", []datastore.EndpointSpec{rankSpec("x", a, 1, 8), rankSpec("y", a, 2, 8), rankSpec("z", a, 1, 8)},
			`datastore: pool default/llama: endpoint 2, "z": rank is 1, want another one than endpoint "x" of the same address has`},
		{"of as many as it pleases", []datastore.EndpointSpec{rankSpec("x", a, 1, 8), rankSpec("y", a, 2, 4)},
			`datastore: pool default/llama: endpoint 1, "y": ranks is 4, want 8, as endpoint "x" of the same address has`},
		{"and one that is none", []datastore.EndpointSpec{{ID: "w", Address: a}, rankSpec("x", a, 1, 8)},
			`datastore: pool default/llama: endpoint 1, "x": rank is set for one of this endpoint and "w", which have the same address "10.0.0.1:8000": want all endpoints of an address to be ranks, or none`},
		{"two that are none", []datastore.EndpointSpec{{ID: "w", Address: a}, {ID: "x", Address: a}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := func(err error) {
				t.Helper()
				if tt.err == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, tt.err)
				}
			}
			check(datastore.New(datastore.Options{}).SetEndpoints(llama, tt.specs))
		})
	}
}

// An endpoint that is added is checked against those that are there; one that is replaced is not in
// its own way.
func TestUpsertRanks(t *testing.T) {
	const a = "10.0.0.1:8000"
	s := datastore.New(datastore.Options{})
	set := func(spec datastore.EndpointSpec) error { return s.UpsertEndpoint(llama, spec) }
	require.NoError(t, set(rankSpec("x", a, 0, 4)))
	require.NoError(t, set(rankSpec("y", a, 1, 4)))
	load := s.Snapshot().Pool(llama).Endpoints()[0].Load
	require.NoError(t, set(rankSpec("x", a, 0, 4)))
	require.Same(t, load, s.Snapshot().Pool(llama).Endpoints()[0].Load)
	require.EqualError(t, set(rankSpec("x", a, 1, 4)), `datastore: pool default/llama: endpoint "x": rank is 1, want another one than endpoint "y" of the same address has`)
	require.EqualError(t, set(rankSpec("z", a, 2, 8)), `datastore: pool default/llama: endpoint "z": ranks is 8, want 4, as endpoint "x" of the same address has`)
	require.Error(t, set(datastore.EndpointSpec{ID: "z", Address: a}))
	require.NoError(t, set(rankSpec("x", a, 3, 4)))
	require.NotSame(t, load, s.Snapshot().Pool(llama).Endpoints()[0].Load, "another rank is another endpoint")
	require.True(t, load.Retired())
	require.True(t, s.RemoveEndpoint(llama, "x"))
	require.True(t, s.RemoveEndpoint(llama, "y"))
	require.NoError(t, set(datastore.EndpointSpec{ID: "z", Address: a}))
	require.EqualError(t, set(rankSpec("x", a, 0, 4)), `datastore: pool default/llama: endpoint "x": rank is set for one of this endpoint and "z", which have the same address "10.0.0.1:8000": want all endpoints of an address to be ranks, or none`)
}

func TestRanksInFile(t *testing.T) {
	load := func(endpoints string) ([]*types.Endpoint, error) {
		path := filepath.Join(t.TempDir(), "inferpick.json")
		write(t, path, `{"endpoints": [`+endpoints+`]}`)
		s := datastore.New(datastore.Options{})
		if err := datastore.NewFileSource(s, path, datastore.FileOptions{}).Load(); err != nil {
			return nil, err
		}
		return s.Snapshot().Pool(llama).Endpoints(), nil
	}
	eps, err := load(`{"pool": "llama", "id": "a", "address": "10.0.0.1:8000", "ranks": 2},
		{"pool": "llama", "address": "10.0.0.2:8000", "ranks": 4, "rank": 3},
		{"pool": "llama", "address": "10.0.0.3:8000"}`)
	require.NoError(t, err)
	var got []string
	for _, ep := range eps {
		_, rank, _ := ep.RankHeader()
		got = append(got, ep.ID+" "+rank)
	}
	require.Equal(t, []string{"a-rank-0 0", "a-rank-1 1", "10.0.0.2:8000-rank-3 3", "10.0.0.3:8000 "}, got)

	for in, want := range map[string]string{
		`{"pool": "llama", "address": "a:1", "ranks": 0}`:                                                           "endpoints[0].ranks is 0, want 1 to 4096",
		`{"pool": "llama", "address": "a:1", "ranks": 1000000000}`:                                                  "endpoints[0].ranks is 1000000000, want 1 to 4096",
		`{"pool": "llama", "address": "a:1", "rank": 0}`:                                                            "endpoints[0].rank is of no effect without ranks",
		`{"pool": "llama", "address": "a:1", "ranks": 4, "rank": 4}`:                                                "endpoints[0].rank is 4, want from 0 to 3",
		`{"pool": "llama", "address": "a:1", "ranks": 4, "rank": "0"}`:                                              "endpoints[0].rank",
		`{"pool": "llama", "address": "a:1", "ranks": 4}, {"pool": "llama", "address": "a:1"}`:                      "want all endpoints of an address to be ranks, or none",
		`{"pool": "llama", "address": "a:1", "ranks": 4}, {"pool": "llama", "address": "a:1", "ranks": 4}`:          `id "a:1-rank-0" is that of endpoint 0 too`,
		`{"pool": "llama", "address": "a:1", "ranks": 4}, {"pool": "llama", "id": "b", "address":"a:1","ranks": 4}`: `rank is 0, want another one than endpoint "a:1-rank-0" of the same address has`,
	} {
		_, err := load(in)
		require.ErrorContains(t, err, want, in)
	}
}

func TestDecodeEndpoints(t *testing.T) {
	const all, one = `{"address": "10.0.0.1:8000", "ranks": 2}`, `{"address": "10.0.0.1:8000", "ranks": 2, "rank": 1}`
	specs, err := datastore.DecodeEndpoints([]byte(all))
	require.NoError(t, err)
	require.Equal(t, datastore.EndpointSpec{Address: "10.0.0.1:8000"}.PerRank(2), specs)
	specs, err = datastore.DecodeEndpoints([]byte(one))
	require.NoError(t, err)
	require.Len(t, specs, 1)
	spec, err := datastore.DecodeEndpoint([]byte(one))
	require.NoError(t, err)
	require.Equal(t, specs[0], spec)
	_, err = datastore.DecodeEndpoint([]byte(all))
	require.ErrorContains(t, err, "ranks stands for several endpoints, where one is wanted: add rank")
}
