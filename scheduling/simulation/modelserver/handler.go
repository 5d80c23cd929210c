package modelserver

import "net/http"

// handler routes the requests of a process.
func (p *process) handler() http.Handler {
	mux := http.NewServeMux()
	for path, newAPI := range map[string]func() api{
		"/v1/chat/completions": func() api { return new(chat) },
		"/v1/completions":      func() api { return new(completion) },
		"/v1/responses":        func() api { return new(responses) },
		"/v1/messages":         func() api { return new(messages) },
	} {
		mux.HandleFunc("POST "+path, p.failing(func(w http.ResponseWriter, r *http.Request) {
			p.generate(w, r, newAPI())
		}))
	}
	mux.HandleFunc("POST /v1/embeddings", p.failing(p.serveEmbeddings))
	mux.HandleFunc("GET /v1/models", p.serveModels)
	mux.HandleFunc("POST /v1/load_lora_adapter", p.serveLoadAdapter)
	mux.HandleFunc("POST /v1/unload_lora_adapter", p.serveUnloadAdapter)
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /metrics", p.serveMetrics)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "simulated-model-server")
		w.Header().Set("X-Sim-Server", p.opts.Name)
		mux.ServeHTTP(w, r)
	})
}

// failing makes a handler fail while FailNext asks for it.
func (p *process) failing(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if p.faults.fail() {
			e := &apiError{http.StatusInternalServerError, "server_error", "", "", "This simulated server was told to fail."}
			e.write(w)
			return
		}
		h(w, r)
	}
}
