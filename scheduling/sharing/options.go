package sharing

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"
)

// Defaults of Options.
const (
	DefaultEvery    = 50 * time.Millisecond
	DefaultWhole    = time.Second
	DefaultTTL      = 3 * time.Second
	DefaultMaxPeers = 64
	DefaultMaxRate  = 8 << 20
)

// Bounds of Options.
const (
	LeastEvery    = 10 * time.Millisecond
	MostEvery     = 10 * time.Second
	LimitMaxPeers = 256
	mostName      = 256
)

// Options configure a Group. The zero value shares everything, and needs a Transport only for Run.
type Options struct {
	// Transport carries the messages of Run.
	Transport Transport
	// Name is what people are to call this gateway, such as its host name; at most 256 bytes.
	Name string
	// Every is how often what has changed is told. Default 50 ms; 10 ms to 10 s.
	Every time.Duration
	// Whole is how often all that is the case is told, whether it has changed or not, so that what was lost is
	// made up for. Default 1 s, and at least Every.
	Whole time.Duration
	// TTL is after how long without a message a peer counts as gone: what it said of its load then fades away
	// within a second. Default 3 s, and at least twice Whole.
	TTL time.Duration
	// MaxPeers bounds how many peers are listened to, 1 to 256. Default 64.
	MaxPeers int
	// MaxRate is how many bytes in a second are read of one peer; what exceeds it is dropped. Default 8 MiB,
	// at least MaxMessage.
	MaxRate int
	// Key, if there is one, signs messages (HMAC-SHA-256); those that are not signed by it are ignored. It has
	// at least 16 bytes and is the same for all peers. It does not hide what is told: that is for the Transport.
	Key []byte

	// Without switches kinds off, in both directions.
	Without Kinds

	// Logger is told of peers that come and go, and at most once a minute of what is ignored. Nil: silence.
	Logger *slog.Logger
}

// Kinds is a set of what can be shared.
type Kinds struct {
	Load       bool // requests and tokens in flight at each endpoint
	Placements bool // which prompts were sent where
	Ejections  bool // servers found to fail
	Bindings   bool // sessions and answers that belong to a server
	Accounts   bool // what tenants and budgets have used
}

func (o Options) withDefaults() (Options, error) {
	o.Every = cmp.Or(o.Every, DefaultEvery)
	o.Whole = cmp.Or(o.Whole, max(DefaultWhole, o.Every))
	o.TTL = cmp.Or(o.TTL, max(DefaultTTL, 3*o.Whole))
	o.MaxPeers = cmp.Or(o.MaxPeers, DefaultMaxPeers)
	o.MaxRate = cmp.Or(o.MaxRate, DefaultMaxRate)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	switch {
	case o.Every < LeastEvery || o.Every > MostEvery:
		return o, fmt.Errorf("sharing: Every is %v, want %v to %v, or 0 for the default %v", o.Every, LeastEvery, MostEvery, DefaultEvery)
	case o.Whole < o.Every || o.Whole > time.Minute:
		return o, fmt.Errorf("sharing: Whole is %v, want at least Every, %v, and at most a minute", o.Whole, o.Every)
	case o.TTL < 2*o.Whole || o.TTL > time.Hour:
		return o, fmt.Errorf("sharing: TTL is %v, want at least twice Whole, %v, and at most an hour", o.TTL, 2*o.Whole)
	case o.MaxPeers < 1 || o.MaxPeers > LimitMaxPeers:
		return o, fmt.Errorf("sharing: MaxPeers is %d, want 1 to %d, or 0 for the default %d", o.MaxPeers, LimitMaxPeers, DefaultMaxPeers)
	case o.MaxRate < MaxMessage:
		return o, fmt.Errorf("sharing: MaxRate is %d, want at least %d, or 0 for the default %d", o.MaxRate, MaxMessage, DefaultMaxRate)
	case len(o.Key) > 0 && len(o.Key) < 16:
		return o, fmt.Errorf("sharing: Key has %d bytes, want at least 16", len(o.Key))
	case len(o.Name) > mostName:
		return o, fmt.Errorf("sharing: Name has %d bytes, want at most %d", len(o.Name), mostName)
	}
	return o, nil
}
