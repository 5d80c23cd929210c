package modelserver

import (
	"bufio"
	"bytes"
	"net"
	"net/http/httptest"
	"testing"
	"time"
)

// nowhere is a connection that takes everything.
type nowhere struct{ net.Conn }

func (nowhere) Write(p []byte) (int, error)      { return len(p), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }

// Whatever comes in, reading ends, and no message is larger than it may be.
func FuzzSocket(f *testing.F) {
	f.Add([]byte("\x81\x85\x00\x00\x00\x00hello\x89\x80aaaa\x88\x80aaaa"))
	f.Add([]byte("\x01\x80aaaa\x80\xfe\x01\x00aaaa"))
	f.Add([]byte("\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xffaaaa"))
	f.Fuzz(func(t *testing.T, in []byte) {
		s := &socket{conn: nowhere{}, in: bufio.NewReader(bytes.NewReader(in))}
		for range len(in) + 1 {
			message, err := s.read()
			if err != nil {
				return
			}
			if len(message) > min(maxMessage, len(in)) {
				t.Fatalf("a message of %d bytes, of %d", len(message), len(in))
			}
		}
		t.Fatal("it goes on after its end")
	})
}

// Whatever a sound, a batch, documents or parts are, they are refused or have a bounded length.
func FuzzBodies(f *testing.F) {
	f.Add([]byte("RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x40\x1f\x00\x00\x01\x00\x08\x00data\x04\x00\x00\x00abcd"))
	f.Add([]byte(`{"custom_id":"1","method":"POST","url":"/v1/embeddings","body":{}}` + "\n"))
	f.Add([]byte(`["a",{"text":"b"},{"content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]},[{"text":"c"}]]`))
	f.Fuzz(func(t *testing.T, in []byte) {
		if s := soundSeconds(in); !(s >= 0 && s <= float64(len(in))) {
			t.Errorf("%v s of %d bytes", s, len(in))
		}
		if lines, err := readBatch(in, "/v1/embeddings"); err == nil && (len(lines) == 0 || len(lines) > mostLines) {
			t.Errorf("%d lines", len(lines))
		}
		if read, err := readDocuments("documents", in); err == nil && len(read) == 0 {
			t.Error("no documents, and no error")
		}
		var p prompt
		if p.content(in) == nil && p.tokens() > len(in)+p.parts*mostTokens {
			t.Errorf("%d tokens of %d bytes", p.tokens(), len(in))
		}
		r := httptest.NewRequest("POST", "/", bytes.NewReader(in))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		proc := &process{opts: &Options{MaxBodyBytes: 1 << 20}}
		if form, err := proc.readForm(httptest.NewRecorder(), r); err == nil && len(form.files)+len(form.fields) > maxParts {
			t.Error("too many parts")
		}
	})
}

// A shelf drops the oldest for the newest, by number and by bytes.
func TestShelf(t *testing.T) {
	s := newShelf[*stored]("thing", 3, 10_000)
	put := func(id string, bytes int) { s.put(id, &stored{object: object{"id": id}, data: make([]byte, bytes)}) }
	for _, id := range []string{"a", "b", "c", "d"} {
		put(id, 1)
	}
	put("e", 8000)
	for id, want := range map[string]bool{"a": false, "b": false, "c": true, "d": true, "e": true} {
		if _, err := s.get(id); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", id, err == nil, want)
		}
	}
	put("f", 20_000) // alone, too large as it is: the newest stays
	if _, err := s.get("e"); err == nil || len(s.ids) != 1 {
		t.Errorf("there are %q", s.ids)
	}
	if s.remove("f") != nil || s.remove("f") == nil || s.used != 0 {
		t.Errorf("%d bytes are in use by nothing", s.used)
	}
}
