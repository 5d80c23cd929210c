package kubernetes

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxObject bounds an object: ten times what the API server's database takes.
const maxObject = 16 << 20

var errTooLarge = fmt.Errorf("an object has more than %d bytes", maxObject)

// listMeta is what the client needs to know of a page.
type listMeta struct {
	ResourceVersion string `json:"resourceVersion"`
	Continue        string `json:"continue"`
}

// readList reads a page of a list. item is called for each object and decodes it; so the page
// is never in memory as a whole.
func readList(r io.Reader, item func(decode func(any) error) error) (meta listMeta, err error) {
	in := &boundedReader{r: r}
	d := json.NewDecoder(in)
	if err := begin(d, '{'); err != nil {
		return meta, err
	}
	kind, items := "", false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return meta, cut(err)
		}
		switch key {
		case "kind":
			err = d.Decode(&kind)
		case "metadata":
			err = d.Decode(&meta)
		case "items":
			items = true
			err = readItems(d, in, item)
		default:
			var skipped json.RawMessage
			err = d.Decode(&skipped)
		}
		if err != nil {
			return meta, cut(err)
		}
	}
	if _, err := d.Token(); err != nil {
		return meta, cut(err)
	}
	if !strings.HasSuffix(kind, "List") || meta.ResourceVersion == "" {
		return meta, fmt.Errorf("the answer is no list of the API: its kind is %q and its resourceVersion %q", kind, meta.ResourceVersion)
	}
	if !items {
		return meta, fmt.Errorf("the answer is a %s without items", kind)
	}
	return meta, nil
}

func readItems(d *json.Decoder, in *boundedReader, item func(decode func(any) error) error) error {
	start, err := d.Token()
	if err != nil || start == nil { // null
		return err
	}
	if start != json.Delim('[') {
		return fmt.Errorf("items is %v, want a list", start)
	}
	for d.More() {
		in.since = 0
		if err := item(d.Decode); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// readEvents reads the events of a watch to its end. An event of type ERROR is returned as an
// error.
func readEvents(r io.Reader, event func(kind string, object json.RawMessage) error) error {
	in := &boundedReader{r: r}
	d := json.NewDecoder(in)
	var ev struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}
	for {
		in.since = 0
		ev.Type, ev.Object = "", ev.Object[:0]
		if err := d.Decode(&ev); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if ev.Type == "ERROR" {
			status := metav1.Status{Message: "the server ended the watch"}
			_ = json.Unmarshal(ev.Object, &status) // else what is above must do
			return &apierrors.StatusError{ErrStatus: status}
		}
		if err := event(ev.Type, ev.Object); err != nil {
			return err
		}
	}
}

func begin(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err == nil && t != want {
		err = fmt.Errorf("the answer begins with %v, want %v", t, want)
	}
	return cut(err)
}

// cut says that a list ended too early.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// boundedReader fails after maxObject bytes since the last object began.
type boundedReader struct {
	r     io.Reader
	since int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.since += n; b.since > maxObject && err == nil {
		err = errTooLarge
	}
	return n, err
}
