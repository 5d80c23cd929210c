package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// load is one way to send requests.
type load struct {
	name        string
	bytes       int     // of a request's body
	rate        float64 // requests per second, evenly spaced; 0: as fast as concurrency allows
	concurrency int     // requests under way, at most
}

// cases are those whose names match.
func cases(names *regexp.Regexp) []load {
	return slices.DeleteFunc([]load{
		{"2 KiB at 200/s", 2 << 10, 200, 500},
		{"2 KiB at 1,000/s", 2 << 10, 1000, 500},
		{"220 KB, 20 at once", 220_000, 0, 20},
		{"220 KB, 150 at once", 220_000, 0, 150},
	}, func(c load) bool { return !names.MatchString(c.name) })
}

// body is a chat request of the size.
func (c load) body() []byte {
	const head, tail = `{"model": "chat", "messages": [{"role": "user", "content": "`, `"}]}`
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < c.bytes-len(tail); i++ {
		fmt.Fprintf(&b, "word%d ", i%9973)
	}
	return []byte(b.String()[:c.bytes-len(tail)] + tail)
}
