package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// Config returns the configuration of the administrator, who may do everything, without a limit
// on the rate. The caller may change it.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(s.config) }

// ConfigFor returns the configuration of a user with no right but those that Roles give. A
// service account is the user "system:serviceaccount:NAMESPACE:NAME"; ServiceAccount gives it
// a token of its own.
func (s *Server) ConfigFor(user string, groups ...string) *rest.Config {
	config := s.Config()
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	return config
}

// ServiceAccount makes a service account and returns its configuration, with a token like that
// of a pod, which is valid for an hour.
func (s *Server) ServiceAccount(t testing.TB, namespace, name string) *rest.Config {
	t.Helper()
	s.Apply(t, namespace, "{apiVersion: v1, kind: ServiceAccount, metadata: {name: "+name+"}}")
	request := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
		"metadata": map[string]any{"name": name},
		"spec":     map[string]any{"expirationSeconds": int64(3600)},
	}}
	accounts := s.Dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}).Namespace(namespace)
	answer, err := accounts.Create(always(t), request, metav1.CreateOptions{}, "token")
	require.NoError(t, err)
	token, _, err := unstructured.NestedString(answer.Object, "status", "token")
	require.NoError(t, err)
	config := s.Config()
	config.BearerToken = token
	return config
}

// Kubeconfig writes a configuration for programs and returns the path of the file.
func (s *Server) Kubeconfig(t testing.TB, config *rest.Config) string {
	t.Helper()
	user := map[string]any{"token": config.BearerToken}
	if as := config.Impersonate; as.UserName != "" {
		user["as"], user["as-groups"] = as.UserName, as.Groups
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": config.Host, "certificate-authority": config.CAFile}}},
		"users":    []any{map[string]any{"name": "test", "user": user}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test"}}},
	})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

// Grant gives a user, or a service account by its user name, a Role of these rules, in place of
// the one that Grant gave before. Without a rule the user has no right in the namespace.
func (s *Server) Grant(t testing.TB, namespace, user string, rules ...Rule) {
	t.Helper()
	name := strings.ReplaceAll(user, ":", ".")
	if rules == nil {
		rules = []Rule{}
	}
	text, err := json.Marshal(rules)
	require.NoError(t, err)
	s.Apply(t, namespace, fmt.Sprintf(`
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: %[1]q}
rules: %[2]s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: %[1]q}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %[1]q}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: %[3]q}]
`, name, text, user))
}

// Rule is a rule of a Role.
type Rule struct {
	Groups    []string `json:"apiGroups"`
	Resources []string `json:"resources"`
	Verbs     []string `json:"verbs"`
}
