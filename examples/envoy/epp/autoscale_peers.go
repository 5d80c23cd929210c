package epp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/inferpick/inferpick/scheduling/autoscale"
)

// Pickers are those in front of the same servers: each is asked at the address of its metrics what it has queued and
// sent.
type Pickers struct {
	// Addresses are host:port, or https://host:port with TLS. If host is a name, such as that of a headless Service,
	// all its addresses are pickers; the one that asks may be among them.
	Addresses []string
	// TokenFile is the Options.MetricsTokenFile of all of them. Optional.
	TokenFile string
	// CAFile is a PEM file of the authorities of their certificates, read again when it changes, which are for the host
	// in the first of Addresses with https. Default: those of the system.
	CAFile string
	// Resolve returns the addresses of a name. Default net.Resolver.LookupHost.
	Resolve func(ctx context.Context, host string) ([]string, error)
	// Logger hears of what is wrong with files. Nil: silence.
	Logger *slog.Logger
}

// NewPickers returns what Autoscale.Peers may be.
func NewPickers(p Pickers) (autoscale.Peers, error) {
	if p.Logger == nil {
		p.Logger = slog.New(slog.DiscardHandler)
	}
	if p.Resolve == nil {
		p.Resolve = net.DefaultResolver.LookupHost
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	all := make([]*url.URL, len(p.Addresses))
	for i, address := range p.Addresses {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		u, err := url.Parse(address)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Port() == "", u.Path != "":
			return nil, fmt.Errorf("epp: Pickers.Addresses has %q, want host:port, which https:// may stand before", p.Addresses[i])
		}
		all[i] = u
		if u.Scheme == "https" && transport.TLSClientConfig == nil {
			if transport.TLSClientConfig, err = p.tls(u.Hostname()); err != nil {
				return nil, err
			}
		}
	}
	o := autoscale.HTTPPeersOptions{
		Addresses: func(ctx context.Context) ([]string, error) { return p.resolve(ctx, all) }, Client: client,
	}
	if p.TokenFile != "" {
		token, err := newToken(p.TokenFile, p.Logger)
		if err != nil {
			return nil, err
		}
		o.Token = func() string {
			t, _ := token.latest() // what is wrong with it is told; without it they refuse
			return t
		}
	}
	return autoscale.NewHTTPPeers(o)
}

// tls verifies certificates for a name, whichever address it is asked at.
func (p *Pickers) tls(name string) (*tls.Config, error) {
	c := &tls.Config{ServerName: name}
	if p.CAFile == "" {
		return c, nil
	}
	authorities, err := TLS{ClientCAFile: p.CAFile}.clientCAs(p.Logger)
	if err != nil {
		return nil, err
	}
	// The authorities are those of the moment, so that they are not verified by the ones there were.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(state tls.ConnectionState) error {
		roots, err := authorities.latest()
		if err != nil {
			return err
		}
		between := x509.NewCertPool()
		for _, cert := range state.PeerCertificates[1:] {
			between.AddCert(cert)
		}
		_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between})
		return err
	}
	return c, nil
}

// resolve returns the base URLs of all pickers as they are now.
func (p *Pickers) resolve(ctx context.Context, all []*url.URL) (bases []string, err error) {
	for _, u := range all {
		hosts := []string{u.Hostname()}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			if hosts, err = p.Resolve(ctx, u.Hostname()); err != nil {
				return nil, fmt.Errorf("epp: pickers: %w", err)
			}
		}
		for _, host := range hosts {
			bases = append(bases, u.Scheme+"://"+net.JoinHostPort(host, u.Port()))
		}
	}
	return bases, nil
}
