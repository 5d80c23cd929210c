package epp

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/inferpick/inferpick/examples/envoy/internal/seldom"
	"github.com/inferpick/inferpick/internal/filewatch"
)

// maxToken bounds a file with a token, in bytes.
const maxToken = 4 << 10

// newToken reads the token that a client has to show. It is looked at for each request: what
// is put in its place counts at once, and tokens are asked for seldom.
func newToken(path string, logger *slog.Logger) (*reread[string], error) {
	if path == os.DevNull { // for "none", which it does not mean
		return nil, fmt.Errorf("epp: token of metrics: %s is empty", path)
	}
	return newReread("token of metrics", maxToken, logger, func(files []filewatch.File) (string, error) {
		token := strings.TrimSpace(string(files[0].Data))
		switch {
		case token == "":
			return "", fmt.Errorf("%s is empty", path)
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
			return "", fmt.Errorf("%s has a blank, or what is not ASCII, in its token", path)
		}
		return token, nil
	}, path)
}

// withToken lets only requests through that show the token. While the file is bad it lets nobody
// through.
func withToken(token *reread[string], next http.Handler, logger *slog.Logger) http.Handler {
	rarely := seldom.New(logger)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want, err := token.get()
		if err != nil {
			rarely.Log(context.Background(), slog.LevelError, "token", "nobody is let at the metrics", slog.Any("error", err))
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
