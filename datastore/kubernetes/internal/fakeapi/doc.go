// Package fakeapi is a small Kubernetes API server for tests.
package fakeapi

import _ "k8s.io/client-go/dynamic"
