package access

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
)

// How long what the ConfigMap says is used, and how soon it is read again after it could not be, or did not know a
// certificate.
const (
	frontProxyFor   = time.Minute
	frontProxyRetry = 5 * time.Second
)

// FrontProxy knows the certificate of the API server, which puts the name of who asks into headers, from the ConfigMap
// extension-apiserver-authentication of kube-system: the Role extension-apiserver-authentication-reader there lets read
// it. It is read when it is needed, and again after a minute. Its methods may be called from any goroutine.
type FrontProxy struct {
	client dynamic.ResourceInterface
	rarely *seldom.Logger
	now    func() time.Time

	mu     sync.Mutex
	known  *requestHeader // nil: never read
	at     time.Time      // of the last read, or attempt
	failed bool           // it was an attempt
}

// requestHeader is what the ConfigMap says.
type requestHeader struct {
	authorities                *x509.CertPool // nil: there is no front proxy
	names                      []string       // of certificates; empty: any
	users, uids, groups, extra []string       // headers; of extra the prefixes
}

// NewFrontProxy returns one that asks the API server there.
func NewFrontProxy(api *rest.Config, logger *slog.Logger) (*FrontProxy, error) {
	client, err := dynamic.NewForConfig(api)
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	maps := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(metav1.NamespaceSystem)
	return &FrontProxy{client: maps, rarely: seldom.New(logger), now: time.Now}, nil
}

// User returns for whom the API server asks, and whether it is the API server that asks: whether the request came with
// its certificate. What the headers say counts in no other case. The error is that the cluster cannot be asked which
// certificate that is.
func (f *FrontProxy) User(r *http.Request) (User, bool, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return User{}, false, nil
	}
	h, err := f.get(r.Context(), frontProxyFor)
	if err == nil && h.verify(r.TLS.PeerCertificates) != nil {
		h, err = f.get(r.Context(), frontProxyRetry) // it may be new
	}
	if err != nil || h.verify(r.TLS.PeerCertificates) != nil {
		return User{}, false, err
	}
	user := h.user(r.Header)
	return user, user.Name != "", nil
}

// get returns what the ConfigMap says, as of so long ago at most; if it cannot be read, what it said last.
func (f *FrontProxy) get(ctx context.Context, atMost time.Duration) (*requestHeader, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed {
		atMost = min(atMost, frontProxyRetry)
	}
	if f.known != nil && f.now().Sub(f.at) < atMost {
		return f.known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	next, err := f.read(ctx)
	f.at, f.failed = f.now(), err != nil
	if err == nil {
		f.known = next
		return next, nil
	}
	f.rarely.Log(ctx, slog.LevelError, "frontproxy", "the certificate of the API server is not known anew", slog.Any("error", err))
	if f.known != nil {
		return f.known, nil
	}
	return nil, err
}

const frontProxyMap = "extension-apiserver-authentication"

func (f *FrontProxy) read(ctx context.Context) (*requestHeader, error) {
	o, err := f.client.Get(ctx, frontProxyMap, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("access: get configmaps %s/%s: %w", metav1.NamespaceSystem, frontProxyMap, err)
	}
	data, _, err := unstructured.NestedStringMap(o.Object, "data")
	if err != nil {
		return nil, fmt.Errorf("access: %w", err)
	}
	return newRequestHeader(data)
}

func newRequestHeader(data map[string]string) (*requestHeader, error) {
	h := new(requestHeader)
	if pem := data["requestheader-client-ca-file"]; pem != "" {
		h.authorities = x509.NewCertPool()
		if !h.authorities.AppendCertsFromPEM([]byte(pem)) {
			return nil, fmt.Errorf("access: configmap %s: requestheader-client-ca-file has no certificate in PEM", frontProxyMap)
		}
	}
	for key, to := range map[string]*[]string{
		"requestheader-allowed-names": &h.names, "requestheader-username-headers": &h.users, "requestheader-uid-headers": &h.uids,
		"requestheader-group-headers": &h.groups, "requestheader-extra-headers-prefix": &h.extra,
	} {
		if data[key] == "" {
			continue
		}
		if err := json.Unmarshal([]byte(data[key]), to); err != nil {
			return nil, fmt.Errorf("access: configmap %s: %s is %.80q, want a list in JSON: %w", frontProxyMap, key, data[key], err)
		}
	}
	return h, nil
}

// verify returns an error unless a chain of certificates, the client's own first, is the API server's.
func (h *requestHeader) verify(chain []*x509.Certificate) error {
	if h.authorities == nil {
		return errors.New("access: the API server has no certificate for it")
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{
		Roots: h.authorities, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		return err
	}
	if name := chain[0].Subject.CommonName; len(h.names) > 0 && !slices.Contains(h.names, name) {
		return fmt.Errorf("access: certificate of %.80q, want one of %s", name, strings.Join(h.names, ", "))
	}
	return nil
}

// user reads the headers.
func (h *requestHeader) user(header http.Header) (u User) {
	first := func(names []string) (v string) {
		for _, name := range names {
			v = cmp.Or(v, header.Get(name))
		}
		return v
	}
	u.Name, u.UID = first(h.users), first(h.uids)
	for _, name := range h.groups {
		u.Groups = append(u.Groups, header.Values(name)...)
	}
	for name, values := range header {
		for _, prefix := range h.extra {
			if len(name) <= len(prefix) || !strings.EqualFold(name[:len(prefix)], prefix) {
				continue
			}
			key := strings.ToLower(name[len(prefix):])
			if plain, err := url.PathUnescape(key); err == nil {
				key = plain
			}
			if u.Extra == nil {
				u.Extra = map[string][]string{}
			}
			u.Extra[key] = append(u.Extra[key], values...)
		}
	}
	return u
}
