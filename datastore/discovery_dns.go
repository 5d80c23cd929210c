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
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Resolver looks up names, as *net.Resolver does. It is called by one goroutine at a time and
// must return when ctx is done.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
}

// DNSOptions configure a DNSSource. Pool, Host, and either Port or SRV are required.
type DNSOptions struct {
	// Pool is the pool of the endpoints. It should have no other source.
	Pool types.NamespacedName

	// Host is the name to look up, for example that of a headless service.
	Host string
	// Port is the port of all addresses of Host. Not used with SRV.
	Port int
	// SRV looks up SRV records of Host, which is then a full name such as
	// _http._tcp.llama.default.svc.cluster.local, and the addresses of their targets. Only
	// records of the most preferred priority are used; weights are ignored.
	SRV bool

	// Network is "ip4", "ip6", or "ip" for both. Default "ip".
	Network string

	// Template has the common fields of all endpoints, such as labels, capacity, engine and
	// metrics path. ID, Address and MetricsAddress come from DNS.
	Template EndpointSpec

	// MetricsPort is the port of the metrics. Default: the port of the endpoint.
	MetricsPort int

	// Interval is the time between lookups. Default 10s, at least 100ms.
	Interval time.Duration
	// Timeout bounds a lookup. Default 5s.
	Timeout time.Duration

	// MaxAddresses bounds the endpoints. If there are more addresses, the lowest ones are used
	// and Err reports it. Default 1,000.
	MaxAddresses int

	// AllowRanges lists the ranges whose addresses may become endpoints. Addresses outside are
	// skipped, and Err reports them. IPv4-mapped IPv6 addresses (::ffff:0:0/96) count as IPv4.
	//
	// Default: all except loopback (127.0.0.0/8, ::1) and link-local (169.254.0.0/16, where
	// clouds serve credentials, and fe80::/10). Loopback is also allowed if Host is localhost or
	// ends in .localhost. Host itself may be an address of any range. Unspecified (0.0.0.0/8,
	// ::), multicast and broadcast addresses are never allowed.
	AllowRanges []netip.Prefix

	// ClearOnNotFound removes all endpoints if the name does not exist or has no addresses.
	// Default: they stay, as after any failed lookup, so that a misbehaving name server does not
	// take a service down.
	ClearOnNotFound bool

	// Resolver does the lookups. Default net.DefaultResolver.
	Resolver Resolver

	// Logger receives changes and failures, repeated ones only once. Nil: no logging.
	Logger *slog.Logger
}

// DNSSource keeps the endpoints of a pool in sync with a DNS name. The ID of an endpoint is its
// address. Create one with NewDNSSource.
//
// If others delete the pool after it was filled, the source does not create it anew, and Err
// reports that it is missing. When it exists again it gets its endpoints back: at once while Run
// is running, otherwise with the next Load.
type DNSSource struct {
	store  *Store
	opt    DNSOptions
	panics *guard.Teller

	loading sync.Mutex                     // held during a lookup
	last    map[types.NamespacedName]given // the pool's endpoints; guarded by loading

	mu  sync.Mutex // held for a moment only
	err error      // of the last lookup
}

// NewDNSSource returns a source for store, or an error that lists all invalid options. It does
// nothing until Load or Run is called.
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
	o.Logger = guardlog.Logger(o.Logger)
	if err := c.Err(); err != nil {
		return nil, err
	}
	return &DNSSource{store: store, opt: o, panics: guardlog.Teller(o.Logger, "datastore: DNSSource")}, nil
}

// Load looks up the name and sets the endpoints.
func (d *DNSSource) Load(ctx context.Context) error {
	d.loading.Lock()
	defer d.loading.Unlock()
	err := d.load(ctx)
	if err != nil && ctx.Err() != nil {
		return err // interrupted, which says nothing about the name
	}
	d.note(ctx, err)
	return err
}

// note records an error for Err, and logs it if it differs from the previous one.
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

// Run looks up the name at once and at every interval until ctx is done, and then returns nil.
// It continues after failed lookups, of which one that panics is one.
func (d *DNSSource) Run(ctx context.Context) error {
	d.panics.Loop(ctx, "Run", func() { d.run(ctx) })
	return nil
}

func (d *DNSSource) run(ctx context.Context) {
	ticker := time.NewTicker(d.opt.Interval)
	defer ticker.Stop()
	wake, stop := d.store.wakeOnPools()
	defer stop()
	for ctx.Err() == nil {
		_ = d.Load(ctx) // recorded for Err, and logged
		d.wait(ctx, ticker.C, wake)
	}
}

// wait returns when it is time for the next lookup. Meanwhile it refills the pool if that is
// created anew.
func (d *DNSSource) wait(ctx context.Context, tick <-chan time.Time, wake <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			return
		case <-wake:
			d.restore(ctx)
		}
	}
}

// restore is refill, whose result it notes.
func (d *DNSSource) restore(ctx context.Context) {
	d.loading.Lock()
	defer d.loading.Unlock()
	if filled, err := d.refill(ctx); filled || err != nil {
		d.note(ctx, err)
	}
}

// refill sets the pool's endpoints again if it was deleted and created anew, and reports
// whether it did. Caller must hold d.loading.
func (d *DNSSource) refill(ctx context.Context) (filled bool, err error) {
	n, err := d.store.refill(d.last)
	if n > 0 {
		d.opt.Logger.LogAttrs(ctx, slog.LevelInfo, "the pool is back and has its endpoints again",
			slog.String("host", d.opt.Host), slog.String("pool", d.opt.Pool.String()))
	}
	return n > 0, err
}

// Err returns the error of the last lookup, or nil if its answer was applied completely. It does
// not wait for a lookup in progress.
func (d *DNSSource) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// load does one lookup. Caller must hold d.loading.
func (d *DNSSource) load(ctx context.Context) error {
	// Before anything that may fail: the last known addresses still hold.
	_, lost := d.refill(ctx)
	ctx, cancel := context.WithTimeout(ctx, d.opt.Timeout)
	defer cancel()
	found, err := d.lookUp(ctx)
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
		return errors.Join(refused, lost) // a bad answer must not take a service down
	}
	if most := d.opt.MaxAddresses; len(usable) > most {
		err = fmt.Errorf("datastore: %w: %s has %d addresses, DNSOptions.MaxAddresses is %d", ErrLimit, shorten(d.opt.Host), len(usable), most)
		usable = usable[:most]
	}
	return errors.Join(err, refused, d.set(ctx, usable, lost != nil))
}

// sift returns the addresses that may become endpoints, and an error that names others.
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

// Addresses that no server can have: "this network" (RFC 1122) and broadcast.
var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

// allowed implements DNSOptions.AllowRanges.
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

// set sets the pool's endpoints if they changed or must is set, unless the pool was deleted.
// Caller must hold d.loading.
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
		d.last[d.opt.Pool] = given{specs, before.born} // for refill
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

// lookUp is lookup, of which a panic is a failure.
func (d *DNSSource) lookUp(ctx context.Context) (found []netip.AddrPort, err error) {
	err = d.panics.Try("Resolver", func() (err error) {
		found, err = d.lookup(ctx)
		return err
	})
	return found, err
}

// lookup returns the addresses. An empty non-nil list means that the name certainly has none.
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
		// RFC 2782: the target "." means that the service is not available here.
		if target.Target == "" || r.Port == 0 || asked[target] {
			continue
		}
		asked[target] = true
		more, err := d.lookupHost(ctx, found, target.Target, r.Port)
		if isNotFound(err) {
			continue // this target is gone, but not the others
		}
		if err != nil {
			// A partial answer would remove healthy endpoints.
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
