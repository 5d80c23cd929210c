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

	"github.com/inferpick/inferpick/internal/check"
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

	// AllowRanges, if not empty, are the only ranges whose addresses become endpoints.
	// Default: all but those that point into a host or onto its link, loopback
	// (127.0.0.0/8, ::1) and link-local (169.254.0.0/16, where clouds keep credentials,
	// and fe80::/10). Loopback is allowed too if Host is localhost or ends in .localhost.
	// Host itself may be an address of any range. No option allows unspecified addresses
	// (0.0.0.0/8, ::), multicast and broadcast, which no server has. An IPv4 address is
	// the same one in IPv6 (::ffff:0:0/96).
	//
	// Of an answer that has others the rest is used, and Err says so.
	AllowRanges []netip.Prefix

	// ClearOnNotFound removes all endpoints when the name does not exist or has
	// no addresses at all. Default: they stay, as after any failed lookup, because a
	// name server that answers wrongly must not take a service down.
	ClearOnNotFound bool

	// Resolver looks up. Default: net.DefaultResolver.
	Resolver Resolver

	// Logger hears of changes and, once, of failures. Nil: silence.
	Logger *slog.Logger
}

// DNSSource keeps the endpoints of one pool in step with a name in DNS. An
// endpoint is named by its address. Make one with NewDNSSource.
//
// If the pool is deleted after it was filled, the source does not make it anew: Err says
// that it is missing. When it is back it has its endpoints again, at once while Run runs.
type DNSSource struct {
	store *Store
	opt   DNSOptions

	loading sync.Mutex                     // held for a lookup
	last    map[types.NamespacedName]given // what the pool was given; guarded by loading

	mu  sync.Mutex // held for a moment only
	err error      // of the last lookup
}

// NewDNSSource returns a source of store. It does nothing until Load or Run is
// called.
func NewDNSSource(store *Store, o DNSOptions) (*DNSSource, error) {
	c := check.Checks{Package: "datastore: DNSOptions"}
	check.Required(&c, "Host", o.Host)
	check.Required(&c, "Pool", o.Pool.Name)
	if !o.SRV {
		check.Range(&c, "Port", o.Port, 1, 65535)
	}
	check.Range(&c, "MetricsPort", o.MetricsPort, 0, 65535)
	o.Network = cmp.Or(o.Network, "ip")
	c.OneOf("Network", o.Network, "ip", "ip4", "ip6")
	o.Interval = max(cmp.Or(o.Interval, 10*time.Second), 100*time.Millisecond)
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	ranges := make([]netip.Prefix, len(o.AllowRanges))
	for i, r := range o.AllowRanges {
		if !r.IsValid() {
			c.Failf(fmt.Sprintf("AllowRanges[%d]", i), "is no range")
		}
		if a := r.Addr(); a.Is4In6() && r.Bits() >= 96 {
			r = netip.PrefixFrom(a.Unmap(), r.Bits()-96)
		}
		ranges[i] = r
	}
	o.AllowRanges = ranges
	o.Pool = withNamespace(o.Pool)
	if o.MaxAddresses <= 0 {
		o.MaxAddresses = 1000
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := c.Err(); err != nil {
		return nil, err
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
	d.note(ctx, err)
	return err
}

// note keeps an error for Err, and logs it if it is another than before.
func (d *DNSSource) note(ctx context.Context, err error) {
	d.mu.Lock()
	before := d.err
	d.err = err
	d.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		d.opt.Logger.LogAttrs(ctx, slog.LevelWarn, "lookup of endpoints failed",
			slog.String("host", d.opt.Host), slog.Any("error", err))
	}
}

// Run looks the name up at once and at every interval until ctx is done, and
// then returns nil. A failed lookup is no reason to stop.
func (d *DNSSource) Run(ctx context.Context) error {
	ticker := time.NewTicker(d.opt.Interval)
	defer ticker.Stop()
	wake, stop := d.store.wakeOnPools()
	defer stop()
	for ctx.Err() == nil {
		_ = d.Load(ctx) // kept for Err, and logged
		d.wait(ctx, ticker.C, wake)
	}
	return nil
}

// wait returns when it is time for another lookup, and meanwhile fills the pool when it
// is back.
func (d *DNSSource) wait(ctx context.Context, tick <-chan time.Time, wake <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			return
		case <-wake:
			d.loading.Lock()
			back, err := d.refill(ctx)
			if back || err != nil {
				d.note(ctx, err)
			}
			d.loading.Unlock()
		}
	}
}

// refill gives the pool its endpoints again if it was deleted and is back, and reports
// whether it was. Caller must hold d.loading.
func (d *DNSSource) refill(ctx context.Context) (back bool, err error) {
	n, err := d.store.refill(d.last)
	if n > 0 {
		d.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "the pool is back and has its endpoints again",
			slog.String("host", d.opt.Host), slog.String("pool", d.opt.Pool.String()))
	}
	return n > 0, err
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
	// Before anything that may fail: what was known of the name is still true.
	_, lost := d.refill(ctx)
	ctx, cancel := context.WithTimeout(ctx, d.opt.Timeout)
	defer cancel()
	found, err := d.lookup(ctx)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("datastore: %s has no addresses", shorten(d.opt.Host))
	}
	if gone := found != nil || isNotFound(err); err != nil && !(gone && d.opt.ClearOnNotFound) {
		return errors.Join(err, lost)
	}
	slices.SortFunc(found, netip.AddrPort.Compare)
	found = slices.Compact(found)
	usable, refused := d.sift(found)
	if refused != nil && len(usable) == 0 {
		return errors.Join(refused, lost) // a wrong answer must not take a service down
	}
	if most := d.opt.MaxAddresses; len(usable) > most {
		err = fmt.Errorf("datastore: %w: %s has %d addresses, DNSOptions.MaxAddresses is %d", ErrLimit, shorten(d.opt.Host), len(usable), most)
		usable = usable[:most]
	}
	return errors.Join(err, refused, d.set(ctx, usable, lost != nil))
}

// sift returns the addresses that may become endpoints, and an error that tells of others.
func (d *DNSSource) sift(found []netip.AddrPort) (usable []netip.AddrPort, err error) {
	var refused []string
	for _, at := range found {
		if d.allowed(at.Addr().WithZone("")) {
			usable = append(usable, at)
		} else {
			refused = append(refused, at.Addr().String())
		}
	}
	if len(refused) == 0 {
		return usable, nil
	}
	refused = slices.Compact(refused)
	few := refused[:min(len(refused), 5)]
	return usable, fmt.Errorf("datastore: %s has %d addresses that may not become endpoints (DNSOptions.AllowRanges): %s",
		shorten(d.opt.Host), len(refused), strings.Join(few, ", "))
}

// Addresses that no server has: of "this network" (RFC 1122), and the broadcast one.
var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

// allowed is what DNSOptions.AllowRanges says.
func (d *DNSSource) allowed(addr netip.Addr) bool {
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || addr == broadcast || thisNetwork.Contains(addr) {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(d.opt.Host, "."))
	if literal, err := netip.ParseAddr(host); err == nil && literal.Unmap().WithZone("") == addr {
		return true
	}
	if ranges := d.opt.AllowRanges; len(ranges) > 0 {
		return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(addr) })
	}
	if addr.IsLoopback() {
		return host == "localhost" || strings.HasSuffix(host, ".localhost")
	}
	return !addr.IsLinkLocalUnicast()
}

// set gives the pool its endpoints, if they are others than before or must be given in any
// case, unless the pool was deleted. Caller must hold d.loading.
func (d *DNSSource) set(ctx context.Context, found []netip.AddrPort, must bool) error {
	specs := make([]EndpointSpec, len(found))
	for i, at := range found {
		spec := d.opt.Template
		spec.Address = at.String()
		spec.ID = spec.Address
		spec.MetricsAddress = ""
		if d.opt.MetricsPort != 0 {
			spec.MetricsAddress = netip.AddrPortFrom(at.Addr(), uint16(d.opt.MetricsPort)).String()
		}
		specs[i] = spec
	}
	before, filled := d.last[d.opt.Pool]
	if filled && d.store.Snapshot().Pool(d.opt.Pool) == nil {
		specs, err := prepareSpecs(d.opt.Pool, specs)
		if err != nil {
			return err
		}
		d.last[d.opt.Pool] = given{specs, before.born} // for when it is back
		return fmt.Errorf("datastore: %w: %s was deleted, and has the endpoints of %s again when it is back", ErrNoPool, d.opt.Pool, shorten(d.opt.Host))
	}
	if filled && !must && slices.EqualFunc(specs, before.specs, func(a, b EndpointSpec) bool { return a.ID == b.ID }) {
		return nil
	}
	now, err := d.store.commit(Change{Endpoints: map[types.NamespacedName][]EndpointSpec{d.opt.Pool: specs}})
	if err != nil {
		return err
	}
	d.last = now
	d.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "endpoints changed",
		slog.String("host", d.opt.Host), slog.String("pool", d.opt.Pool.String()), slog.Int("endpoints", len(specs)))
	return nil
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
