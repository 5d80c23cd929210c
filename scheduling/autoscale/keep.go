package autoscale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/inferpick/inferpick/types"
)

const (
	// saveEvery is how often histories are saved, and mostKeep how long that, or loading them, may take.
	saveEvery = 10 * time.Second
	mostKeep  = 2 * time.Second
	// mostHistories and mostHistoryBytes bound what is loaded.
	mostHistories    = 10_000
	mostHistoryBytes = 32 << 20
)

// kept is what a Store has.
type kept struct {
	Pools []keptPool `json:"pools"`
}

type keptPool struct {
	Pool    types.NamespacedName `json:"pool"`
	History *History             `json:"history"`
}

// readHistories reads what was saved. Of what cannot be, nothing is taken.
func readHistories(data []byte) (map[types.NamespacedName]*History, error) {
	if len(data) > mostHistoryBytes {
		return nil, fmt.Errorf("autoscale: histories of %d bytes are more than %d", len(data), mostHistoryBytes)
	}
	var k kept
	if err := json.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("autoscale: histories: %w", err)
	}
	if len(k.Pools) > mostHistories {
		return nil, fmt.Errorf("autoscale: histories of %d pools are more than %d", len(k.Pools), mostHistories)
	}
	all := make(map[types.NamespacedName]*History, len(k.Pools))
	for _, p := range k.Pools {
		if p.History != nil {
			p.History.repair()
			all[p.Pool] = p.History
		}
	}
	return all, nil
}

// load takes over what was saved before, once. The caller has the turn.
func (a *Autoscaler) load(ctx context.Context) {
	if a.loaded || a.o.Store == nil {
		return
	}
	a.loaded = true
	ctx, stop := context.WithTimeout(ctx, mostKeep)
	defer stop()
	var data []byte
	err := a.panics.Try("Options.Store.Load", func() (err error) {
		data, err = a.o.Store.Load(ctx, a.o.StoreName)
		return err
	})
	if err == nil {
		a.histories, err = readHistories(data)
	}
	if err != nil {
		a.histories = map[types.NamespacedName]*History{}
		if !errors.Is(err, fs.ErrNotExist) {
			a.warn("what was remembered could not be loaded", "error", err)
		}
	}
}

// save saves histories if that was long ago, or now. The caller has the turn.
func (a *Autoscaler) save(ctx context.Context, now time.Time, must bool) {
	if a.o.Store == nil || !must && now.Sub(a.saved) < saveEvery && !now.Before(a.saved) {
		return
	}
	a.saved = now
	var k kept
	for name, h := range a.histories {
		k.Pools = append(k.Pools, keptPool{name, h})
	}
	data, err := json.Marshal(k)
	if err == nil {
		ctx, stop := context.WithTimeout(ctx, mostKeep)
		defer stop()
		err = a.panics.Try("Options.Store.Save", func() error { return a.o.Store.Save(ctx, a.o.StoreName, data) })
	}
	if err != nil && ctx.Err() == nil {
		a.warn("what is remembered could not be saved", "error", err)
	}
}

// saveLast saves histories although ctx is done.
func (a *Autoscaler) saveLast(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), mostKeep)
	defer stop()
	if a.take(ctx) != nil {
		return
	}
	defer a.leave()
	a.save(ctx, a.o.Collector.o.Now(), true)
}
