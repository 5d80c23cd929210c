package epp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/inferpick/inferpick/scheduling"
	"github.com/inferpick/inferpick/scheduling/admission"
	"github.com/inferpick/inferpick/scheduling/sharing"
	"github.com/inferpick/inferpick/scheduling/sharing/mesh"
	"github.com/inferpick/inferpick/types"
)

// scopesEvery is how often is looked for pools whose scheduler or admission control is another than before.
const scopesEvery = 100 * time.Millisecond

// joinPeers makes the Group, if there is to be one.
func (a *App) joinPeers() (err error) {
	if a.o.Sharing == nil {
		return nil
	}
	o := *a.o.Sharing
	if o.Transport == nil {
		return errors.New("epp: Options.Sharing has no Transport, without which nobody is told or heard")
	}
	if o.Logger == nil {
		o.Logger = a.o.Logger
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname() // peers tell pickers without a name by their addresses
	}
	a.group, err = sharing.New(o)
	return err
}

// share tells and hears peers until ctx is done.
func (a *App) share(ctx context.Context) {
	if a.group == nil {
		return
	}
	keep := func(name string, f func(ctx context.Context) error) {
		a.sharing.Go(func() { _ = a.keeper.keep(ctx, name, f) }) // the only error is that there is another one
	}
	keep("peers", a.group.Run)
	keep("what is shared", func(ctx context.Context) error { a.shareScopes(ctx); return nil })
}

// shareScopes shares of each pool its endpoints, what its scheduler's plugins know and what its admission control
// has charged, until ctx is done.
func (a *App) shareScopes(ctx context.Context) {
	tick := time.NewTicker(scopesEvery)
	defer tick.Stop()
	for {
		all := append(append(a.fleet.scopes(), a.rolloutScopes()...), a.scaling.scopes()...)
		a.group.Keep(all...) // they have names, so there is no error
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// scopes are what is shared of each pool as it is now.
func (f *fleet) scopes() (all []sharing.Scope) {
	controllers := map[types.NamespacedName]*admission.Controller{}
	f.mu.Lock()
	d := f.director
	f.mu.Unlock()
	if d != nil {
		for pool, c := range d.Admissions() {
			controllers[pool] = c
		}
	}
	for pool, m := range *f.members.Load() {
		parts := m.parts[:len(m.parts):len(m.parts)]
		if c := controllers[pool]; c != nil {
			parts = append(parts, c)
		}
		all = append(all, sharing.Scope{Name: pool.String(), Endpoints: func() []*types.Endpoint { return f.endpoints(pool) }, Parts: parts})
	}
	return all
}

func (f *fleet) endpoints(pool types.NamespacedName) []*types.Endpoint {
	if p := f.store.Snapshot().Pool(pool); p != nil {
		return p.Endpoints()
	}
	return nil
}

// leavePeers ends what New has begun. Who told and heard peers must have been asked to end.
func (a *App) leavePeers() {
	a.sharing.Wait()
	if a.o.Sharing != nil && a.o.Sharing.Transport != nil {
		a.o.Sharing.Transport.Close() // an error is of no use to anybody
	}
}

// explainPeers writes what peers say of the endpoints of a decision.
func (a *App) explainPeers(w io.Writer, ex *scheduling.Explanation, now time.Time) {
	if a.group == nil {
		return
	}
	stats := a.group.Stats(now)
	fmt.Fprintf(w, "%d peers", stats.Alive())
	for _, p := range stats.Peers {
		if p.Alive {
			fmt.Fprintf(w, "; %s: %d in flight, heard %v ago", p.Name, p.Held.Requests, p.Age.Round(time.Millisecond))
		}
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range ex.Candidates {
		for _, claim := range a.group.Explain(c.Endpoint, now) {
			fmt.Fprintf(table, "%s\t%s\n", c.ID, claim)
		}
	}
	table.Flush()
}

// Peers says how pickers find and know each other: see package mesh.
type Peers struct {
	// Addr is where this picker is found: host:port, or :port for all addresses.
	Addr string
	// Addresses are those of all pickers, as host:port. If host is a name, such as that of a headless Service,
	// all its addresses are pickers. This one may be among them.
	Addresses []string
	// KeyFile is a file with a secret that all pickers have, of 16 bytes at least: see mesh.ReadKeyFile. It is
	// read once.
	KeyFile string
	// CertFile, CertKeyFile and CAFile are PEM files of a certificate for both sides of connections, which is
	// read again when it changes, and of the authorities that have signed those of the others. All or none.
	CertFile, CertKeyFile, CAFile string
	// ServerName is the name in the certificates of the others. Default: the host of Addresses.
	ServerName string
	// Insecure lets everybody take part who can connect.
	Insecure bool
	// Logger hears of peers that come and go. Nil: silence.
	Logger *slog.Logger
}

// NewMesh returns a transport for Options.Sharing.
func NewMesh(p Peers) (*mesh.Transport, error) {
	o := mesh.Options{Listen: p.Addr, Peers: p.Addresses, Insecure: p.Insecure, Logger: p.Logger}
	var err error
	if p.KeyFile != "" {
		if o.Key, o.MoreKeys, err = mesh.ReadKeyFile(p.KeyFile); err != nil {
			return nil, fmt.Errorf("epp: peers: %w", err)
		}
	}
	if o.TLS, err = p.tls(); err != nil {
		return nil, err
	}
	t, err := mesh.New(o)
	if err != nil {
		return nil, fmt.Errorf("epp: peers: %w", err)
	}
	return t, nil
}

// tls returns nil if there is to be none.
func (p *Peers) tls() (*tls.Config, error) {
	files := 0
	for _, f := range []string{p.CertFile, p.CertKeyFile, p.CAFile} {
		if f != "" {
			files++
		}
	}
	switch files {
	case 0:
		return nil, nil
	case 3:
	default:
		return nil, errors.New("epp: TLS of peers needs a certificate, its key and the authorities: want all three files, or none")
	}
	logger := p.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	t := TLS{CertFile: p.CertFile, KeyFile: p.CertKeyFile, ClientCAFile: p.CAFile}
	pair, err := t.keyPair(logger)
	if err != nil {
		return nil, err
	}
	authorities, err := t.clientCAs(logger)
	if err != nil {
		return nil, err
	}
	pool, err := authorities.latest()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		ServerName: p.ServerName, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		GetCertificate:       func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.latest() },
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.latest() },
	}, nil
}
