package sharing

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/inferpick/inferpick/internal/guardlog"
)

// Defaults of Options.
const (
	DefaultEvery    = 50 * time.Millisecond
	DefaultWhole    = time.Second
	DefaultTTL      = 3 * time.Second
	DefaultMaxPeers = 64
	DefaultMaxRate  = 8 << 20

	DefaultSnapshotName   = "gateway"
	DefaultSaveEvery      = 10 * time.Second
	DefaultMaxSnapshot    = 8 << 20
	DefaultMaxSnapshotAge = 10 * time.Minute
)

// Bounds of Options.
const (
	LeastEvery    = 10 * time.Millisecond
	MostEvery     = 10 * time.Second
	LimitMaxPeers = 256
	mostName      = 256

	LeastSaveEvery   = 100 * time.Millisecond
	LeastMaxSnapshot = 64 << 10
	LimitMaxSnapshot = 64 << 20
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

	// Store is where snapshots are kept, for the gateway that comes after this one: see Warm. Nil: nowhere.
	Store Store
	// SnapshotName is the name of the snapshot in the Store. Gateways of one name may take it in turns to write
	// it, since each serves any of them that begins. Default "gateway".
	SnapshotName string
	// SaveEvery is how often Run saves a snapshot. It saves the last one when it ends. Default 10 s, and at least
	// 100 ms.
	SaveEvery time.Duration
	// MaxSnapshot bounds a snapshot in bytes: of what is more, what matters most is kept. 64 KiB to 64 MiB.
	// Default 8 MiB.
	MaxSnapshot int
	// MaxSnapshotAge is how old a snapshot may be that is restored. Default 10 min, and at most a day.
	MaxSnapshotAge time.Duration

	// Without switches kinds off, in both directions.
	Without Kinds

	// Logger is told of peers that come and go, and at most once a minute of what is ignored, and of what of the
	// user's panics. Nil: silence.
	Logger *slog.Logger
}

// Kinds is a set of what can be shared.
type Kinds struct {
	Load       bool // requests and tokens in flight at each endpoint
	Placements bool // which prompts were sent where
	Ejections  bool // servers found to fail
	Bindings   bool // sessions and answers that belong to a server
	Accounts   bool // what tenants and budgets have used
	Notes      bool // what parts tell in forms of their own
	Snapshots  bool // what a gateway that begins is told by a peer
}

func (o Options) withDefaults() (Options, error) {
	o.Every = cmp.Or(o.Every, DefaultEvery)
	o.Whole = cmp.Or(o.Whole, max(DefaultWhole, o.Every))
	o.TTL = cmp.Or(o.TTL, max(DefaultTTL, 3*o.Whole))
	o.MaxPeers = cmp.Or(o.MaxPeers, DefaultMaxPeers)
	o.MaxRate = cmp.Or(o.MaxRate, DefaultMaxRate)
	o.SnapshotName = cmp.Or(o.SnapshotName, DefaultSnapshotName)
	o.SaveEvery = cmp.Or(o.SaveEvery, DefaultSaveEvery)
	o.MaxSnapshot = cmp.Or(o.MaxSnapshot, DefaultMaxSnapshot)
	o.MaxSnapshotAge = cmp.Or(o.MaxSnapshotAge, DefaultMaxSnapshotAge)
	o.Logger = guardlog.Logger(o.Logger)
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
	case len(o.SnapshotName) > mostName:
		return o, fmt.Errorf("sharing: SnapshotName has %d bytes, want at most %d", len(o.SnapshotName), mostName)
	case o.SaveEvery < LeastSaveEvery || o.SaveEvery > time.Hour:
		return o, fmt.Errorf("sharing: SaveEvery is %v, want %v to an hour, or 0 for the default %v", o.SaveEvery, LeastSaveEvery, DefaultSaveEvery)
	case o.MaxSnapshot < LeastMaxSnapshot || o.MaxSnapshot > LimitMaxSnapshot:
		return o, fmt.Errorf("sharing: MaxSnapshot is %d, want %d to %d, or 0 for the default %d", o.MaxSnapshot, LeastMaxSnapshot, LimitMaxSnapshot, DefaultMaxSnapshot)
	case o.MaxSnapshotAge < 0 || o.MaxSnapshotAge > 24*time.Hour:
		return o, fmt.Errorf("sharing: MaxSnapshotAge is %v, want at most a day, or 0 for the default %v", o.MaxSnapshotAge, DefaultMaxSnapshotAge)
	}
	return o, nil
}
