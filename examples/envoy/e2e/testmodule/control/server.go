package control

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
)

// Server answers a Client.
type Server struct {
	State func(picker string) State
	Views *Views
	// Arm switches panics on and off at what has this name.
	Arm func(name string, on bool)
}

// Serve serves at the path of a socket for as long as the process lives.
func (s *Server) Serve(path string) error {
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, r *http.Request) {
		state := s.State(r.FormValue("picker"))
		if r.FormValue("heap") != "" {
			state.Heap = Heap()
		}
		reply(w, state)
	})
	mux.HandleFunc("GET /views", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.Views.All()) })
	mux.HandleFunc("GET /view", func(w http.ResponseWriter, r *http.Request) { reply(w, s.Views.Of(r.FormValue("session"))) })
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Views.Reset()
		reply(w, nil)
	})
	mux.HandleFunc("POST /arm", func(w http.ResponseWriter, r *http.Request) {
		s.Arm(r.FormValue("name"), r.FormValue("on") == "true")
		reply(w, nil)
	})
	return http.Serve(ln, mux)
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
