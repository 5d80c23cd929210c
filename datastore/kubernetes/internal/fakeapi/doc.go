// Package fakeapi is a small Kubernetes API server for tests: lists in pages, watches with
// resource versions and bookmarks, status, patches, optimistic locking, discovery, and on
// demand the failures that a real server does not produce when a test needs them.
//
//	server := fakeapi.New(fakeapi.Pods, fakeapi.PoolV1)
//	defer server.Close()
//	server.Apply(fakeapi.Object(`{"apiVersion": "v1", "kind": "Pod", …}`))
//	server.Fail(func(r fakeapi.Request) *fakeapi.Failure { … })
//	source, err := kubernetes.New(server.Config(), kubernetes.Options{})
//
// It checks no schema, grants every right and knows no user.
package fakeapi
