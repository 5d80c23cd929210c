// Module is the endpoint picker inside Envoy: a shared library that Envoy loads as a dynamic module, an
// HTTP filter. Nothing crosses to another process: see docs/envoy-module.md for what that is worth, and what it costs.
//
//	go build -buildmode=c-shared -o libinferpick.so ./module
//	ENVOY_DYNAMIC_MODULES_SEARCH_PATH=$PWD envoy -c envoy-module.yaml
//
// Package instance says what its configuration is.
package main

import (
	"github.com/inferpick/inferpick/examples/envoy/module/hooks"
	"github.com/inferpick/inferpick/examples/envoy/module/instance"
)

func init() { hooks.Register(instance.New(instance.Options{NewLogger: hooks.NewLogger})) }

func main() {} // Envoy's is the one that counts
