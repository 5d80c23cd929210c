package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

const (
	// A page of a list has so many objects, if the server reads it from its database.
	pageSize = 500
	// An answer of which so long nothing has come fails; a watch, where nothing may happen, is
	// cut if it outlives by so much the time after which the server should have ended it.
	answerTimeout = 2 * time.Minute
	watchGrace    = 30 * time.Second
)

// client reads from an API server.
type client struct{ rest *rest.RESTClient }

func newClient(config *rest.Config) (*client, error) {
	c := rest.CopyConfig(config)
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion() // for errors
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	c.Timeout = 0 // it would cut watches
	c.WarningHandler = rest.NoWarnings{}
	if c.UserAgent == "" {
		c.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	if c.QPS == 0 && c.RateLimiter == nil {
		c.QPS, c.Burst = 200, 400 // the default of 5 takes more than a minute for 200 pools
	}
	httpClient, err := rest.HTTPClientFor(c)
	if err != nil {
		return nil, err
	}
	r, err := rest.UnversionedRESTClientForConfigAndClient(c, httpClient)
	if err != nil {
		return nil, err
	}
	return &client{r}, nil
}

// stream begins a request. Failures are not retried: the caller does so.
func (c *client) stream(ctx context.Context, path string, params map[string]string) (io.ReadCloser, error) {
	r := c.rest.Get().AbsPath(path).MaxRetries(0)
	for name, v := range params {
		r.Param(name, v)
	}
	return r.Stream(ctx)
}

// target is what a list or watch is for.
type target struct {
	resource
	namespace string // empty: all
	labels    string // selector; empty: none
	fields    string
}

func (t target) path() string {
	var b strings.Builder
	if t.Group == "" {
		b.WriteString("/api/" + t.Version)
	} else {
		b.WriteString("/apis/" + t.Group + "/" + t.Version)
	}
	if t.namespace != "" {
		b.WriteString("/namespaces/" + t.namespace)
	}
	b.WriteString("/" + t.Resource)
	return b.String()
}

func (t target) params() map[string]string {
	p := make(map[string]string)
	if t.labels != "" {
		p["labelSelector"] = t.labels
	}
	if t.fields != "" {
		p["fieldSelector"] = t.fields
	}
	return p
}

// list reads all objects, page by page, and returns their resource version. after is the version
// that the answer must not be older than: empty for the newest, "0" for whatever the server has
// at hand.
func (c *client) list(ctx context.Context, t target, after string, item func(decode func(any) error) error) (string, error) {
	params := t.params()
	switch after {
	case "":
		params["limit"] = strconv.Itoa(pageSize)
	case "0":
		params["limit"] = strconv.Itoa(pageSize) // servers with a cache ignore it
		params["resourceVersion"] = after
	default:
		params["resourceVersion"] = after
		params["resourceVersionMatch"] = string(metav1.ResourceVersionMatchNotOlderThan)
	}
	for {
		page, err := c.page(ctx, t, params, item)
		if err != nil {
			return "", err
		}
		switch page.Continue {
		case "":
			return page.ResourceVersion, nil
		case params["continue"]:
			return "", errors.New("the answer is a page of a list that names itself as the next one")
		}
		params["continue"] = page.Continue
		delete(params, "resourceVersion")
	}
}

func (c *client) page(ctx context.Context, t target, params map[string]string, item func(decode func(any) error) error) (listMeta, error) {
	var meta listMeta
	err := c.answer(ctx, t.path(), params, func(body io.Reader) (err error) {
		meta, err = readList(body, item)
		return err
	})
	return meta, err
}

// watch reads events from a resource version on until the server ends it or something fails.
// opened is called when the server has accepted the watch.
func (c *client) watch(ctx context.Context, t target, from string, opened func(), event func(kind string, object json.RawMessage) error) error {
	timeout := 270*time.Second + rand.N(time.Minute) // not all at once
	ctx, cancel := context.WithTimeout(ctx, timeout+watchGrace)
	defer cancel()
	params := t.params()
	params["watch"] = "1"
	params["allowWatchBookmarks"] = "true"
	params["resourceVersion"] = from
	params["timeoutSeconds"] = strconv.Itoa(int(timeout.Seconds()))
	body, err := c.stream(ctx, t.path(), params)
	if err != nil {
		return err
	}
	defer body.Close()
	opened()
	err = readEvents(body, event)
	if err != nil && classify(err) == otherFailure && !errors.As(err, new(*apierrors.StatusError)) {
		return fmt.Errorf("%w: %w", errCut, err)
	}
	return err
}

// served asks the server which resources it has.
func (c *client) served(ctx context.Context) ([]resource, error) {
	var groups metav1.APIGroupList
	if err := c.get(ctx, "/apis", &groups); err != nil {
		return nil, err
	}
	if groups.Kind != "APIGroupList" {
		return nil, fmt.Errorf("the answer to /apis is no APIGroupList, but %q", groups.Kind)
	}
	var out []resource
	for _, group := range groups.Groups {
		for _, v := range group.Versions {
			gv, err := schema.ParseGroupVersion(v.GroupVersion)
			if err != nil || !wanted(gv) {
				continue
			}
			var list metav1.APIResourceList
			if err := c.get(ctx, "/apis/"+gv.String(), &list); err != nil {
				return nil, err
			}
			if list.Kind != "APIResourceList" {
				return nil, fmt.Errorf("the answer to /apis/%s is no APIResourceList, but %q", gv, list.Kind)
			}
			for _, r := range list.APIResources {
				if !strings.Contains(r.Name, "/") {
					out = append(out, resource{gv.WithResource(r.Name), r.Kind})
				}
			}
		}
	}
	return choose(out), nil
}

// absent returns nil if the server says of each of some resources that it does not have it. What
// it says of all groups together is not enough: see presence.
func (c *client) absent(ctx context.Context, resources []resource) error {
	for _, r := range resources {
		var list metav1.APIResourceList
		switch err := c.get(ctx, "/apis/"+r.GroupVersion().String(), &list); {
		case err != nil && classify(err) != notServed:
			return err
		case err == nil && list.Kind != "APIResourceList":
			return fmt.Errorf("the answer to /apis/%s is no APIResourceList, but %q", r.GroupVersion(), list.Kind)
		case slices.ContainsFunc(list.APIResources, func(have metav1.APIResource) bool { return have.Name == r.Resource }):
			return fmt.Errorf("the server serves %s, but does not list it", r)
		}
	}
	return nil
}

func (c *client) get(ctx context.Context, path string, to any) error {
	return c.answer(ctx, path, nil, func(body io.Reader) error { return json.NewDecoder(body).Decode(to) })
}

// answer reads the answer to a request, however long it takes, as long as something comes.
func (c *client) answer(ctx context.Context, path string, params map[string]string, read func(io.Reader) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(answerTimeout, func() { cancel(errIdle) })
	defer idle.Stop()
	body, err := c.stream(ctx, path, params)
	if err == nil {
		defer body.Close()
		err = read(progress{body, idle})
	}
	if err != nil && context.Cause(ctx) == errIdle {
		return errIdle
	}
	return err
}

var errIdle = fmt.Errorf("nothing has come for %v", answerTimeout)

// progress puts a timer off whenever something is read.
type progress struct {
	io.Reader
	idle *time.Timer
}

func (p progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if n > 0 {
		p.idle.Reset(answerTimeout)
	}
	return n, err
}
