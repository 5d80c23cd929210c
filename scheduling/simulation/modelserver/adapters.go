package modelserver

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// AdapterFault is what is wrong with a LoRA adapter on a server, or with another model: with loading it, and with
// the requests that name it. The zero value is nothing.
type AdapterFault struct {
	// LoadTime is how long loading it takes, in real time. Its caller may give up sooner, and it is not
	// loaded then.
	LoadTime time.Duration
	// LoadFails is the status with which loading it fails after that, as vLLM does: 404, there is no adapter at
	// the path; any other from 400 on, such as 500, the engine refuses it. 0: it does not fail.
	LoadFails int

	// Missing makes the server answer 404 to its requests, as if it were not loaded, although the list of
	// models has it.
	Missing bool
	// Errors is the share of its requests that fail with status 500, 0 to 1.
	Errors float64
	// Empty is the share of its other requests that are answered with one token without text, 0 to 1.
	Empty float64
	// Slowdown makes its answers take so many times as long, the time to the first token included; tokens
	// may come several at once. Default 1; below 1 is 1, above 1e3 is 1e3.
	Slowdown float64
}

// Fault sets what is wrong with an adapter, whether it is loaded or not. It replaces what an earlier call said, and
// outlives a restart. Which requests of a share it hits depends on Options.Seed and their order.
func (s *Server) Fault(adapter string, f AdapterFault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	if s.faults.byName == nil {
		s.faults.byName = map[string]*fault{}
	}
	delete(s.faults.byName, adapter)
	if f != (AdapterFault{}) {
		s.faults.byName[adapter] = &fault{AdapterFault: f, seed: hashBytes(s.opts.Seed, []byte(adapter))}
	}
}

// Unload makes a server forget an adapter, as /v1/unload_lora_adapter does, whoever may do that: what requests
// then see of one that is missing on one server. It reports whether it was there.
func (s *Server) Unload(adapter string) bool {
	s.mu.Lock()
	proc := s.proc
	s.mu.Unlock()
	return proc != nil && proc.models.unload(adapter)
}

// faults are those of all adapters of a server.
type faults struct {
	mu     sync.Mutex
	byName map[string]*fault
}

// fault is an AdapterFault and the draws made for it.
type fault struct {
	AdapterFault
	seed, draws uint64
}

// of returns what is wrong with an adapter.
func (f *faults) of(adapter string) AdapterFault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one := f.byName[adapter]; one != nil {
		return one.AdapterFault
	}
	return AdapterFault{}
}

// request draws what becomes of a request for a model: an error, or what is wrong with its answer.
func (f *faults) request(model string) (err *apiError, empty bool, slowdown float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.byName[model]
	if one == nil {
		return nil, false, 1
	}
	draw := func() float64 {
		one.draws++
		return float64(mix(one.seed+one.draws)>>11) / (1 << 53)
	}
	switch {
	case one.Missing:
		return unknownModel(model), false, 1
	case draw() < one.Errors:
		err := &apiError{status: http.StatusInternalServerError, kind: "server_error"}
		err.message = "This simulated adapter was told to fail."
		return err, false, 1
	}
	return nil, draw() < one.Empty, min(max(one.Slowdown, 1), 1e3)
}

// adapterBody is the body of requests to load and unload adapters.
type adapterBody struct {
	Name string `json:"lora_name"`
	Path string `json:"lora_path"`
}

// serveLoadAdapter says what vLLM says.
func (p *process) serveLoadAdapter(w http.ResponseWriter, r *http.Request) {
	var body adapterBody
	err := p.readJSON(w, r, &body)
	switch {
	case err != nil:
	case body.Name == "" || body.Path == "":
		err = invalidAdapter("Both 'lora_name' and 'lora_path' must be provided.")
	default:
		if err = p.models.check(body.Name); err == nil {
			err = p.loadAdapter(r, body)
		}
	}
	answerAdapter(w, err, body.Name, "added")
}

func (p *process) loadAdapter(r *http.Request, body adapterBody) *apiError {
	f := p.server.faults.of(body.Name)
	if f.LoadTime > 0 {
		timer := time.NewTimer(f.LoadTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	switch {
	case f.LoadFails == http.StatusNotFound:
		return noAdapter("Loading lora %s failed: No adapter found for %s", body.Name, body.Path)
	case f.LoadFails >= 400 && f.LoadFails < 600:
		return &apiError{status: f.LoadFails, kind: "InternalServerError",
			message: "Call to add_lora method failed: this simulated adapter was told not to load."}
	}
	return p.models.load(body.Name, body.Path)
}

func (p *process) serveUnloadAdapter(w http.ResponseWriter, r *http.Request) {
	var body adapterBody
	err := p.readJSON(w, r, &body)
	switch {
	case err != nil:
	case body.Name == "":
		err = invalidAdapter("'lora_name' needs to be provided to unload a LoRA adapter.")
	case !p.models.unload(body.Name):
		err = noAdapter("The lora adapter '%s' cannot be found.", body.Name)
	}
	answerAdapter(w, err, body.Name, "removed")
}

func invalidAdapter(format string, args ...any) *apiError {
	e := invalid("", format, args...)
	e.kind = "InvalidUserInput"
	return e
}

func noAdapter(format string, args ...any) *apiError {
	return &apiError{status: http.StatusNotFound, kind: "NotFoundError", message: fmt.Sprintf(format, args...)}
}

func answerAdapter(w http.ResponseWriter, err *apiError, name, what string) {
	if err != nil {
		err.write(w)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Success: LoRA adapter '"+name+"' "+what+" successfully.")
}
