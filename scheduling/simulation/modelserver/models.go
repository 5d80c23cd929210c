package modelserver

import (
	"net/http"
	"slices"
	"sync"
)

// models are the names a server answers to.
type models struct {
	base []string

	mu     sync.RWMutex
	names  []string // every adapter ever loaded, by id - 1: a name keeps its id, and with it its cached blocks
	loaded []string // by id - 1: the path that it was loaded from; empty: it is not loaded
}

// maxAdapters bounds what clients can make a server remember.
const maxAdapters = 4096

func newModels(base, adapters []string) *models {
	m := &models{base: base}
	for _, name := range adapters {
		m.load(name, name)
	}
	return m
}

// find returns the engine's adapter id for a model name; 0 is the base model.
func (m *models) find(name string) (adapter uint32, ok bool) {
	if slices.Contains(m.base, name) {
		return 0, true
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	i := slices.Index(m.names, name)
	return uint32(i + 1), i >= 0 && m.loaded[i] != ""
}

// check returns why an adapter of that name cannot be loaded, nil if it can.
func (m *models) check(name string) *apiError {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.checkLocked(name)
}

// checkLocked is check. Caller must hold m.mu.
func (m *models) checkLocked(name string) *apiError {
	i := slices.Index(m.names, name)
	switch {
	case slices.Contains(m.base, name):
		return invalidAdapter("The lora adapter '%s' conflicts with a served base model.", name)
	case i >= 0 && m.loaded[i] != "":
		return invalidAdapter("The lora adapter '%s' has already been loaded.", name)
	case i < 0 && len(m.names) >= maxAdapters:
		return invalidAdapter("This simulated server has seen %d adapters, and takes no more.", maxAdapters)
	}
	return nil
}

// load adds an adapter, or returns what check does.
func (m *models) load(name, path string) *apiError {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkLocked(name); err != nil {
		return err
	}
	if i := slices.Index(m.names, name); i >= 0 {
		m.loaded[i] = path
		return nil
	}
	m.names, m.loaded = append(m.names, name), append(m.loaded, path)
	return nil
}

// unload removes an adapter and reports whether it was there. Requests under
// way finish.
func (m *models) unload(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.names, name)
	if i < 0 || m.loaded[i] == "" {
		return false
	}
	m.loaded[i] = ""
	return true
}

// eachAdapter calls fn with those loaded.
func (m *models) eachAdapter(fn func(name, path string)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i, name := range m.names {
		if m.loaded[i] != "" {
			fn(name, m.loaded[i])
		}
	}
}

// namesOf returns the names of adapters by their ids.
func (m *models) namesOf(ids []uint32) (names []string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, id := range ids {
		names = append(names, m.names[id-1])
	}
	return names
}

// modelEntry is one entry of GET /v1/models.
type modelEntry struct {
	ID      string  `json:"id"`
	Object  string  `json:"object"`
	Created int64   `json:"created"`
	OwnedBy string  `json:"owned_by"`
	Root    string  `json:"root"`
	Parent  *string `json:"parent"`
	Length  int     `json:"max_model_len,omitempty"`
}

func (p *process) serveModels(w http.ResponseWriter, _ *http.Request) {
	data := []modelEntry{}
	add := func(name, root string, parent *string, length int) {
		data = append(data, modelEntry{name, "model", p.started.Unix(), "simulated", root, parent, length})
	}
	for _, name := range p.models.base {
		add(name, name, nil, p.loop.capacity)
	}
	p.models.eachAdapter(func(name, path string) { add(name, path, &p.models.base[0], 0) })
	writeJSON(w, http.StatusOK, object{"object": "list", "data": data})
}
