package scheduling_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/types"
)

// striking is a filter that strikes out one endpoint, and counts what it is asked about.
func striking(id string, seen *[]string) scheduling.Filter {
	return scheduling.FilterFunc(func(_ context.Context, _ *types.Request, eps []*types.Endpoint, keep []bool) error {
		*seen = append(*seen, ids(eps))
		for i, ep := range eps {
			keep[i] = ep.ID != id
		}
		return nil
	})
}

// TestPrefillFilters: they take the place of Filters for who computes prompts, and for nobody else; in a
// rule as well.
func TestPrefillFilters(t *testing.T) {
	for _, tt := range []struct {
		name   string
		ruled  bool
		own    bool // there are filters for prefill
		by     string
		common []string // what the common filter was asked about
		prompt []string // what that for prefill was
	}{
		{"common", false, false, "p2", []string{"d1 d2", "p1 p2"}, nil},
		{"own", false, true, "p1", []string{"d1 d2"}, []string{"p1 p2"}},
		{"own, in a rule", true, true, "p1", []string{"d1 d2"}, []string{"p1 p2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var common, prompt []string
			r := scheduling.Rule{
				Name: "r", When: func(*types.Request) bool { return true },
				Filters: []scheduling.Named{{Filter: striking("p1", &common)}}, Splitter: new(split), Picker: first,
			}
			if tt.own {
				r.PrefillFilters = []scheduling.Named{{Filter: striking("p2", &prompt)}}
			}
			p := scheduling.Profile{Picker: first, Seed: 1, Rules: []scheduling.Rule{r}}
			if !tt.ruled {
				p = scheduling.Profile{Filters: r.Filters, PrefillFilters: r.PrefillFilters, Splitter: r.Splitter, Picker: first, Seed: 1}
			}
			d, err := mustNew(t, p).Schedule(ctx, splittable(100), withRoles(roles, "p1", "p2", "d1", "d2"))
			require.NoError(t, err)
			require.Equal(t, tt.by, d.Prefill().ID)
			require.Equal(t, tt.common, common)
			require.Equal(t, tt.prompt, prompt)
			d.Done(types.Outcome{})
		})
	}
	_, err := scheduling.New(scheduling.Profile{Picker: first, PrefillFilters: []scheduling.Named{{}}})
	require.EqualError(t, err, "scheduling: PrefillFilters[0] has no Filter")
}

// whole is a Splitter that has other plugins as parts.
type whole struct {
	split
	parts []any
}

func (w *whole) Plugins() []any { return w.parts }

// TestComposite: parts of a splitter, and filters for prefill, are told what the plugins of a profile are.
func TestComposite(t *testing.T) {
	part, filter := new(legs), &filtering{legs: new(legs)}
	s := mustNew(t, scheduling.Profile{
		Splitter: &whole{parts: []any{part, part, first}}, PrefillFilters: []scheduling.Named{{Filter: filter}}, Picker: first, Seed: 1,
	})
	d, err := s.Schedule(ctx, splittable(100), withRoles(roles, "p1", "d1"))
	require.NoError(t, err)
	d.Done(types.Outcome{})
	want := []string{"prefill p1 for d1", "picked d1", "prefilled p1 cancelled", "finished d1 false"}
	require.Equal(t, want, part.log)
	require.Equal(t, want, filter.log)
}

type filtering struct{ *legs }

func (filtering) Filter(context.Context, *types.Request, []*types.Endpoint, []bool) error { return nil }
