package main

import (
	"io"
	"log"
	"net"
	"net/http"
)

// server is a model server that answers at once.
type server struct {
	address string
	http    *http.Server
}

const answer = `{"id":"1","object":"chat.completion","model":"llama-8b","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`

func startServer() (*server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{address: ln.Addr().String(), http: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, answer)
		}),
		ErrorLog: log.New(io.Discard, "", 0),
	}}
	go s.http.Serve(ln)
	return s, nil
}

func (s *server) close() { s.http.Close() }
