package cost

import "slices"

// Crowd counts the requests in flight that begin alike: for each, the hashes of some of
// its beginnings. It is a table of fixed size without keys: where two hashes meet, the
// count is a little too high. The zero value is empty.
type Crowd struct {
	counts [1 << crowdBits]int32
}

// depths are the lengths in blocks of the beginnings that are counted: dense enough
// that one of them is soon behind the place where prompts part.
var depths = func() (d []int) {
	for n := 1; n <= 1<<14; n *= 2 {
		d = append(d, n)
		if n >= 2 {
			d = append(d, n+n/2)
		}
		if n >= 8 {
			d = append(d, n+n/4, n+3*n/4)
		}
	}
	slices.Sort(d)
	return d
}()

func (c *Crowd) at(hash uint64) *int32 { return &c.counts[hash>>(64-crowdBits)] }

// Add counts a prompt n times.
func (c *Crowd) Add(hashes []uint64, n int32) {
	for _, d := range depths {
		if d > len(hashes) {
			return
		}
		*c.at(hashes[d-1]) += n
	}
}

// Share returns how many requests in flight have the first blocks of the prompt.
func (c *Crowd) Share(hashes []uint64, blocks int) int {
	i, found := slices.BinarySearch(depths, blocks)
	if !found {
		i--
	}
	if i < 0 {
		return 0
	}
	return int(*c.at(hashes[depths[i]-1]))
}
