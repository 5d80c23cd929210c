package modelserver

import (
	"io"
	"net/http"
	"slices"
	"sync"
)

// models are the names a server answers to.
type models struct {
	base []string

	mu     sync.RWMutex
	names  []string // every adapter ever loaded, by id - 1: a name keeps its id, and with it its cached blocks
	loaded []bool   // by id - 1
}

// maxAdapters bounds what clients can make a server remember.
const maxAdapters = 4096

func newModels(base, adapters []string) *models {
	m := &models{base: base}
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
	i := slices.Index(m.names, name)
	return uint32(i + 1), i >= 0 && m.loaded[i]
}

// load adds an adapter and reports whether it is new, and there is room for it.
func (m *models) load(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.names, name)
	switch {
	case slices.Contains(m.base, name) || i >= 0 && m.loaded[i] || i < 0 && len(m.names) >= maxAdapters:
		return false
	case i < 0:
		m.names, m.loaded = append(m.names, name), append(m.loaded, true)
	default:
		m.loaded[i] = true
	}
	return true
}

// unload removes an adapter and reports whether it was there. Requests under
// way finish.
func (m *models) unload(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.Index(m.names, name)
	if i < 0 || !m.loaded[i] {
		return false
	}
	m.loaded[i] = false
	return true
}

// adapters returns the names of those loaded.
func (m *models) adapters() (names []string) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i, name := range m.names {
		if m.loaded[i] {
			names = append(names, name)
		}
	}
	return names
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
	add := func(name string, parent *string, length int) {
		data = append(data, modelEntry{name, "model", p.started.Unix(), "simulated", name, parent, length})
	}
	for _, name := range p.models.base {
		add(name, nil, p.loop.capacity)
	}
	for _, name := range p.models.adapters() {
		add(name, &p.models.base[0], 0)
	}
	writeJSON(w, http.StatusOK, object{"object": "list", "data": data})
}

// adapterBody is the body of requests to load and unload adapters.
type adapterBody struct {
	Name string `json:"lora_name"`
	Path string `json:"lora_path"`
}

func (p *process) serveLoadAdapter(w http.ResponseWriter, r *http.Request) {
	var body adapterBody
	err := p.readJSON(w, r, &body)
	switch {
	case err != nil:
	case body.Name == "" || body.Path == "":
		err = invalid("lora_name", "both 'lora_name' and 'lora_path' must be given")
	case !p.models.load(body.Name):
		err = invalid("lora_name", "the LoRA adapter '%s' is loaded already, or there are too many", body.Name)
	}
	answerAdapter(w, err, body.Name, "added")
}

func (p *process) serveUnloadAdapter(w http.ResponseWriter, r *http.Request) {
	var body adapterBody
	err := p.readJSON(w, r, &body)
	switch {
	case err != nil:
	case body.Name == "":
		err = invalid("lora_name", "'lora_name' must be given")
	case !p.models.unload(body.Name):
		err = unknownModel(body.Name)
	}
	answerAdapter(w, err, body.Name, "removed")
}

func answerAdapter(w http.ResponseWriter, err *apiError, name, what string) {
	if err != nil {
		err.write(w)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Success: simulated LoRA adapter '"+name+"' "+what+".")
}
