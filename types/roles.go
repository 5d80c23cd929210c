package types

import (
	"fmt"
	"strings"
)

// Roles are the stages of a request that an endpoint may serve, as a set of bits. The zero value says
// nothing: such an endpoint serves whole requests by itself.
//
// In disaggregated serving one endpoint computes the prompt (prefill) and hands its KV cache over to
// another, which produces the answer (decode). Encoders turn images and other media into embeddings
// for who computes the prompt.
type Roles uint8

// The roles. An endpoint that may decode may also serve whole requests, unless it has RoleNotAlone too, as
// engines of SGLang in decode mode: they answer only where another computes the prompt.
const (
	RoleEncode Roles = 1 << iota
	RolePrefill
	RoleDecode
	RoleNotAlone
)

// RoleLabel is the label of llm-d that names the roles of a server, in words that ParseRoles knows.
const RoleLabel = "llm-d.ai/role"

// ParseRoles reads roles as llm-d's label has them: "prefill", "decode", "encode", or several of them with
// hyphens between, such as "encode-prefill"; "both" is "prefill-decode". "decode-only", which llm-d has not, is
// RoleDecode and RoleNotAlone. The empty string is 0.
func ParseRoles(s string) (Roles, error) {
	if s == "" {
		return 0, nil
	}
	if s == "both" {
		return RolePrefill | RoleDecode, nil
	}
	var roles Roles
	for word := range strings.SplitSeq(s, "-") {
		switch word {
		case "encode":
			roles |= RoleEncode
		case "prefill":
			roles |= RolePrefill
		case "decode":
			roles |= RoleDecode
		case "only":
			roles |= RoleNotAlone
		default:
			return 0, badRole(s)
		}
	}
	if roles.Has(RoleNotAlone) && !roles.Has(RoleDecode) {
		return 0, badRole(s)
	}
	return roles, nil
}

func badRole(s string) error {
	return fmt.Errorf("types: role is %.40q, want encode, prefill, decode, several of these with hyphens between, both, or decode-only", s)
}

// Answers reports whether an endpoint with these roles may produce answers: with RoleDecode, or if
// nothing is said.
func (r Roles) Answers() bool { return r == 0 || r&RoleDecode != 0 }

// Has reports whether all of the roles in other are among r.
func (r Roles) Has(other Roles) bool { return r&other == other }

// String returns what ParseRoles reads.
func (r Roles) String() string {
	var words []string
	for i, word := range [...]string{"encode", "prefill", "decode", "only"} {
		if r&(1<<i) != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, "-")
}
