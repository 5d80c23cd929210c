package check

import "strings"

// Nearest returns the one of the known names that a name was most likely meant to be,
// empty if none is like it: the fewest characters to change, case not counted, and of
// those as near the one that is first. One that is the
// beginning of the other, and half of it at least, is near too.
func Nearest(name string, known []string) string {
	const longest = 100 // what is longer is no slip of the pen
	if name == "" || len(name) > longest {
		return ""
	}
	best, least := "", max(1, len(name)/3)+1
	name = strings.ToLower(name)
	for _, k := range known {
		low := strings.ToLower(k)
		d := Distance(name, low)
		if min(len(name), len(low))*2 >= max(len(name), len(low)) && (strings.HasPrefix(low, name) || strings.HasPrefix(name, low)) {
			d = min(d, 2)
		}
		if d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

// Distance is how many bytes must be put in, left out, changed or swapped with the next
// to make b of a (optimal string alignment).
func Distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j]+change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Suggest says what else a name may have been meant to be: the nearest of the known
// ones, or if none is near all of them.
func Suggest(name string, known []string) string {
	switch near := Nearest(name, known); {
	case near != "":
		return "; the nearest is " + near
	case len(known) > 0:
		return "; known are " + strings.Join(known, ", ")
	}
	return ""
}
