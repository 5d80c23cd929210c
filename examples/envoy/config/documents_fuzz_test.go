package config

import (
	"bytes"
	"io"
	"testing"

	oracle "sigs.k8s.io/yaml/goyaml.v2"
)

// FuzzDocuments: where the YAML parser by itself can read a file to its end, it
// finds as many documents as the cutting of the file does. Were there one less, a
// document would be dropped in silence: of what it is given the parser reads the
// first one.
func FuzzDocuments(f *testing.F) {
	for _, s := range []string{
		"a: 1\n---\nb: 2\n", "---\n---\n", "a\n...\nb\n", "... # c\n--- d",
		"# x\n--- # y\na: |\n  ---\n  x\n...\n%YAML 1.1\n---\nz", "\ufeff--- a\r\n---\tb", "\ufeff\ufeff", "\ufeff\ufeffa: 1", "a\r---\rb",
		"a: \"x\u2028 y\"\n--- 1", "a\u0085--- b", "--- |\n a\n---\n- 'x\n y'\n", "{a: 1}\n---\n[b]\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want := 0
		decoder := oracle.NewDecoder(bytes.NewReader(data))
		for range 1000 {
			var v any
			err := decoder.Decode(&v)
			if err == io.EOF {
				break
			}
			if err != nil {
				return
			}
			if v != nil {
				want++
			}
		}
		docs, broken := documents(data, false)
		if broken != nil {
			return
		}
		got := 0
		for _, d := range docs {
			value, errs := d.toJSON()
			if len(errs) > 0 {
				return // names twice, for example, which the decoder does not mind
			}
			if value != nil {
				got++
			}
		}
		if got != want {
			t.Errorf("%q has %d documents, want %d", data, got, want)
		}
	})
}
