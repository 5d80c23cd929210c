package plugins_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/plugins"
)

func TestLoadProfile(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	const random = `{"type": "random-picker"}`
	one := file("one.json", declare(random, `{"name": "only", "fallbacks": 3, "plugins": [{"pluginRef": "random-picker"}]}`))
	two := file("two.json", string(withAdmission(`{}`)))
	more := declare(random, `{"name": "a", "plugins": [{"pluginRef": "random-picker"}]}, {"name": "b", "plugins": [{"pluginRef": "random-picker"}]}`)
	many := file("many.json", more)
	usual := file("usual.json", declare(random, `{"name": "default", "plugins": [{"pluginRef": "random-picker"}]}, {"name": "b", "plugins": [{"pluginRef": "random-picker"}]}`))
	wrong := file("wrong.json", "{\n\"plugins\": [{\"typ\": \"random-picker\"}]}")

	for path, want := range map[string]string{one: "only", one + "#only": "only", many + "#b": "b", usual: "default", usual + "#b": "b"} {
		p, err := plugins.LoadProfile(path)
		require.NoError(t, err)
		require.Equal(t, want, p.Name)
		require.NotNil(t, p.Profile.Picker)
		require.Nil(t, p.Admission)
	}
	p, err := plugins.LoadProfile(one)
	require.NoError(t, err)
	require.Equal(t, 3, p.Profile.Fallbacks)
	p, err = plugins.LoadProfile(many + "#a")
	require.NoError(t, err)
	require.Equal(t, more, string(p.Source))
	p, err = plugins.LoadProfile(two)
	require.NoError(t, err)
	require.NotSame(t, p.Admission(), p.Admission(), "each pool has its own")

	for path, want := range map[string]string{
		many:        `plugins: profiles: ` + many + `: no profile "default", want ` + many + `#NAME with one of a, b`,
		many + "#c": `plugins: profiles: ` + many + `: no profile "c", want ` + many + `#NAME with one of a, b`,
		one + "#on": `plugins: profiles: ` + one + `: no profile "on", want ` + one + `#NAME with one of only`,
		wrong:       `plugins: profiles: ` + wrong + `:2:14: plugins[0].typ is not a field; the nearest is type`,
	} {
		_, err := plugins.LoadProfile(path)
		require.EqualError(t, err, want)
	}
	_, err = plugins.LoadProfile(filepath.Join(dir, "none.json") + "#a")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "none.json")
}

// A gateway's own plugins can be named in a file, too.
func TestLoadProfileOfRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "own.json")
	require.NoError(t, os.WriteFile(path, []byte(declare(`{"type": "own"}, {"type": "random-picker"}`, `{"name": "p", "plugins": [{"pluginRef": "own"}, {"pluginRef": "random-picker"}]}`)), 0o600))
	r := plugins.NewRegistry()
	r.Register("own", func(json.RawMessage) (any, error) { return gate{}, nil })
	p, err := r.LoadProfile(path)
	require.NoError(t, err)
	require.Equal(t, "own", p.Profile.Filters[0].Name)
	_, err = plugins.LoadProfile(path)
	require.ErrorContains(t, err, `"own"`)
}
