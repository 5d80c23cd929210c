package types_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/types"
)

func TestRank(t *testing.T) {
	for _, tt := range []struct {
		rank types.Rank
		err  string
	}{
		{types.Rank{}, ""},
		{types.Rank{Index: 0, Of: 1}, ""},
		{types.Rank{Index: 7, Of: 8}, ""},
		{types.Rank{Index: types.LimitRanks - 1, Of: types.LimitRanks}, ""},
		{types.Rank{Index: 8, Of: 8}, "types: rank 8 of 8: want a rank from 0 to 7"},
		{types.Rank{Index: -1, Of: 8}, "types: rank -1 of 8: want a rank from 0 to 7"},
		{types.Rank{Index: 3}, "types: rank 3 of 0: want 1 to 4096 ranks"},
		{types.Rank{Index: 0, Of: -2}, "types: rank 0 of -2: want 1 to 4096 ranks"},
		{types.Rank{Index: 0, Of: types.LimitRanks + 1}, "types: rank 0 of 4097: want 1 to 4096 ranks"},
	} {
		err := tt.rank.Validate()
		if tt.err == "" {
			require.NoError(t, err)
			require.Equal(t, tt.rank.Of > 0, tt.rank.IsSet())
		} else {
			require.EqualError(t, err, tt.err)
		}
	}
}

func TestRankHeader(t *testing.T) {
	ep := types.NewEndpoint("a", "10.0.0.1:8000")
	_, _, ok := ep.RankHeader()
	require.False(t, ok)
	ep.Rank = types.Rank{Index: 0, Of: 4}
	name, value, ok := ep.RankHeader()
	require.True(t, ok)
	require.Equal(t, "0", value)
	require.Equal(t, http.CanonicalHeaderKey("x-data-parallel-rank"), name)
	next, _ := ep.Next(types.Metrics{Waiting: types.Known(1)}, ep.Metrics.UpdatedAt)
	require.Equal(t, ep.Rank, next.Rank, "of the next reading")
}
