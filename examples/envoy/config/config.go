package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/inferpick/inferpick/datastore"
	"github.com/inferpick/inferpick/plugins"
	"github.com/inferpick/inferpick/types"
)

// Config is one version of a configuration, complete and valid but for what is in
// Rejected: every Policy has a profile that can be built, and admission control that can, if
// it has any. It must not be modified; its methods may be called from any goroutine.
type Config struct {
	// Change is for datastore.Store.Commit: all manifests, as the whole set
	// (OnlyObjects), and the endpoints of every pool, of which there may be none. It is empty
	// with Loader.PoolsElsewhere.
	// Endpoints that another source finds for a pool are taken away by it; delete
	// the pool from Change.Endpoints, in a copy, to leave them alone.
	Change datastore.Change

	// Warnings are what was accepted without effect, or with another effect than
	// in the Inference Extension, fields that are not known among it: file, document,
	// line, field and why.
	Warnings []string

	// Rejected is what was left out because something is wrong with it, in the order of
	// the files.
	Rejected []*Rejected

	// Skipped counts the objects of kinds that are not for an endpoint picker, by kind.
	Skipped map[string]int

	// LegacyMetrics: a document has the feature gate enableLegacyMetrics.
	LegacyMetrics bool

	pools    map[types.NamespacedName]bool
	policies policies
	objects  []*object // in force
}

// Loader reads configurations. The zero value is good.
type Loader struct {
	// Registry has the plugin types that profiles may name. It must not change
	// while a Config that was loaded with it is in use. Nil: plugins.NewRegistry.
	Registry *plugins.Registry
	// MaxBytes bounds the size of all files together. 0: DefaultMaxBytes.
	MaxBytes int64
	// Strict makes fields that are not known errors. Without, they are in
	// Config.Warnings.
	Strict bool
	// PoolsElsewhere says that pools, models and endpoints come from another source, as from a
	// cluster. A configuration holds EndpointPickerConfigs then, for whatever pools, or
	// nothing; objects of other kinds that are ours are rejected.
	PoolsElsewhere bool
	// RoleLabel is the label by which the picker knows what servers are for, see
	// datastore.Options.RoleLabel. A configuration that goes by another is warned of. Default
	// types.RoleLabel.
	RoleLabel string
	// CheckEndpoint, if set, returns what is wrong with an endpoint for who is to use it.
	// An object with such an endpoint is rejected.
	CheckEndpoint func(datastore.EndpointSpec) error
}

// Load is Loader.Load with a registry, which may be nil, and the default limit.
func Load(path string, reg *plugins.Registry) (*Config, error) {
	return Loader{Registry: reg}.Load(path)
}

// Load reads the file at path, or if it is a directory all files *.yaml, *.yml
// and *.json in it in the order of their names, but not those that begin with a
// dot, nor those of directories inside. Links are followed.
//
// An object that is bad is in Config.Rejected, and the others are good. It is an error
// only if that leaves no pool, or if it is an EndpointPickerConfig. Then the error joins
// all that is wrong with all documents, an *Error for each, up to a hundred; or it is that
// of reading, such as an *fs.PathError.
func (l Loader) Load(path string) (*Config, error) {
	files, err := readFiles(path, l.MaxBytes)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return l.parse(path, files, nil)
}

// Parse reads a configuration from memory. It is JSON if name, which stands for
// that of a file in errors, ends in ".json".
func (l Loader) Parse(name string, data []byte) (*Config, error) {
	most := l.MaxBytes
	if most <= 0 {
		most = DefaultMaxBytes
	}
	if int64(len(data)) > most {
		return nil, &Error{File: name, Err: fmt.Errorf("the configuration has more than %d bytes (MaxBytes)", most)}
	}
	return l.parse(name, []file{{name: name, data: data}}, nil)
}

// Pools returns the names of its pools, sorted. There is at least one, unless
// Loader.PoolsElsewhere is set.
func (c *Config) Pools() []types.NamespacedName {
	return slices.SortedFunc(maps.Keys(c.pools), types.NamespacedName.Compare)
}

func withNamespace(n types.NamespacedName) types.NamespacedName {
	if n.Name != "" && n.Namespace == "" {
		n.Namespace = types.DefaultNamespace
	}
	return n
}

// find returns the object with an identity that is in force, nil if there is none. c may
// be nil.
func (c *Config) find(id identity) *object {
	if c == nil {
		return nil
	}
	i := slices.IndexFunc(c.objects, func(o *object) bool { return o.id == id })
	if i < 0 {
		return nil
	}
	return c.objects[i]
}
