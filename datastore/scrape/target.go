package scrape

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/internal/guard"
	"github.com/inferpick/inferpick/types"
)

// address is what of an endpoint's specification a target depends on.
type address struct {
	scheme, host, path, engine string
	server                     string // where the models are asked for
}

// otherEngineLabel names the engine where datastore.EngineLabel does not.
const otherEngineLabel = "llm-d.ai/engine-type"

func addressOf(spec datastore.EndpointSpec) address {
	return address{
		scheme: cmp.Or(spec.MetricsScheme, "http"), host: spec.MetricsHost(), path: spec.MetricsPath, engine: spec.Engine,
		server: spec.ServerURL(),
	}
}

// target scrapes one endpoint, or all ranks of its server, in a goroutine of its own: however long a server
// takes to answer, no other waits for it. Between scrapes it costs that
// goroutine's stack, a timer and a connection; the memory for a page is borrowed
// when one arrives.
type target struct {
	*Scraper
	ctx    context.Context
	wake   chan struct{} // cuts a wait short
	reborn atomic.Bool   // the server has started anew

	pool types.NamespacedName
	id   string
	load *types.Load
	spec datastore.EndpointSpec

	server *server    // whose ranks it works for; nil: the endpoint is none
	alone  [1]*member // the endpoint, if it is none
	ranks  []int      // memory

	set   *settings
	to    address // of spec by set
	table *table

	invalid   error // what is wrong with the specification: nothing is asked for
	transport http.RoundTripper
	plain     *plain   // what makes requests without TLS; nil: transport
	request   *request // for the path requested
	requested string

	paths    []string // to be tried; the first is the one that is read now
	engine   int      // index in the table, -1 if it is not known
	fixed    bool     // the engine is given, not found out
	rand     types.Rand
	moved    bool          // paths[0] is where the server sent us on to
	failures int           // in a row
	failing  bool          // as far as the log knows
	panics   *guard.Teller // in place of the Scraper's: it names the endpoint

	due    time.Time // of the next scrape
	models *models   // nil: they are not asked for
}

func (s *Scraper) newTarget(ctx context.Context, ev datastore.Event) *target {
	h := fnv.New64a()
	h.Write([]byte(ev.Endpoint.ID))
	t := &target{
		Scraper: s,
		ctx:     ctx,
		wake:    make(chan struct{}, 1),
		pool:    ev.Pool,
		id:      ev.Endpoint.ID,
		load:    ev.Endpoint.Load,
		spec:    ev.Spec,
		alone:   [1]*member{memberOf(ev)},
		rand:    types.NewRand(s.opt.Seed ^ h.Sum64()),
	}
	t.panics = guard.NewTeller(t.panicked)
	t.adopt(s.settingsOf(ev.Pool))
	return t
}

func (t *target) validate() error {
	if t.to.scheme != "http" && t.to.scheme != "https" {
		return fmt.Errorf("scheme %q is neither http nor https", t.to.scheme)
	}
	if err := validAddress(t.to.host); err != nil {
		return err
	}
	return validPath(t.paths[0])
}

// resetPaths sets where the page may be: where the specification says, else where
// the engine has it, else wherever any engine has it, one after the other.
func (t *target) resetPaths() {
	t.moved = false
	switch {
	case t.to.path != "":
		t.paths = []string{t.to.path}
	case t.fixed:
		t.paths = []string{t.table.engines[t.engine].path()}
	default:
		t.paths = nil
		for i := range t.table.engines {
			if path := t.table.engines[i].path(); !slices.Contains(t.paths, path) {
				t.paths = append(t.paths, path)
			}
		}
	}
}

// Restart makes the target forget what it has found out about the server, and
// scrape it soon. It may be called from any goroutine.
func (t *target) Restart() {
	t.reborn.Store(true)
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run scrapes until the target is cancelled or its endpoint has gone.
func (t *target) Run() {
	defer t.disconnect()

	wait := time.Duration(t.rand.Float64() * float64(t.opt.Interval))
	t.due = time.Now().Add(wait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-timer.C:
		case <-t.wake:
			t.due = time.Now()
		}
		if t.reborn.Swap(false) {
			t.failures = 0
			t.resetPaths()
			if !t.fixed {
				t.engine = -1
			}
			t.models.restart()
		}
		if set := t.settingsOf(t.pool); set != t.set {
			t.adopt(set)
		}
		if !t.work() {
			return
		}
		timer.Reset(time.Until(t.models.before(t.due)))
	}
}

// work makes the requests that are due, one after the other. It returns false if there is
// nothing more to do. What panics under it (a watcher of the store, Options.Transport) is not
// ours: it costs a wait, not the process.
func (t *target) work() (stays bool) {
	defer t.panics.Recovered("a scrape", func() {
		stays, t.failing = true, true
		t.failures++
		t.due = t.next(t.due, time.Now())
		t.models.later(t.due)
	})
	if now := time.Now(); !now.Before(t.due) {
		if stays := t.scrape(); !stays || t.ctx.Err() != nil {
			return false
		}
		t.due = t.next(t.due, time.Now())
	}
	if t.models != nil && !time.Now().Before(t.models.due) {
		return t.askModels() && t.ctx.Err() == nil
	}
	return true
}

// disconnect closes the endpoint's connection, unless it is the user's.
func (t *target) disconnect() {
	if own, ok := t.transport.(*http.Transport); ok && t.transport != t.opt.Transport {
		own.CloseIdleConnections()
	}
	if t.plain != nil {
		t.plain.close()
	}
}

// next returns when the next scrape is due, if the last one was at due. Waits are measured from there, so that the time a
// scrape takes does not slow the rate down; a scrape that took too long for that
// is followed by a full wait.
func (t *target) next(due, now time.Time) time.Time {
	every := t.opt.Interval
	from := due
	if t.failures > 0 {
		every = t.backoff(t.failures)
		from = now
	}
	every = t.jitter(every)
	due = from.Add(every)
	if due.Before(now) {
		due = now.Add(every)
	}
	return due
}

// jitter makes a wait a little longer or shorter.
func (t *target) jitter(wait time.Duration) time.Duration {
	return wait + time.Duration((2*t.rand.Float64()-1)*t.opt.Jitter*float64(wait))
}

// backoff returns the wait after so many failures in a row.
func (t *target) backoff(failures int) time.Duration {
	wait := t.opt.Interval
	for range failures {
		if wait *= 2; wait >= t.opt.MaxBackoff {
			return t.opt.MaxBackoff
		}
	}
	return wait
}

// scrape gets one page and stores what it says. It returns false if the endpoint
// has gone.
func (t *target) scrape() (stays bool) {
	start := time.Now()
	asked := t.paths[0]
	members := t.members()
	size, stays, err := t.read(start.Add(t.opt.Timeout), members)
	if t.ctx.Err() != nil {
		return false // what went wrong is that it was cancelled
	}
	if isTimeout(err) {
		err = fmt.Errorf("scrape: no complete page within %v: %w", t.opt.Timeout, err)
	}
	t.tell(err)
	r := Result{Pool: t.pool, URL: t.pageURL(asked), Bytes: size, Duration: time.Since(start)}
	if t.engine >= 0 {
		r.Engine = t.table.engines[t.engine].Name
	}
	for _, m := range members {
		r.Endpoint, r.Err = m.id, m.err
		if err == nil {
			t.tellOf(m)
		} else if m.err == nil {
			r.Err = err
		}
		if t.opt.OnScrape != nil {
			t.panics.Call("Options.OnScrape", func() { t.opt.OnScrape(r) })
		}
	}
	return stays
}

// read is scrape without telling anybody. It fails if it has a reading for nobody. The error of a member
// alone is with it.
func (t *target) read(deadline time.Time, members []*member) (size int, stays bool, err error) {
	for _, m := range members {
		m.err = nil
	}
	at := t.opt.Now() // the figures on the page are not older than this
	b, err := t.page(deadline)
	if err != nil {
		return 0, true, err
	}
	defer t.Scraper.pool.put(b)
	engine, err := b.reader.read(t.table, b.page, b.openMetrics, t.engine, !t.fixed, t.ranksOf(members))
	if err != nil {
		if !t.fixed && errors.Is(err, ErrNoMetrics) {
			t.engine = -1
		}
		if errors.Is(err, ErrNoMetrics) {
			t.nextPath()
		}
		return len(b.page), true, err
	}
	t.engine = engine
	stays, found := true, false
	for i, m := range members {
		if t.ctx.Err() != nil {
			return len(b.page), false, nil
		}
		if !b.reader.hasLoad(i) {
			m.err = noRank(&t.table.engines[engine], m.rank)
			continue
		}
		found = true
		reading := b.reader.metrics(i, &m.cache)
		reading.UpdatedAt = at
		if has := t.store.UpdateMetrics(m.load, reading); m.load == t.load {
			stays = has
		}
	}
	if !found && len(members) > 0 {
		return len(b.page), stays, members[0].err
	}
	return len(b.page), stays, nil
}

// page gets the page. Some frameworks send "/metrics" on to "/metrics/": where a
// server sends us on to itself, the page is read there, from now on.
func (t *target) page(deadline time.Time) (*buffer, error) {
	if t.invalid != nil {
		return nil, t.invalid
	}
	for hops := 0; ; hops++ {
		if t.request == nil || t.requested != t.paths[0] {
			req, err := newRequest(t.url(t.paths[0]), accept)
			if err != nil {
				return nil, err
			}
			t.request, t.requested = req, t.paths[0]
		}
		a, err := t.fetch(t.request, deadline)
		if err != nil {
			return nil, err
		}
		switch a.status {
		case 200:
			return a.page, nil
		case 301, 302, 307, 308:
			if path := t.sameServer(a.location); path != "" && hops == 0 {
				t.paths[0], t.moved = path, true
				continue
			}
		case 404:
			if t.moved {
				t.resetPaths()
			} else {
				t.nextPath()
			}
		}
		return nil, &StatusError{Status: a.status, Location: a.location}
	}
}

// nextPath makes the next path the one to read, if there are several.
func (t *target) nextPath() {
	t.paths = append(t.paths[1:len(t.paths):len(t.paths)], t.paths[0])
}

// sameServer returns the path that location points to, if it is on this server.
func (t *target) sameServer(location string) string {
	base, err := url.Parse(t.url(t.paths[0]))
	if err != nil {
		return ""
	}
	u, err := base.Parse(location)
	if err != nil || location == "" || u.Scheme != base.Scheme || u.Host != base.Host || validPath(u.RequestURI()) != nil {
		return ""
	}
	return u.RequestURI()
}

// pageURL is url, without making it anew for the page that is read as a rule.
func (t *target) pageURL(path string) string {
	if t.request == nil || t.requested != path {
		return t.url(path)
	}
	return t.request.url
}

func (t *target) url(path string) string { return t.to.scheme + "://" + t.to.host + path }

// tell counts a failure or success, and logs where it is the first one.
func (t *target) tell(err error) {
	switch {
	case err != nil:
		t.failures++
		if !t.failing {
			t.log(slog.LevelWarn, "the endpoint's metrics cannot be read", slog.Any("error", err))
		}
	case t.failing:
		t.log(slog.LevelInfo, "the endpoint's metrics can be read again", slog.Int("failures", t.failures))
		t.failures = 0
	}
	t.failing = err != nil
}

// tellOf logs that a page has nothing of a member, or again has it, where that is new.
func (t *target) tellOf(m *member) {
	switch failing := m.err != nil; {
	case failing && !m.failing:
		t.log(slog.LevelWarn, "the endpoint's rank is not among the metrics", slog.String("rank", m.id), slog.Any("error", m.err))
	case !failing && m.failing:
		t.log(slog.LevelInfo, "the endpoint's rank is among the metrics again", slog.String("rank", m.id))
	}
	m.failing = m.err != nil
}

// panicked tells of what panicked and is not ours.
func (t *target) panicked(p *guard.Panic, more int) {
	t.log(slog.LevelError, p.In+" panicked", slog.String("panic", fmt.Sprintf("%v\n%s", p.Value, p.Stack)), slog.Int("before", more))
}

func (t *target) log(level slog.Level, msg string, attrs ...slog.Attr) {
	if l := t.opt.Logger; l != nil {
		all := []slog.Attr{slog.String("pool", t.pool.String()), slog.String("endpoint", t.id), slog.String("url", t.url(t.paths[0]))}
		l.LogAttrs(t.ctx, level, msg, append(all, attrs...)...)
	}
}
