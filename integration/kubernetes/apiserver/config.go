package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
)

func tokens(dir string) string            { return filepath.Join(dir, "tokens.csv") }
func serviceAccountKey(dir string) string { return filepath.Join(dir, "service-account.key") }
func certificates(dir string) string      { return filepath.Join(dir, "certificates") }

// arguments are those of a kube-apiserver that has only clients of this machine.
func arguments(dir string, port, verbosity int) []string {
	return []string{
		fmt.Sprintf("--secure-port=%d", port),
		"--bind-address=127.0.0.1",
		"--cert-dir=" + certificates(dir),
		"--etcd-servers=" + etcdSocket(dir, "clients")[0].String(),

		"--authorization-mode=RBAC",
		"--token-auth-file=" + tokens(dir),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + serviceAccountKey(dir),
		"--service-account-signing-key-file=" + serviceAccountKey(dir),
		// It would refuse pods in namespaces whose default account no controller makes.
		"--disable-admission-plugins=ServiceAccount",

		// Whom it asks of APIs that it does not have itself is told by these who is asking.
		"--requestheader-client-ca-file=" + frontProxy(dir, "ca.crt"),
		"--requestheader-allowed-names=" + frontProxyName,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + frontProxy(dir, "client.crt"),
		"--proxy-client-key-file=" + frontProxy(dir, "client.key"),

		// The address of the server would have to be an endpoint, which loopback cannot be.
		"--endpoint-reconciler-type=none",
		"--service-cluster-ip-range=10.96.0.0/16",
		"--shutdown-delay-duration=0s",
		"--profiling=false",
		fmt.Sprintf("--v=%d", verbosity),
	}
}

// newKey is a private key that signs tokens of service accounts.
func newKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// kubeconfig is that of the administrator, who is above RBAC. The server signs its own
// certificate when it starts for the first time.
func kubeconfig(dir string, port int, token []byte) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: test
  cluster:
    server: https://127.0.0.1:%d
    certificate-authority: %s
users:
- name: admin
  user:
    token: %s
contexts:
- name: test
  context: {cluster: test, user: admin, namespace: default}
current-context: test
`, port, filepath.Join(certificates(dir), "apiserver.crt"), token)
}
