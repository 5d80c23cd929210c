package plugins_test

import (
	"testing"

	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
	"github.com/stretchr/testify/require"
)

// TestRevision: who computes a prompt and who answers are of one revision, and each revision gets as many
// requests as it has endpoints that answer.
func TestRevision(t *testing.T) {
	for _, tt := range []struct {
		name, fleet, revisions string // of each endpoint: a letter, or - for none
		want                   map[string]int
		helped                 bool
	}{
		{"two", "ppdddd", "ABAAAB", map[string]int{"A": 300, "B": 100}, true},
		{"nobody computes prompts for one", "pdddd", "AAABB", map[string]int{"A": 200, "B": 200}, false},
		{"without labels", "pd", "--", map[string]int{"": 400}, true},
		{"some without", "ppddd", "-A-A-", map[string]int{"A": 400}, true},
		{"prompts by those without", "pd", "-A", map[string]int{"A": 400}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			filter, err := plugins.NewRevision(plugins.RevisionOptions{Label: "r"})
			require.NoError(t, err)
			s := mustNew(t, seeded(scheduling.Profile{
				Filters: []scheduling.Named{{Filter: filter}}, PrefillFilters: []scheduling.Named{{Filter: filter}},
				Splitter: mustStaged(t, plugins.StagedOptions{Always: true, Picker: plugins.Random{}}, nil), Picker: plugins.Random{},
			}))
			fleet := apart(tt.fleet)
			for i, r := range tt.revisions {
				if r != '-' {
					fleet[i].Labels = map[string]string{"r": string(r)}
				}
			}
			got := map[string]int{}
			for range 400 {
				d := mustSchedule(t, s, splitting("hi"), fleet)
				revision := d.Endpoint.Labels["r"]
				got[revision]++
				if p := d.Prefill(); p != nil {
					require.Equal(t, revision, p.Labels["r"])
				} else {
					require.False(t, tt.helped)
				}
				d.Done(types.Outcome{})
			}
			require.Len(t, got, len(tt.want))
			for revision, n := range tt.want {
				require.InDelta(t, n, got[revision], 40, revision)
			}
		})
	}
}
