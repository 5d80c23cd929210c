package telemetry

import (
	"strings"
	"unicode/utf8"

	"github.com/inferpick/inferpick/types"
)

// other is the value of a label for all that has no series of its own.
const other = "other"

// maxLabel bounds the value of a label, in bytes.
const maxLabel = 256

// label returns s as the value of a label: cut to maxLabel bytes at the end of a
// character, with U+FFFD in the place of what is no UTF-8.
func label(s string) string {
	if len(s) > maxLabel {
		n := maxLabel
		for n > maxLabel-utf8.UTFMax && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// poolLabel returns the name of a pool, with its namespace unless that is the
// default one.
func poolLabel(name types.NamespacedName) string {
	if name.Namespace == types.DefaultNamespace {
		return label(name.Name)
	}
	return label(name.String())
}

// endpointLabels returns the parts of an endpoint's name: an ID may begin with a
// namespace, and an address ends with a port.
func endpointLabels(ep *types.Endpoint) (namespace, name, port string) {
	name = ep.ID
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		namespace, name = name[:i], name[i+1:]
	}
	if i := strings.LastIndexByte(ep.Address, ':'); i >= 0 {
		port = ep.Address[i+1:]
	}
	return label(namespace), label(name), label(port)
}
