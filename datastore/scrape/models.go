package scrape

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/inferpick/inferpick/types"
)

// ModelStore is a Store that keeps what servers say they serve, as a *datastore.Store
// does. A Scraper whose Store is none does not ask for it.
type ModelStore interface {
	// SetModels stores the names of an endpoint's models, nil if they are not known. It
	// returns false if the endpoint has gone. The list is the callee's to keep.
	SetModels(l *types.Load, models []string) bool
}

// ErrNoModels is the error of an answer that is no list of models, or not one within the
// bounds: 1,000 names of 1 to 256 bytes.
var ErrNoModels = errors.New("no list of models")

const (
	maxModels    = 1000
	maxModelName = 256
)

// ModelsResult is what came of asking an endpoint for its models.
type ModelsResult struct {
	Pool     types.NamespacedName
	Endpoint string        // ID
	URL      string        // that was asked
	Status   int           // of the answer, 0: there was none
	Models   []string      // as the server listed them; nil: not known
	Duration time.Duration // from the request to the end of reading
	Err      error         // nil: the store has the names
}

// models asks one server for its models, in the goroutine of its target.
type models struct {
	store    ModelStore
	request  *request
	due      time.Time
	failures int // in a row
}

// newModels returns nil if the models are not to be asked for.
func (t *target) newModels(address string) *models {
	store, ok := t.store.(ModelStore)
	if !ok || t.opt.ModelsInterval < 0 || validAddress(address) != nil {
		return nil
	}
	req, err := newRequest(t.to.server+"/v1/models", "application/json")
	if err != nil {
		return nil
	}
	return &models{store: store, request: req}
}

// restart makes the models due: another server may serve others.
func (m *models) restart() {
	if m != nil {
		m.failures, m.due = 0, time.Time{}
	}
}

// later makes them due no sooner than that.
func (m *models) later(due time.Time) {
	if m != nil && m.due.Before(due) {
		m.due = due
	}
}

// before returns when there is something to do next, if a scrape is at due.
func (m *models) before(due time.Time) time.Time {
	if m == nil || due.Before(m.due) {
		return due
	}
	return m.due
}

// askModels asks once, stores what came of it and tells. It returns false if the endpoint
// has gone.
func (t *target) askModels() (stays bool) {
	m := t.models
	start := time.Now()
	names, status, err := t.readModels(start.Add(t.opt.Timeout))
	if t.ctx.Err() != nil {
		return false // what went wrong is that it was cancelled
	}
	took := time.Since(start)
	stays = true
	var wait time.Duration
	switch {
	case err == nil:
		m.failures = 0
		wait = t.opt.ModelsInterval
		stays = t.setModels(names)
	case answered(status):
		// The server has no list for us. Perhaps it is behind a gateway of its own.
		m.failures = 0
		wait = 6 * t.opt.ModelsInterval
		stays = t.setModels(nil)
	default:
		// It is down, or has too much to do: it serves what it did. However slowly it
		// fails, the page must not wait for it often.
		m.failures++
		wait = max(t.backoff(m.failures), 9*took)
	}
	m.due = time.Now().Add(t.jitter(wait))
	if t.opt.OnModels != nil {
		defer t.panics.Recovered("Options.OnModels", nil)
		for _, one := range t.members() {
			t.opt.OnModels(ModelsResult{Pool: t.pool, Endpoint: one.id, URL: m.request.url, Status: status, Models: names, Duration: took, Err: err})
		}
	}
	return stays
}

// setModels stores what the server serves for all that the target works for. It returns false if the
// endpoint has gone.
func (t *target) setModels(names []string) (stays bool) {
	stays = true
	for _, one := range t.members() {
		if has := t.models.store.SetModels(one.load, slices.Clone(names)); one.load == t.load {
			stays = has
		}
	}
	return stays
}

// answered reports whether a server means what it says by an answer without a list.
func answered(status int) bool {
	return status != 0 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}

// readModels returns the names that the server lists, and the status of its answer, 0 if
// there is none in full.
func (t *target) readModels(deadline time.Time) (names []string, status int, err error) {
	a, err := t.fetch(t.models.request, deadline)
	switch {
	case isTimeout(err):
		return nil, 0, fmt.Errorf("scrape: no complete list of models within %v: %w", t.opt.Timeout, err)
	case errors.Is(err, ErrTooLarge), errors.Is(err, errCompressed):
		return nil, a.status, err
	case err != nil:
		return nil, 0, err
	case a.status != http.StatusOK:
		return nil, a.status, fmt.Errorf("scrape: status %d: %w", a.status, ErrNoModels)
	}
	defer t.Scraper.pool.put(a.page)
	names, err = parseModels(a.page.page)
	return names, a.status, err
}

// parseModels returns the names in the body of an answer to GET /v1/models, not nil
// without an error.
func parseModels(body []byte) ([]string, error) {
	var list struct {
		Data *[]struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("scrape: %w: %w", ErrNoModels, err)
	}
	if list.Data == nil {
		return nil, fmt.Errorf("scrape: %w: data is missing", ErrNoModels)
	}
	if n := len(*list.Data); n > maxModels {
		return nil, fmt.Errorf("scrape: %w: %d names, at most %d are taken", ErrNoModels, n, maxModels)
	}
	names := make([]string, len(*list.Data))
	for i, m := range *list.Data {
		if n := len(m.ID); n == 0 || n > maxModelName {
			return nil, fmt.Errorf("scrape: %w: data[%d].id has %d bytes, want 1 to %d", ErrNoModels, i, n, maxModelName)
		}
		names[i] = m.ID
	}
	return names, nil
}
