package scrape

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Options say how endpoints are scraped. The zero value is ready to use.
type Options struct {
	// Interval is the time from one scrape of an endpoint to the next. Default
	// 200 ms, at least 1 ms. A page that takes longer delays the next one: an
	// endpoint has one request under way at most.
	Interval time.Duration

	// Jitter is the fraction of the Interval by which each wait may be longer or
	// shorter, at random. Default 0.1, at most 0.5, negative for none. The first
	// scrape of an endpoint comes at a random time within one Interval in any
	// case, so that a fleet is not asked all at once.
	Jitter float64

	// Timeout bounds one scrape, connecting included. Default 1 s.
	Timeout time.Duration

	// ModelsInterval is the time from one request for an endpoint's models, GET
	// /v1/models, to the next. The first comes with the first scrape, and one after each
	// restart. Default 10 s, at least 1 ms, negative for none at all. It is the endpoint's
	// own address that is asked, by its MetricsScheme if its metrics are there too, else by
	// http, and never while its metrics are. After failures to answer it waits as for
	// metrics; after an answer that is no list, as 404, for six times this.
	ModelsInterval time.Duration

	// MaxBackoff bounds the wait after failures, which doubles with each one that
	// follows another, from twice the Interval. Default 10 s; never less than the
	// Interval. The first success brings the wait back to the Interval.
	MaxBackoff time.Duration

	// MaxBody bounds a page, and a list of models, in bytes. Default 4 MiB, at most 1 GiB.
	// Larger ones are ErrTooLarge.
	MaxBody int

	// Transport makes the requests, if set: for TLS settings, authentication or a
	// proxy. It is asked by all endpoints, at most once at a time by each; keeping
	// a connection to each open is up to it. Default: a http.Transport for each
	// endpoint, without proxy, whose connection is closed when the endpoint goes.
	Transport http.RoundTripper

	// Engines are the engines that are known. Default: DefaultEngines.
	Engines []Engine

	// OnScrape is told of every scrape, failed or not. It is called from many
	// goroutines, and holds up its endpoint's next scrape. Optional. If it panics, as
	// whatever else a Scraper calls, Logger hears of it.
	OnScrape func(Result)

	// OnModels is told of every request for an endpoint's models, as OnScrape is of
	// scrapes. Optional.
	OnModels func(ModelsResult)

	// Logger is told when an endpoint's metrics begin to fail and when they recover, not
	// of the failures between, nor of models. Default: silent.
	Logger *slog.Logger

	// Now is the clock that readings are stamped with. Default time.Now, which also takes its place where it
	// panics. It is not what waits are measured with.
	Now func() time.Time

	// Seed is where the random times come from: an endpoint's depend on it and on
	// its ID.
	Seed uint64
}

// Result is what came of one scrape.
type Result struct {
	Pool     types.NamespacedName
	Endpoint string        // ID
	URL      string        // of the page
	Engine   string        // empty if it is not known yet
	Bytes    int           // size of the page
	Duration time.Duration // from the request to the end of reading
	Err      error         // nil: the store has the reading
}

// withDefaults returns o with its defaults filled in, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	c := check.Checks{Package: "scrape"}
	check.Default(&c, "Interval", &o.Interval, 200*time.Millisecond, time.Millisecond, 0)
	check.Positive(&c, "Timeout", &o.Timeout, time.Second)
	check.Positive(&c, "MaxBackoff", &o.MaxBackoff, 10*time.Second)
	check.Default(&c, "MaxBody", &o.MaxBody, 4<<20, 1, 1<<30)
	if o.ModelsInterval >= 0 { // below 0: never
		check.Default(&c, "ModelsInterval", &o.ModelsInterval, 10*time.Second, time.Millisecond, 0)
	}
	if !(o.Jitter < 0) { // below 0: none
		check.Default(&c, "Jitter", &o.Jitter, 0.1, 0, 0.5)
	}
	if o.Engines == nil {
		o.Engines = DefaultEngines()
	}
	c.Want(len(o.Engines) > 0, "Engines", []string{}, "some, or nil for the defaults")
	o.Jitter = max(o.Jitter, 0)
	o.MaxBackoff = max(o.MaxBackoff, o.Interval)
	o.ModelsInterval = min(o.ModelsInterval, 365*24*time.Hour) // six times that is a Duration
	if o.Logger != nil {
		o.Logger = guardlog.Logger(o.Logger)
	}
	return o, c.Err()
}
