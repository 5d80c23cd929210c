package config

import (
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// quantity reads a number as Kubernetes writes it: 1000, "1k", "512Mi", "1.5G", "1e3".
// What is not whole is rounded up. 0 if it is not there.
func (f fields) quantity(name string) int64 {
	v := f.get(name)
	if v == nil {
		return 0
	}
	text, ok := v.(string)
	if n, isNumber := v.(json.Number); isNumber {
		text, ok = string(n), true
	}
	if ok {
		if n, ok := parseQuantity(text); ok {
			return n
		}
	}
	f.Want(false, f.at(name), v, `a quantity of at least 0 such as 1000, "1k" or "512Mi"`)
	return 0
}

var (
	quantityForm = regexp.MustCompile(`^\+?([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:([eE][+-]?[0-9]{1,2})|([numkMGTPE]|[KMGTPE]i))?$`)

	decimalSuffixes = []string{"n", "u", "m", "", "k", "M", "G", "T", "P", "E"}
	binarySuffixes  = []string{"", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"}
)

func parseQuantity(s string) (int64, bool) {
	m := quantityForm.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	digits, exponent, suffix := m[1], m[2], m[3]
	v, ok := new(big.Rat).SetString("0" + digits + exponent)
	if !ok {
		return 0, false
	}
	base, power := int64(1000), int64(0)
	if strings.HasSuffix(suffix, "i") {
		base, power = 1024, int64(slices.Index(binarySuffixes, suffix))
	} else {
		power = int64(slices.Index(decimalSuffixes, suffix) - 3)
	}
	factor := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(base), big.NewInt(max(power, -power)), nil))
	if power < 0 {
		factor.Inv(factor)
	}
	v.Mul(v, factor)
	up := new(big.Int).Add(v.Num(), new(big.Int).Sub(v.Denom(), big.NewInt(1)))
	up.Quo(up, v.Denom())
	if !up.IsInt64() {
		return 0, false
	}
	return up.Int64(), true
}

// list is several names in a sentence.
func list(names []string) string { return strings.Join(names, ", ") }
