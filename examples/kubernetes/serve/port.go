package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// port is one that is listened on.
type port struct {
	number  int32
	tls     bool
	address net.Addr
	server  *http.Server
}

// openLocked listens on a port. Caller must hold s.mu.
func (s *Server) openLocked(number int32, secure bool) error {
	l, err := net.Listen("tcp", net.JoinHostPort(s.o.Host, strconv.Itoa(int(number))))
	if err != nil {
		s.o.Logger.Error("cannot listen", slog.Int("port", int(number)), slog.Any("error", err))
		return err
	}
	p := &port{number: number, tls: secure, address: l.Addr(), server: &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(number, w, r) }),
		ReadHeaderTimeout: 10 * time.Second, // for slow and unfinished uploads, as is the next one
		ReadTimeout:       time.Minute,
		Protocols:         new(http.Protocols),
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelDebug), // clients that go away are no news
	}}
	p.server.Protocols.SetHTTP1(true)
	serve := p.server.Serve
	if secure {
		p.server.Protocols.SetHTTP2(true)
		p.server.TLSConfig = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return s.certificate(number, hello) }}
		serve = func(l net.Listener) error { return p.server.ServeTLS(l, "", "") }
	} else {
		p.server.Protocols.SetUnencryptedHTTP2(true)
	}
	s.ports[number] = p
	s.o.Logger.Info("listening", slog.String("address", l.Addr().String()), slog.Bool("tls", secure))
	go func() {
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.o.Logger.Error("a port is served no more", slog.Int("port", int(number)), slog.Any("error", err))
		}
	}()
	return nil
}

// closeLocked stops to listen on a port. Requests under way go on. Caller must hold s.mu.
func (s *Server) closeLocked(p *port) {
	delete(s.ports, p.number)
	s.o.Logger.Info("listening no more", slog.String("address", p.address.String()))
	stopped := make(chan struct{})
	p.server.RegisterOnShutdown(func() { close(stopped) })
	s.closing.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.o.Drain)
		defer cancel()
		if err := p.server.Shutdown(ctx); err != nil {
			p.server.Close()
		}
	})
	<-stopped // its listener is closed, which another one may follow
}

func (s *Server) certificate(number int32, hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if p := s.table.Load().Ports[number]; p != nil {
		if c := p.Certificate(hello); c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no listener of port %d is for %q", number, hello.ServerName)
}
