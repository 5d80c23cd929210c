package fakeapi

import (
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// Resource is a kind that a server serves. All are namespaced.
type Resource struct {
	Group, Version, Plural, Kind string

	Status bool // status is written apart from the rest
}

// The kinds that tests need.
var (
	Pods           = Resource{"", "v1", "pods", "Pod", true}
	Services       = Resource{"", "v1", "services", "Service", true}
	EndpointSlices = Resource{"discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", false}
	Leases         = Resource{"coordination.k8s.io", "v1", "leases", "Lease", false}
	Events         = Resource{"events.k8s.io", "v1", "events", "Event", false}

	PoolV1        = Resource{"inference.networking.k8s.io", "v1", "inferencepools", "InferencePool", true}
	PoolAlpha     = Resource{"inference.networking.x-k8s.io", "v1alpha2", "inferencepools", "InferencePool", true}
	Model         = Resource{"inference.networking.x-k8s.io", "v1alpha2", "inferencemodels", "InferenceModel", true}
	Objective     = Resource{"inference.networking.x-k8s.io", "v1alpha2", "inferenceobjectives", "InferenceObjective", true}
	Rewrite       = Resource{"inference.networking.x-k8s.io", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite", true}
	ObjectiveLLMD = Resource{"llm-d.ai", "v1alpha2", "inferenceobjectives", "InferenceObjective", true}
	RewriteLLMD   = Resource{"llm-d.ai", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite", true}
)

// GroupVersion is the apiVersion of the resource's objects.
func (r Resource) GroupVersion() string {
	if r.Group == "" {
		return r.Version
	}
	return r.Group + "/" + r.Version
}

// Server is an API server. Its methods are safe for concurrent use.
type Server struct {
	config rest.Config
	close  func()

	mu        sync.Mutex
	resources map[Resource]map[string]object // objects by namespace/name
	revision  int64
	log       []change      // what watches are told
	oldest    int64         // revisions up to this one are forgotten
	moved     chan struct{} // closed at the next change of anything above
	cut       chan struct{} // closed to cut the watches
	fail      func(Request) *Failure
	requests  []Request
}

// Request is a request that a server got.
type Request struct {
	Verb        string // get, list, watch, create, update, patch, delete, or discover
	Resource    string // the plural
	Subresource string
	Namespace   string // empty: all
	Name        string
	Selector    string // of labels
	Query       string
	Header      http.Header
	Sent        int64 // bytes of the answer so far; set in Requests
	Path        string
	sent        *int64
}

// New starts a server on loopback.
func New(resources ...Resource) *Server {
	s := create(resources)
	web := httptest.NewServer(s)
	s.config = rest.Config{Host: web.URL, QPS: -1}
	s.close = func() {
		s.CutWatches()
		web.CloseClientConnections()
		web.Close()
	}
	return s
}

// NewPipe starts a server that is reached through memory, for tests with virtual time. It is
// plain HTTP/1.1 as with New.
func NewPipe(resources ...Resource) *Server {
	s := create(resources)
	pipe := &pipe{conns: make(chan net.Conn), done: make(chan struct{})}
	web := &http.Server{Handler: s}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = web.Serve(pipe)
	}()
	s.config = rest.Config{Host: "http://fakeapi", QPS: -1, Dial: pipe.dial}
	s.close = func() {
		s.CutWatches()
		_ = web.Close()
		<-served
	}
	return s
}

func create(resources []Resource) *Server {
	s := &Server{
		resources: make(map[Resource]map[string]object),
		revision:  1000,
		moved:     make(chan struct{}),
		cut:       make(chan struct{}),
	}
	s.Install(resources...)
	return s
}

// Config returns a new client configuration for the server.
func (s *Server) Config() *rest.Config { return rest.CopyConfig(&s.config) }

// Close stops the server and cuts all connections.
func (s *Server) Close() { s.close() }

// Install makes the server serve more resources.
func (s *Server) Install(resources ...Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range resources {
		if s.resources[r] == nil {
			s.resources[r] = make(map[string]object)
		}
	}
}

// Remove deletes the objects of a resource, as a deleted CRD does, ends its watches, and
// serves it no more.
func (s *Server) Remove(r Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.resources[r] {
		s.removeLocked(r, o)
	}
	delete(s.resources, r)
	s.wakeLocked()
}

// Fail sets what decides for each request whether it fails. Nil: none does.
func (s *Server) Fail(fail func(Request) *Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// CutWatches ends all watches in the middle of the stream.
func (s *Server) CutWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.cut)
	s.cut = make(chan struct{})
}

// Expire forgets the past: who wants to watch from there is told 410, as after a compaction.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest, s.log = s.revision, nil
}

// Bookmark sends a bookmark to all watches that allow it.
func (s *Server) Bookmark() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision++
	s.log = append(s.log, change{revision: s.revision, bookmark: true})
	s.wakeLocked()
}

// Requests returns the requests so far for which keep returns true; nil: all.
func (s *Server) Requests(keep func(Request) bool) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Request
	for _, r := range s.requests {
		if keep == nil || keep(r) {
			r.Sent = atomic.LoadInt64(r.sent)
			out = append(out, r)
		}
	}
	return out
}

// Count returns how many requests there were with a verb for a resource.
func (s *Server) Count(verb, plural string) int {
	return len(s.Requests(func(r Request) bool { return r.Verb == verb && r.Resource == plural }))
}

// findLocked returns the resource that a path names. Caller must hold s.mu.
func (s *Server) findLocked(groupVersion, plural string) (Resource, bool) {
	for r := range s.resources {
		if r.GroupVersion() == groupVersion && r.Plural == plural {
			return r, true
		}
	}
	return Resource{}, false
}

// sortedLocked returns the resources by name. Caller must hold s.mu.
func (s *Server) sortedLocked() []Resource {
	var all []Resource
	for r := range s.resources {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Resource) int {
		return strings.Compare(a.GroupVersion()+"/"+a.Plural, b.GroupVersion()+"/"+b.Plural)
	})
	return all
}

func (s *Server) wakeLocked() {
	close(s.moved)
	s.moved = make(chan struct{})
}
