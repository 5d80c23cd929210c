package datastore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Resolver looks names up. *net.Resolver is one. It is called by one goroutine
// at a time and must return when ctx is done.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
}

// DNSOptions of a DNSSource. Host is required, and one of Port and SRV.
type DNSOptions struct {
	// Pool gets the endpoints. It should have no other source.
	Pool types.NamespacedName

	// Host is the name to look up, for example that of a headless service.
	Host string
	// Port is that of every address of Host. Not used with SRV.
	Port int
	// SRV looks up service records of Host: the full name, such as
	// _http._tcp.llama.default.svc.cluster.local. Of several priorities the most
	// preferred one is used; weights are not. The targets are looked up in turn.
	SRV bool

	// Network is "ip" for both, "ip4" or "ip6". Default: "ip".
	Network string

	// Template is what all endpoints have in common: labels, capacity, engine,
	// where metrics are. ID, Address and MetricsAddress come from DNS.
	Template EndpointSpec

	// MetricsPort is the port of the metrics. Default: that of the endpoint.
	MetricsPort int

	// Interval between two lookups. Default: 10s. At least 100ms.
	Interval time.Duration
	// Timeout of one. Default: 5s.
	Timeout time.Duration

	// MaxAddresses bounds the endpoints: of more, the first in the order of
	// addresses are taken, and Err says so. Default: 1,000.
	MaxAddresses int

	// ClearOnNotFound removes all endpoints when the name does not exist or has
	// no addresses. Default: they stay, as after any failed lookup, because a
	// name server that answers wrongly must not take a service down.
	ClearOnNotFound bool

	// Resolver looks up. Default: net.DefaultResolver.
	Resolver Resolver

	// Logger hears of changes and, once, of failures. Nil: silence.
	Logger *slog.Logger
}

// DNSSource keeps the endpoints of one pool in step with a name in DNS. An
// endpoint is named by its address. Make one with NewDNSSource.
type DNSSource struct {
	store *Store
	opt   DNSOptions

	loading sync.Mutex // held for a lookup
	last    []string   // addresses in force; guarded by loading

	mu  sync.Mutex // held for a moment only
	err error      // of the last lookup
}

// NewDNSSource returns a source of store. It does nothing until Load or Run is
// called.
func NewDNSSource(store *Store, o DNSOptions) (*DNSSource, error) {
	if o.Host == "" {
		return nil, errors.New("datastore: DNSOptions.Host is required")
	}
	if o.Pool.Name == "" {
		return nil, errors.New("datastore: DNSOptions.Pool is required")
	}
	if !o.SRV && (o.Port < 1 || o.Port > 65535) {
		return nil, fmt.Errorf("datastore: DNSOptions.Port must be from 1 to 65535, or SRV set, got %d", o.Port)
	}
	if o.MetricsPort < 0 || o.MetricsPort > 65535 {
		return nil, fmt.Errorf("datastore: DNSOptions.MetricsPort must be from 1 to 65535, or 0, got %d", o.MetricsPort)
	}
	o.Network = cmp.Or(o.Network, "ip")
	if !slices.Contains([]string{"ip", "ip4", "ip6"}, o.Network) {
		return nil, fmt.Errorf("datastore: DNSOptions.Network must be ip, ip4 or ip6, got %s", shorten(o.Network))
	}
	o.Interval = max(cmp.Or(o.Interval, 10*time.Second), 100*time.Millisecond)
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxAddresses <= 0 {
		o.MaxAddresses = 1000
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &DNSSource{store: store, opt: o}, nil
}

// Load looks the name up now and sets the endpoints.
func (d *DNSSource) Load(ctx context.Context) error {
	d.loading.Lock()
	defer d.loading.Unlock()
	err := d.load(ctx)
	if err != nil && ctx.Err() != nil {
		return err // interrupted: that says nothing of the name
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && (d.err == nil || d.err.Error() != err.Error()) {
		d.opt.Logger.LogAttrs(ctx, slog.LevelWarn, "lookup of endpoints failed",
			slog.String("host", d.opt.Host), slog.Any("error", err))
	}
	d.err = err
	return err
}

// Run looks the name up at once and at every interval until ctx is done, and
// then returns nil. A failed lookup is no reason to stop.
func (d *DNSSource) Run(ctx context.Context) error {
	ticker := time.NewTicker(d.opt.Interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		_ = d.Load(ctx) // kept for Err, and logged
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	return nil
}

// Err returns what was wrong with the last lookup, nil if its answer is in
// force in full. It does not wait for a lookup under way.
func (d *DNSSource) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// load does one lookup. Caller must hold d.loading.
func (d *DNSSource) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.opt.Timeout)
	defer cancel()
	found, err := d.lookup(ctx)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("datastore: %s has no addresses", shorten(d.opt.Host))
	}
	if err != nil {
		if gone := found != nil || isNotFound(err); !gone || !d.opt.ClearOnNotFound {
			return err
		}
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	found = slices.Compact(found)
	if most := d.opt.MaxAddresses; len(found) > most {
		err = fmt.Errorf("datastore: %w: %s has %d addresses, DNSOptions.MaxAddresses is %d", ErrLimit, shorten(d.opt.Host), len(found), most)
		found = found[:most]
	}

	specs := make([]EndpointSpec, len(found))
	addresses := make([]string, len(found))
	for i, at := range found {
		spec := d.opt.Template
		spec.Address = at.String()
		spec.ID = spec.Address
		spec.MetricsAddress = ""
		if d.opt.MetricsPort != 0 {
			spec.MetricsAddress = netip.AddrPortFrom(at.Addr(), uint16(d.opt.MetricsPort)).String()
		}
		specs[i], addresses[i] = spec, spec.Address
	}
	if d.last != nil && slices.Equal(addresses, d.last) {
		return err
	}
	if err := d.store.SetEndpoints(d.opt.Pool, specs); err != nil {
		return err
	}
	d.last = addresses
	d.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "endpoints changed",
		slog.String("host", d.opt.Host), slog.String("pool", d.opt.Pool.String()), slog.Int("endpoints", len(specs)))
	return err
}

// lookup returns the addresses; an empty list that is not nil if the name has
// none, for sure.
func (d *DNSSource) lookup(ctx context.Context) ([]netip.AddrPort, error) {
	if !d.opt.SRV {
		return d.lookupHost(ctx, []netip.AddrPort{}, d.opt.Host, uint16(d.opt.Port))
	}
	_, records, err := d.opt.Resolver.LookupSRV(ctx, "", "", d.opt.Host)
	if err != nil && len(records) == 0 {
		return nil, fmt.Errorf("datastore: lookup of %s: %w", shorten(d.opt.Host), err)
	}
	found := []netip.AddrPort{}
	asked := make(map[net.SRV]bool, len(records))
	for _, r := range preferred(records) {
		target := net.SRV{Target: strings.TrimSuffix(r.Target, "."), Port: r.Port}
		// RFC 2782: the target "." says that the service is not to be had here.
		if target.Target == "" || r.Port == 0 || asked[target] {
			continue
		}
		asked[target] = true
		more, err := d.lookupHost(ctx, found, target.Target, r.Port)
		if isNotFound(err) {
			continue // the target has gone, the others have not
		}
		if err != nil {
			// Half of an answer would take endpoints away that are well.
			return nil, err
		}
		if found = more; len(found) > 10*d.opt.MaxAddresses {
			break
		}
	}
	return found, nil
}

func (d *DNSSource) lookupHost(ctx context.Context, found []netip.AddrPort, host string, port uint16) ([]netip.AddrPort, error) {
	addrs, err := d.opt.Resolver.LookupNetIP(ctx, d.opt.Network, host)
	if err != nil {
		return nil, fmt.Errorf("datastore: lookup of %s: %w", shorten(host), err)
	}
	for _, addr := range addrs {
		found = append(found, netip.AddrPortFrom(addr.Unmap(), port))
	}
	return found, nil
}

func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}

// preferred returns the records with the lowest priority number.
func preferred(records []*net.SRV) []*net.SRV {
	if len(records) == 0 {
		return nil
	}
	best := slices.MinFunc(records, func(a, b *net.SRV) int { return cmp.Compare(a.Priority, b.Priority) })
	return slices.DeleteFunc(slices.Clone(records), func(r *net.SRV) bool { return r.Priority != best.Priority })
}

var _ Resolver = (*net.Resolver)(nil)
