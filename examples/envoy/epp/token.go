package epp

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
)

// maxToken bounds a file with a token, in bytes.
const maxToken = 4 << 10

// tokenFile is a file with the token that a client has to show. It is read each time:
// what is put in its place counts at once, and tokens are asked for seldom.
type tokenFile string

// read returns the token, which is not empty.
func (f tokenFile) read() (string, error) {
	file, err := os.Open(string(f))
	if err != nil {
		return "", fmt.Errorf("epp: token of metrics: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("epp: token of metrics: %w", err)
	}
	token := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxToken:
		return "", fmt.Errorf("epp: token of metrics: %s has more than %d bytes", f, maxToken)
	case token == "":
		return "", fmt.Errorf("epp: token of metrics: %s is empty", f)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("epp: token of metrics: %s has a blank, or what is not ASCII, in its token", f)
	}
	return token, nil
}

// guard lets only requests through that show the token. While the file cannot be read it
// lets nobody through.
func (f tokenFile) guard(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := f.read()
		if err != nil {
			logger.LogAttrs(context.Background(), slog.LevelError, "nobody is let at the metrics", slog.Any("error", err))
			http.Error(w, "epp: the token cannot be checked", http.StatusInternalServerError)
			return
		}
		if err := shows(r, want); err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="metrics"`)
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// shows reports with an error that a request does not show a token. The time it takes
// tells nothing of the token, nor of its length.
func shows(r *http.Request, want string) error {
	scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return errors.New("epp: want the header Authorization: Bearer and a token")
	}
	a, b := sha256.Sum256([]byte(strings.TrimSpace(got))), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
		return errors.New("epp: the token is another")
	}
	return nil
}
