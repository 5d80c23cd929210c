package kvevents

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/guardlog"
	"github.com/inferpick/inferpick/types"
)

// Options say how engines are listened to. The zero value, with a Sink, is ready to use.
type Options struct {
	// Sink takes what engines say. Required, unless OnLoad is set.
	Sink Sink

	// Tokens makes events bring the token ids of blocks (types.KVEvent.Tokens), for a Sink that knows
	// prompts by them. Default: they are skipped.
	Tokens bool

	// OnLoad is told of the load that engines push, as SGLang does. Calls about one rank come one
	// at a time, at once with those of others and with those of the Sink. It must be quick.
	// Optional.
	OnLoad func(endpoint string, rank int, l Load)

	// Sources says where the events of an endpoint come from: nil if the engine is to be asked,
	// none if there are none. Of an endpoint that is a rank, those of other ranks are left out. It
	// is called where the Store calls its watchers, so it must be quick. Default: all engines are
	// asked.
	Sources func(pool types.NamespacedName, ep *types.Endpoint) []Source

	// Listen are the addresses, host:port, where engines connect to that do not wait to be connected to
	// themselves: vLLM if its endpoint has this gateway's host in place of the *. Rank r connects to the
	// port that is r above the one in its endpoint, and so to Listen[r]. If there are any, no engine's
	// Endpoint is connected to, but its Replay is. A connection belongs to the endpoint from whose host it
	// comes, and which has rank r if it is a rank; where several are at one host, topics must say which it is, by its address, as in
	// "kv@10.0.0.7:8000@llama". Who comes from elsewhere is refused.
	Listen []string

	// MaxPending bounds the connections that are not known yet to belong to an endpoint. Default 64, at
	// most 4,096; from one host no more than an eighth of it, rounded up. Further ones are closed.
	MaxPending int

	// Name gives an endpoint the name that the Sink knows it by. Of endpoints with the same name,
	// as those of two pools that share servers, one is listened to at a time; ranks of one server
	// need different names. Default: its ID.
	Name func(pool types.NamespacedName, ep *types.Endpoint) string

	// DiscoverInterval is the time after which an engine is asked again where it publishes.
	// Default 1 min, at least 1 s. After a restart it is asked at once.
	DiscoverInterval time.Duration

	// PollInterval is the time from one request for events to the next, of engines that are asked
	// for them by HTTP. Default 200 ms, at least 10 ms.
	PollInterval time.Duration

	// Timeout bounds a request, and connecting to a publisher with all that belongs to it.
	// Default 5 s.
	Timeout time.Duration

	// MinBackoff and MaxBackoff bound the wait after a failure, which doubles with each one that
	// follows another. Waits are up to a quarter longer, at random. Defaults 250 ms and 30 s.
	MinBackoff, MaxBackoff time.Duration

	// ReplayTimeout bounds a replay with all its tries, ReplayIdle the wait for its next batch.
	// Defaults 30 s and 2 s. Until a replay is over, nothing else is read from that engine, which
	// queues what it publishes.
	ReplayTimeout, ReplayIdle time.Duration

	// ReplayCooldown is the time after a replay that failed in which that engine is not asked for
	// another one. Default 30 s.
	ReplayCooldown time.Duration

	// Replays bounds the replays at once. Default 8, at most 1,024.
	Replays int

	// MaxMessage bounds a message, in bytes. Default 16 MiB, at most 1 GiB. Longer ones end the
	// connection. Memory is taken as bytes come in.
	MaxMessage int

	// MaxBody bounds an answer by HTTP, in bytes. Default 16 MiB, at most 1 GiB.
	MaxBody int

	// MaxRanks bounds the ranks of an endpoint. Default 64, at most 4,096. Further ones are
	// not listened to.
	MaxRanks int

	// Dial connects to publishers. Default: that of a net.Dialer which notices peers that are
	// gone within half a minute.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Transport makes the requests, if set: for TLS settings, authentication or a proxy. Default:
	// a http.Transport without proxy.
	Transport http.RoundTripper

	// OnFailure is told of each failure. It is called from many goroutines. Optional.
	OnFailure func(Failure)

	// Logger is told when a source begins to fail and when it recovers, not of the failures
	// between, and of functions of the user's that panic. Default: silent.
	Logger *slog.Logger

	// Seed is where the random times come from: an endpoint's depend on it and on its name.
	Seed uint64
}

// Failure is something that did not work.
type Failure struct {
	Pool     types.NamespacedName
	Endpoint string // its name
	Rank     int
	URL      string // of what failed
	Err      error
}

// alive is how peers that are gone are noticed within half a minute.
var alive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// withDefaults returns o with its defaults filled in, or what is wrong with it.
func (o Options) withDefaults() (Options, error) {
	c := check.Checks{Package: "kvevents"}
	if o.Sink == nil && o.OnLoad == nil {
		c.Failf("Sink", "is required, unless OnLoad is set")
	}
	check.Default(&c, "DiscoverInterval", &o.DiscoverInterval, time.Minute, time.Second, 0)
	check.Default(&c, "PollInterval", &o.PollInterval, 200*time.Millisecond, 10*time.Millisecond, 0)
	check.Positive(&c, "Timeout", &o.Timeout, 5*time.Second)
	check.Positive(&c, "MinBackoff", &o.MinBackoff, 250*time.Millisecond)
	check.Positive(&c, "MaxBackoff", &o.MaxBackoff, 30*time.Second)
	check.Positive(&c, "ReplayTimeout", &o.ReplayTimeout, 30*time.Second)
	check.Positive(&c, "ReplayIdle", &o.ReplayIdle, 2*time.Second)
	check.Positive(&c, "ReplayCooldown", &o.ReplayCooldown, 30*time.Second)
	check.Default(&c, "Replays", &o.Replays, 8, 1, 1024)
	check.Default(&c, "MaxMessage", &o.MaxMessage, 16<<20, 1<<10, 1<<30)
	check.Default(&c, "MaxBody", &o.MaxBody, 16<<20, 1<<10, 1<<30)
	check.Default(&c, "MaxRanks", &o.MaxRanks, 64, 1, 4096)
	check.Default(&c, "MaxPending", &o.MaxPending, 64, 1, 4096)
	c.Want(len(o.Listen) <= max(o.MaxRanks, 0), "Listen", o.Listen, "an address for each rank, MaxRanks at most")
	if o.Name == nil {
		o.Name = func(_ types.NamespacedName, ep *types.Endpoint) string { return ep.ID }
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{KeepAliveConfig: alive}).DialContext
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 90 * time.Second}
	}
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	if o.Logger != nil {
		o.Logger = guardlog.Logger(o.Logger)
	}
	return o, c.Err()
}
