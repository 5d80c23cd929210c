package disaggtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// member is a member of a JSON object, its value byte for byte.
type member struct {
	key   string
	value json.RawMessage
}

type members []member

// readMembers reads an object and keeps the order of its members, duplicates too.
func readMembers(object []byte) (members, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	var all members
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		m := member{key: key.(string)} // a decoder lets nothing else be a key
		if err := dec.Decode(&m.value); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("data after the JSON object")
	}
	return all, nil
}

// get returns the last value of key, as engines read it. Null is as if absent.
func (m members) get(key string) json.RawMessage {
	for _, one := range slices.Backward(m) {
		if one.key == key {
			if string(one.value) == "null" {
				return nil
			}
			return one.value
		}
	}
	return nil
}

// text returns a string, or "" for anything else.
func (m members) text(key string) string {
	var s string
	if json.Unmarshal(m.get(key), &s) != nil {
		return ""
	}
	return s
}

func (m members) is(key string) bool { return string(m.get(key)) == "true" }

func (m members) has(key string) bool { return m.get(key) != nil }

// number returns a whole number; ok is whether there is one.
func (m members) number(key string) (n int64, ok bool) {
	raw := m.get(key)
	return n, raw != nil && json.Unmarshal(raw, &n) == nil
}

// Rest returns the members of a JSON object other than those named, each with its value byte for byte, in
// their order: what a gateway must not have touched. It returns an error if body is not an object.
func Rest(body []byte, edited ...string) (string, error) {
	all, err := readMembers(body)
	if err != nil {
		return "", fmt.Errorf("disaggtest: %w", err)
	}
	return all.rest(edited...), nil
}

func (m members) rest(edited ...string) string {
	var b strings.Builder
	for _, one := range m {
		if !slices.Contains(edited, one.key) {
			fmt.Fprintf(&b, "%q: %s\n", one.key, one.value)
		}
	}
	return b.String()
}
