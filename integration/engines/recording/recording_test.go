package recording_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/inferpick/inferpick/integration/engines/recording"
)

// What was played is what is recorded, and what comes back from a folder.
func TestRoundTrip(t *testing.T) {
	answers := map[string]string{
		"/sized":   "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-Odd:  two  spaces\r\n\r\nhello",
		"/chunked": "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
		"/head":    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
		"/nothing": "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n",
	}
	p, err := recording.NewPlayer(func(r *http.Request) recording.Play {
		return recording.Play{Bytes: []byte(answers[r.URL.Path]), Piece: 4}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	dir := t.TempDir()
	for path, answer := range answers {
		method, body := "POST", `{"a":1}`
		if path == "/head" {
			method, body = "HEAD", ""
		}
		x, err := recording.Record(path[1:], p.Address(), recording.Request(method, path, body), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(x.Response); got != answer {
			t.Errorf("%s: recorded %q, want %q", path, got, answer)
		}
		if err := x.Write(dir); err != nil {
			t.Fatal(err)
		}
	}
	all, err := recording.Read(dir)
	if err != nil || len(all) != len(answers) {
		t.Fatalf("Read() = %d exchanges, %v, want %d", len(all), err, len(answers))
	}
	for _, x := range all {
		want := map[string]string{"sized": "hello", "chunked": "hello"}[x.Name]
		if _, body, err := x.HTTPResponse(); err != nil || string(body) != want {
			t.Errorf("%s: body %q, %v, want %q", x.Name, body, err, want)
		}
	}
}

func TestHangup(t *testing.T) {
	p, err := recording.NewPlayer(func(*http.Request) recording.Play {
		return recording.Play{Bytes: []byte("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf"), Hangup: true}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	resp, err := http.Get(fmt.Sprintf("http://%s/", p.Address()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil || !bytes.Equal(body, []byte("half")) {
		t.Errorf("body %q, %v, want half of it and an error", body, err)
	}
	if _, err := recording.Record("cut", p.Address(), recording.Request("GET", "/", ""), 10*time.Second); err == nil {
		t.Error("half an answer was recorded without an error")
	}
}
