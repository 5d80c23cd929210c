package epp

import (
	"cmp"
	"crypto/tls"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/datastore/scrape"
)

// ServerMetrics says where servers' metrics are. What is left out is as it is without.
type ServerMetrics struct {
	Scheme string // http or https
	Path   string
	Port   int
	// InsecureSkipVerify takes every certificate of https. Default: they are verified.
	InsecureSkipVerify bool
}

// of returns how the metrics of a pool's servers are read, where the configuration leaves it to m.
func (m ServerMetrics) of(o scrape.PoolOptions) scrape.PoolOptions {
	o.Scheme, o.Path, o.Port = cmp.Or(o.Scheme, m.Scheme), cmp.Or(o.Path, m.Path), cmp.Or(o.Port, m.Port)
	return o
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
