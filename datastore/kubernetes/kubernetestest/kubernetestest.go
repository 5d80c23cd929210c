// Package kubernetestest is a small Kubernetes API server in the process, for the tests of
// programs that read a cluster with package kubernetes: objects can be put into it, and requests
// made to fail. It checks no schema, grants every right and knows no user.
//
//	server := kubernetestest.New(kubernetestest.Pods, kubernetestest.PoolV1)
//	defer server.Close()
//	server.Apply(kubernetestest.Object(`{"apiVersion": "v1", "kind": "Pod", …}`))
//	source, err := kubernetes.New(server.Config(), kubernetes.Options{})
package kubernetestest

import "github.com/inferpick/inferpick/datastore/kubernetes/internal/fakeapi"

// Server is an API server; New starts one on loopback, NewPipe one that is reached through memory,
// for virtual time.
type (
	Server   = fakeapi.Server
	Resource = fakeapi.Resource
	Request  = fakeapi.Request
	Failure  = fakeapi.Failure
)

// New starts a server on loopback, which serves the resources.
func New(resources ...Resource) *Server { return fakeapi.New(resources...) }

// NewPipe starts a server that is reached through memory.
func NewPipe(resources ...Resource) *Server { return fakeapi.NewPipe(resources...) }

// Object decodes a JSON object, and panics if that is none.
func Object(text string) map[string]any { return fakeapi.Object(text) }

// Forbidden returns what a server says without the right to do r, for Server.Fail.
func Forbidden(r Request) *Failure { return fakeapi.Forbidden(r) }

// The kinds that tests need.
var (
	Pods, Services, EndpointSlices, Leases = fakeapi.Pods, fakeapi.Services, fakeapi.EndpointSlices, fakeapi.Leases
	Events                                 = fakeapi.Events

	PoolV1, PoolAlpha, Model                       = fakeapi.PoolV1, fakeapi.PoolAlpha, fakeapi.Model
	Objective, Rewrite, ObjectiveLLMD, RewriteLLMD = fakeapi.Objective, fakeapi.Rewrite, fakeapi.ObjectiveLLMD, fakeapi.RewriteLLMD
)
