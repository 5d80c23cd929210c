package routing

import (
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/inferpick/inferpick/types"
)

// Table says where requests go. It does not change.
type Table struct {
	// Ports are those to listen on.
	Ports map[int32]*Port
	// Pickers are the pools that name one.
	Pickers map[types.NamespacedName]*Picker
}

// Port is what is served on a port.
type Port struct {
	Number int32
	TLS    bool

	listeners byHost[*Listener]
}

// Listener is what is served for some hosts.
type Listener struct {
	certificates []tls.Certificate
	rules        byHost[[]*match]
}

// Match is a request's rule.
type Match struct {
	*Rule
	match *match
}

// table makes the Table of the listeners that are served.
func (b *builder) table() *Table {
	t := &Table{Ports: make(map[int32]*Port), Pickers: make(map[types.NamespacedName]*Picker)}
	for _, pool := range b.pools {
		if p, _ := b.picker(pool); p != nil {
			t.Pickers[pool.Key()] = p
		}
	}
	for _, g := range b.inOrder {
		for _, l := range g.listeners {
			if !l.served {
				continue
			}
			number := int32(l.spec.Port)
			if t.Ports[number] == nil {
				t.Ports[number] = &Port{Number: number, TLS: l.spec.Protocol == gatewayv1.HTTPSProtocolType, listeners: make(byHost[*Listener])}
			}
			for _, matches := range l.rules {
				slices.SortFunc(matches, (*match).compare)
			}
			t.Ports[number].listeners[l.hostname] = &Listener{l.certificates, l.rules}
		}
	}
	return t
}

// Listener returns the one that is most specific for a Host header, nil if there is none.
func (p *Port) Listener(host string) *Listener {
	for l := range p.listeners.of(hostOf(host)) {
		return l
	}
	return nil
}

// Certificate returns the certificate for a connection, nil if there is none.
func (p *Port) Certificate(hello *tls.ClientHelloInfo) *tls.Certificate {
	l := p.Listener(hello.ServerName)
	if l == nil {
		return nil
	}
	for i := range l.certificates {
		if hello.SupportsCertificate(&l.certificates[i]) == nil {
			return &l.certificates[i]
		}
	}
	return &l.certificates[0] // and let the client judge it
}

// Match returns the rule for a request, and whether there is one.
func (l *Listener) Match(r *http.Request) (Match, bool) {
	var values url.Values
	query := func() url.Values {
		if values == nil {
			values = r.URL.Query()
		}
		return values
	}
	for matches := range l.rules.of(hostOf(r.Host)) {
		for _, m := range matches {
			if m.matches(r, query) {
				return Match{m.rule, m}, true
			}
		}
	}
	return Match{}, false
}

// NamesPath reports whether the path of a request is one that the rule's manifest names, and
// that is not rewritten.
func (m Match) NamesPath() bool {
	return m.match.path.named() && (m.Rewrite == nil || m.Rewrite.path == nil)
}

// Ambiguous reports whether a path may be another one to the server that gets it: one with
// segments that lead upwards.
func Ambiguous(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." })
}
