package main

import (
	"strings"

	"github.com/inferpick/inferpick/examples/envoy/exchange"
	"github.com/inferpick/inferpick/examples/envoy/module/filter"
	"github.com/inferpick/inferpick/examples/envoy/module/instance"
)

// This file makes Envoy itself seem faulty: in the hook that a request's header names, whatever it is asked for panics.

// faultyModule makes filters that have faults.
type faultyModule struct{ *instance.Instances }

// NewFilter implements filter.Module.
func (m faultyModule) NewFilter(name string, config []byte, validate bool) (filter.Factory, error) {
	f, err := m.Instances.NewFilter(name, config, validate)
	if err != nil {
		return nil, err
	}
	return faultyFactory{f}, nil
}

type faultyFactory struct{ filter.Factory }

// NewStream implements filter.Factory.
func (f faultyFactory) NewStream() filter.Hooks { return &faultyStream{Hooks: f.Factory.NewStream()} }

// faultyStream is a stream with a fault in one of its hooks.
type faultyStream struct {
	filter.Hooks
	in string // the hook
}

// host is Envoy for a hook, which panics before it begins where the header says that it is outside.
func (s *faultyStream) host(h filter.Host, hook string) filter.Host {
	if s.in == "outside "+hook {
		panic("on purpose, " + s.in)
	}
	if s.in == hook {
		return faultyHost{h, hook}
	}
	return h
}

// RequestHeaders implements filter.Hooks.
func (s *faultyStream) RequestHeaders(h filter.Host, end bool) filter.Status {
	for key, value := range h.Fields(filter.RequestHeaders) {
		if key == strings.ToLower(panicHeader) {
			s.in = value
		}
	}
	return s.Hooks.RequestHeaders(s.host(h, "request headers"), end)
}

// RequestBody implements filter.Hooks.
func (s *faultyStream) RequestBody(h filter.Host, end bool) filter.Status {
	return s.Hooks.RequestBody(s.host(h, "request body"), end)
}

// RequestTrailers implements filter.Hooks.
func (s *faultyStream) RequestTrailers(h filter.Host) filter.Status {
	return s.Hooks.RequestTrailers(s.host(h, "request trailers"))
}

// Woken implements filter.Hooks.
func (s *faultyStream) Woken(h filter.Host) { s.Hooks.Woken(s.host(h, "woken")) }

// ResponseHeaders implements filter.Hooks.
func (s *faultyStream) ResponseHeaders(h filter.Host, end bool) filter.Status {
	return s.Hooks.ResponseHeaders(s.host(h, "response headers"), end)
}

// ResponseBody implements filter.Hooks.
func (s *faultyStream) ResponseBody(h filter.Host, end bool) filter.Status {
	return s.Hooks.ResponseBody(s.host(h, "response body"), end)
}

// ResponseTrailers implements filter.Hooks.
func (s *faultyStream) ResponseTrailers(h filter.Host) filter.Status {
	return s.Hooks.ResponseTrailers(s.host(h, "response trailers"))
}

// Destroy implements filter.Hooks.
func (s *faultyStream) Destroy() {
	s.Hooks.Destroy()
	if s.in == "destroy" {
		panic("on purpose, in destroy")
	}
}

// faultyHost is an Envoy that panics. It can still answer, and reset.
type faultyHost struct {
	filter.Host
	in string
}

func (h faultyHost) panic() { panic("on purpose, in " + h.in) }

// Fields implements filter.Host.
func (h faultyHost) Fields(m filter.Map) exchange.Fields {
	h.panic()
	return nil
}

// Pieces implements filter.Host.
func (h faultyHost) Pieces(b filter.Body) [][]byte {
	h.panic()
	return nil
}

// SetMetadata implements filter.Host.
func (h faultyHost) SetMetadata(namespace, key string, value any) { h.panic() }

// Waker implements filter.Host.
func (h faultyHost) Waker() filter.Waker {
	h.panic()
	return nil
}
