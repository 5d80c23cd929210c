package epp

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/inferpick/inferpick/datastore"
)

// ServerMetrics says where servers' metrics are. What is left out is as it is without.
type ServerMetrics struct {
	Scheme string // http or https
	Path   string
	Port   int
	// InsecureSkipVerify takes every certificate of https. Default: they are verified.
	InsecureSkipVerify bool
}

// of returns a change in which servers' metrics are where m says, unless the change does.
func (m ServerMetrics) of(c datastore.Change) datastore.Change {
	if m.Scheme == "" && m.Path == "" && m.Port == 0 {
		return c
	}
	c.Endpoints = maps.Clone(c.Endpoints)
	for pool, specs := range c.Endpoints {
		specs = slices.Clone(specs)
		for i := range specs {
			s := &specs[i]
			s.MetricsScheme, s.MetricsPath = cmp.Or(s.MetricsScheme, m.Scheme), cmp.Or(s.MetricsPath, m.Path)
			if s.MetricsAddress == "" && m.Port > 0 {
				s.MetricsAddress = fmt.Sprintf(":%d", m.Port)
			}
		}
		c.Endpoints[pool] = specs
	}
	return c
}

// transport returns nil if that of package scrape will do.
func (m ServerMetrics) transport() http.RoundTripper {
	if !m.InsecureSkipVerify {
		return nil
	}
	return &http.Transport{
		TLSClientConfig:     &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // which is what was asked for
		MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
	}
}
