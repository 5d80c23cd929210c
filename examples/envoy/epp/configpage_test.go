package epp_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferpick/inferpick/examples/envoy/epp"
)

// TestConfigPage: what is in force and what is wrong with the files is told to who shows the
// token, and nothing of it to anybody else.
func TestConfigPage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	put(t, file, "secret")
	slip := strings.Replace(modelYAML("other", "llama", "llama-8b"), "modelName:", "modelNam: typo\n  modelName:", 1)
	r := start(t, base+slip+modelYAML("bad/name", "llama", "llama-8b"), func(o *epp.Options) { o.MetricsTokenFile = file })
	config := func() string {
		code, header, text := r.page("GET", "/config", "Bearer secret")
		require.Equal(t, http.StatusOK, code)
		require.Equal(t, "text/plain; charset=utf-8", header.Get("Content-Type"))
		for _, wrong := range []string{"", "Bearer other", "Basic secret"} {
			code, header, denied := r.page("GET", "/config", wrong)
			require.Equal(t, http.StatusUnauthorized, code, "with %q", wrong)
			require.Equal(t, `Bearer realm="metrics"`, header.Get("WWW-Authenticate"))
			require.NotContains(t, denied, "epp.yaml")
			require.Equal(t, 1, strings.Count(denied, "\n"), "no more than why: %s", denied)
		}
		return text
	}

	page := config()
	require.Contains(t, page, r.path+": 1 pools, 3 manifests, 1 objects rejected, 1 warnings\n")
	require.Regexp(t, `\nleft out:\n.*epp\.yaml:38:12: InferenceModel .*"bad/name"`, page)
	require.Regexp(t, `\nwarnings:\n.*epp\.yaml:31:3: .*modelNam`, page)

	put(t, r.path, strings.Replace(base, "{name: llama-8b}", "{name: llama-8b, weight: 0}", 1))
	must(t, r.Reload())
	page = config()
	require.Contains(t, page, ": 1 pools, 2 manifests, 1 objects rejected, 0 warnings\n")
	require.Regexp(t, `\nkept as it was:\n.*spec\.targetModels\[0\]\.weight`, page)
	require.NotContains(t, page, "not in force")

	put(t, r.path, modelYAML("chat", "llama", "llama-8b"))
	require.ErrorContains(t, r.Reload(), "no InferencePool")
	require.Regexp(t, `\nThe files as they are now are not in force:\n.*InferencePool`, config())

	put(t, r.path, base)
	must(t, r.Reload())
	require.Equal(t, r.path+": 1 pools, 2 manifests, 0 objects rejected, 0 warnings\n\npools:\ndefault/llama: 3 endpoints, 3 ready\n", config())

	code, header, _ := r.page("POST", "/config", "Bearer secret")
	require.Equal(t, http.StatusMethodNotAllowed, code)
	require.Equal(t, "GET, HEAD", header.Get("Allow"))
}
