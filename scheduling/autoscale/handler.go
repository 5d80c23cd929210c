package autoscale

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/inferpick/inferpick/types"
)

// Page is the JSON of GET /autoscale.
type Page struct {
	At    time.Time  `json:"at"`
	Pools []PoolPage `json:"pools"`
}

// PoolPage is what is known and recommended of a pool.
type PoolPage struct {
	Pool    types.NamespacedName `json:"pool"`
	Signals Signals              `json:"signals"`
	Models  []Signals            `json:"models,omitempty"`
	// Recommendation is nil if the pool is not scaled.
	Recommendation *Recommendation `json:"recommendation,omitempty"`
	// Past is the last recommendations that differed from the one before, newest last.
	Past []Recommendation `json:"past,omitempty"`
}

// Page returns what is known and recommended: of one pool, or of all if pool is zero.
func (a *Autoscaler) Page(ctx context.Context, pool types.NamespacedName) (Page, error) {
	if !pool.IsZero() {
		if _, err := a.of(ctx, pool); err != nil {
			return Page{}, err
		}
	}
	p, err := a.recent(ctx)
	if err != nil {
		return Page{}, err
	}
	if pool.Namespace == "" && pool.Name != "" {
		pool.Namespace = types.DefaultNamespace
	}
	page := Page{At: p.at, Pools: []PoolPage{}}
	for _, name := range slices.SortedFunc(maps.Keys(p.pools), types.NamespacedName.Compare) {
		if !pool.IsZero() && name != pool {
			continue
		}
		one := p.pools[name]
		of := PoolPage{Pool: name, Signals: one.signals, Models: one.models, Past: one.past}
		if one.scaled {
			of.Recommendation = &one.Recommendation
		}
		page.Pools = append(page.Pools, of)
	}
	return page, nil
}

// Own returns what this gateway itself knows: what Handler serves for peers.
func (a *Autoscaler) Own() Own {
	return Own{Version: ownVersion, Gateway: a.gateway, Signals: a.o.Collector.All()}
}

// Handler serves GET /autoscale, a Page as JSON, of one pool with ?pool=namespace/name; and GET /autoscale/own, an Own
// for peers. It is not for the public: model names and loads are in it.
func (a *Autoscaler) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /autoscale", a.servePage)
	mux.HandleFunc("GET /autoscale/own", func(w http.ResponseWriter, _ *http.Request) {
		serveJSON(w, http.StatusOK, a.Own())
	})
	return mux
}

func (a *Autoscaler) servePage(w http.ResponseWriter, r *http.Request) {
	page, err := a.Page(r.Context(), parseName(r.FormValue("pool")))
	switch {
	case errors.Is(err, ErrUnknownPool):
		serveJSON(w, http.StatusNotFound, map[string]string{"error": err.Error()})
	case err != nil:
		serveJSON(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error()})
	default:
		serveJSON(w, http.StatusOK, page)
	}
}

// parseName reads namespace/name, or a name in the default namespace.
func parseName(s string) types.NamespacedName {
	if namespace, name, ok := strings.Cut(s, "/"); ok {
		return types.NamespacedName{Namespace: namespace, Name: name}
	}
	return types.NamespacedName{Name: s}
}

func serveJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil { // no value of ours: Figures marshal whatever they are
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
