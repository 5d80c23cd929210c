package telemetry_test

import (
	"encoding/json"
	"errors"
	"github.com/stretchr/testify/require"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The dashboard asks for nothing that is not exported.
func TestDashboard(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "examples", "envoy", "dashboards", "inferpick.json"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the module is here without its examples")
	}
	require.NoError(t, err)
	var dashboard struct {
		SchemaVersion int
		Panels        []struct {
			ID         int
			Title      string
			Type       string
			Datasource struct{ Type, UID string }
			GridPos    struct{ X, W int }
			Targets    []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	require.NoError(t, json.Unmarshal(page, &dashboard))
	labels := map[string][]string{}
	for _, f := range parse(t, exposition(t, everything(t).Metrics)) {
		labels[f.name] = []string{}
		for _, l := range f.series[0].labels {
			labels[f.name] = append(labels[f.name], l[0])
		}
	}
	metric := regexp.MustCompile(`(?:inference_|inferpick_)[a-z_0-9]+`)
	selector := regexp.MustCompile(`([a-z_0-9]+)(?:=~|!~|!=|=)"`)
	checkExpr := func(where, expr string) {
		t.Helper()
		names := metric.FindAllStringIndex(expr, -1)
		if len(names) == 0 {
			t.Errorf("%s: %q asks for nothing of ours", where, expr)
		}
		for _, at := range names {
			name := expr[at[0]:at[1]]
			if name == "inference_pool" {
				continue // a label
			}
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, suffix)
			}
			has, ok := labels[name]
			if !ok {
				t.Errorf("%s: %s is not exported", where, name)
			}
			if rest, ok := strings.CutPrefix(expr[at[1]:], "{"); ok {
				rest, _, _ = strings.Cut(rest, "}")
				for _, l := range selector.FindAllStringSubmatch(rest, -1) {
					if !slices.Contains(has, l[1]) {
						t.Errorf("%s: %s has no label %s", where, name, l[1])
					}
				}
			}
		}
	}
	var variables []string
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name+":"+v.Type)
		if v.Type == "query" {
			checkExpr("variable "+v.Name, v.Definition)
		}
	}
	if want := []string{"datasource:datasource", "pool:query", "model:query"}; !slices.Equal(variables, want) || dashboard.SchemaVersion < 39 {
		t.Errorf("variables %q, schema %d; want %q, at least 39", variables, dashboard.SchemaVersion, want)
	}
	ids := map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: id %d is there twice, or the panel is beyond the right edge", p.Title, p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && (p.Datasource.UID != "${datasource}" || len(p.Targets) == 0) {
			t.Errorf("%s: data source %q, %d queries", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, target := range p.Targets {
			checkExpr(p.Title, target.Expr)
		}
	}
}
