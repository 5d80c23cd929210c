package modelserver

import (
	"net/http"
	"slices"
	"sync"
)

// models are the names a server answers to.
type models struct {
	base []string

	mu       sync.RWMutex
	ids      map[string]uint32 // every adapter ever loaded: a name keeps its id, and with it its cached blocks
	names    []string          // by id - 1
	adapters []string          // those loaded, in the order of loading
}

func newModels(base, adapters []string) *models {
	m := &models{base: base, ids: make(map[string]uint32)}
	for _, name := range adapters {
		m.load(name)
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
	if !slices.Contains(m.adapters, name) {
		return 0, false
	}
	return m.ids[name], true
}

// load adds an adapter and reports whether it is new.
func (m *models) load(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.base, name) || slices.Contains(m.adapters, name) {
		return false
	}
	if _, known := m.ids[name]; !known {
		m.names = append(m.names, name)
		m.ids[name] = uint32(len(m.names))
	}
	m.adapters = append(m.adapters, name)
	return true
}

// unload removes an adapter and reports whether it was there. Requests under
// way finish.
func (m *models) unload(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.adapters, name)
	if i < 0 {
		return false
	}
	m.adapters = slices.Delete(m.adapters, i, i+1)
	return true
}

// namesOf returns the names of adapters by their ids.
func (m *models) namesOf(ids []uint32) []string {
	if len(ids) == 0 {
		return nil
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = m.names[id-1]
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
	entry := func(name string) modelEntry {
		return modelEntry{ID: name, Object: "model", Created: p.started.Unix(), OwnedBy: "simulated", Root: name}
	}
	data := []modelEntry{}
	for _, name := range p.models.base {
		e := entry(name)
		e.Length = p.loop.capacity
		data = append(data, e)
	}
	p.models.mu.RLock()
	adapters := slices.Clone(p.models.adapters)
	p.models.mu.RUnlock()
	for _, name := range adapters {
		e := entry(name)
		e.Parent = &p.models.base[0]
		data = append(data, e)
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": data})
}

// maxAdapters bounds what clients can make a server remember.
const maxAdapters = 4096

func (p *process) serveLoadAdapter(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name string `json:"lora_name"`
		Path string `json:"lora_path"`
	}
	if err := p.readJSON(w, r, &body); err != nil {
		err.write(w)
		return
	}
	if body.Name == "" || body.Path == "" {
		invalid("lora_name", "both 'lora_name' and 'lora_path' must be given").write(w)
		return
	}
	p.models.mu.RLock()
	full := len(p.models.names) >= maxAdapters
	p.models.mu.RUnlock()
	if full || !p.models.load(body.Name) {
		invalid("lora_name", "the LoRA adapter '%s' is loaded already, or there are too many", body.Name).write(w)
		return
	}
	writeText(w, "Success: simulated LoRA adapter '"+body.Name+"' added.")
}

func (p *process) serveUnloadAdapter(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name string `json:"lora_name"`
	}
	if err := p.readJSON(w, r, &body); err != nil {
		err.write(w)
		return
	}
	if body.Name == "" {
		invalid("lora_name", "'lora_name' must be given").write(w)
		return
	}
	if !p.models.unload(body.Name) {
		unknownModel(body.Name).write(w)
		return
	}
	writeText(w, "Success: simulated LoRA adapter '"+body.Name+"' removed.")
}
