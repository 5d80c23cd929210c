package openai

import (
	"cmp"
	"math"
	"slices"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/types"
)

// ImageRule says how many tokens a picture is. Rule is one of:
//
//	area              width x height / Patch², at most MaxTokens. The default
//	fixed             Tokens, whatever the size
//	qwen2-vl, qwen2.5-vl, qwen3-vl
//	                  sides to the nearest multiple of Patch x Merge, MinPixels to MaxPixels in all; one token for each square of that side
//	pixtral           no side longer than MaxSide, then a token for each square of Patch x Merge that is begun, and with Breaks one a row
//	llama4            up to MaxTiles tiles of Tile pixels, in the shape that fits best, TileTokens each; of several one token more after each, and all of it
//	internvl          tiles likewise, without such tokens, in the shape with the nearest ratio of sides
//	llava-1.5         576 tokens
//	llava-next        all of it as in llava-1.5, and up to four tiles of Tile pixels without what is beyond the edges
//	phi4-mm           up to MaxTiles tiles without what is beyond the edges, and all of it
//	gemma3            256 tokens
//	openai-4o         Tokens, and TileTokens for each tile of Tile pixels, at a shorter side of 768; with low detail Tokens alone
//	openai-patches    squares of Patch pixels, at most MaxTokens of them, times Factor
//
// A field that is 0 is as the rule has it; one that the rule does not have must be 0.
type ImageRule struct {
	Rule       string  `json:"rule"`
	Patch      int     `json:"patch"`
	Merge      int     `json:"merge"`
	MinPixels  int     `json:"minPixels"`
	MaxPixels  int     `json:"maxPixels"`
	MaxSide    int     `json:"maxSide"`
	Breaks     bool    `json:"breaks"`
	Tile       int     `json:"tile"`
	MaxTiles   int     `json:"maxTiles"`
	TileTokens int     `json:"tileTokens"`
	Tokens     int     `json:"tokens"`
	MaxTokens  int     `json:"maxTokens"`
	Factor     float64 `json:"factor"`
	Size       Size    `json:"size"` // of a picture whose size is not known. Default 1024x1024

	count func(r *ImageRule, w, h, low, high float64) float64
}

// imageRules are the rules, with their defaults.
var imageRules = map[string]ImageRule{
	"area":           {Patch: 32, MaxTokens: 4096, count: (*ImageRule).area},
	"fixed":          {Tokens: 256, count: (*ImageRule).fixed},
	"qwen2-vl":       {Patch: 14, Merge: 2, MinPixels: 3136, MaxPixels: 12_845_056, count: (*ImageRule).squares},
	"qwen2.5-vl":     {Patch: 14, Merge: 2, MinPixels: 3136, MaxPixels: 12_845_056, count: (*ImageRule).squares},
	"qwen3-vl":       {Patch: 16, Merge: 2, MinPixels: 65_536, MaxPixels: 16_777_216, count: (*ImageRule).squares},
	"pixtral":        {Patch: 16, Merge: 1, MaxSide: 1024, count: (*ImageRule).rows},
	"llama4":         {Tile: 336, MaxTiles: 16, TileTokens: 144, count: (*ImageRule).bestTiles},
	"internvl":       {Tile: 448, MaxTiles: 12, TileTokens: 256, count: (*ImageRule).nearestTiles},
	"llava-1.5":      {Tokens: 576, count: (*ImageRule).fixed},
	"llava-next":     {Tile: 336, Patch: 14, count: (*ImageRule).unpadded},
	"phi4-mm":        {Tile: 448, MaxTiles: 36, count: (*ImageRule).crops},
	"gemma3":         {Tokens: 256, count: (*ImageRule).fixed},
	"openai-4o":      {Tokens: 85, Tile: 512, TileTokens: 170, count: (*ImageRule).scaledTiles},
	"openai-patches": {Patch: 32, MaxTokens: 1536, Factor: 1, count: (*ImageRule).patches},
}

func (r *ImageRule) setDefaults() error {
	var c check.Checks
	r.Rule = cmp.Or(r.Rule, "area")
	rule, ok := imageRules[r.Rule]
	if !ok {
		names := make([]string, 0, len(imageRules))
		for name := range imageRules {
			names = append(names, name)
		}
		slices.Sort(names)
		c.Unknown("rule", r.Rule, names)
		return c.Err()
	}
	field := func(name string, v *int, def, high int) {
		if def == 0 {
			c.Want(*v == 0, name, *v, "nothing, because rule %s has none", r.Rule)
			return
		}
		check.Default(&c, name, v, def, 1, high)
	}
	field("patch", &r.Patch, rule.Patch, 4096)
	field("merge", &r.Merge, rule.Merge, 64)
	field("minPixels", &r.MinPixels, rule.MinPixels, maxFamilyPixels)
	field("maxPixels", &r.MaxPixels, max(rule.MaxPixels, min(rule.MaxPixels, 1)*r.MinPixels), maxFamilyPixels)
	field("maxSide", &r.MaxSide, rule.MaxSide, maxSide)
	field("tile", &r.Tile, rule.Tile, 4096)
	field("maxTiles", &r.MaxTiles, rule.MaxTiles, 64)
	field("tileTokens", &r.TileTokens, rule.TileTokens, maxFamilyTokens/64)
	field("tokens", &r.Tokens, rule.Tokens, maxFamilyTokens)
	field("maxTokens", &r.MaxTokens, rule.MaxTokens, maxFamilyTokens)
	if rule.Factor == 0 {
		c.Want(r.Factor == 0, "factor", r.Factor, "nothing, because rule %s has none", r.Rule)
	} else {
		check.Default(&c, "factor", &r.Factor, rule.Factor, 0.001, 1000)
	}
	c.Want(!r.Breaks || r.Rule == "pixtral", "breaks", r.Breaks, "nothing, because rule %s has none", r.Rule)
	c.Want(r.MaxPixels >= r.MinPixels, "maxPixels", r.MaxPixels, "at least minPixels, %d", r.MinPixels)
	r.Size.setDefault(Size{1024, 1024})
	r.count = rule.count
	return c.Err()
}

// tokens of an image; guessed says that its size is not known and counts.
func (r *ImageRule) tokens(m *types.Media) (tokens int, guessed bool) {
	w, h := m.Width, m.Height
	if w <= 0 || h <= 0 {
		w, h = r.Size.Width, r.Size.Height
		guessed = r.Patch > 0 || r.Tile > 0 // else all sizes are alike
	}
	if m.LowDetail && r.Rule == "openai-4o" {
		return r.Tokens, false
	}
	return r.picture(w, h, 0, 0), guessed
}

// picture returns the tokens of a picture of w x h pixels. Bounds of pixels that are not 0 go before those of the rule.
func (r *ImageRule) picture(w, h int, low, high float64) int {
	if low == 0 {
		low = float64(r.MinPixels)
	}
	if high == 0 {
		high = float64(r.MaxPixels)
	}
	return between(math.Ceil(r.count(r, float64(w), float64(h), low, max(high, low))), 1, maxFamilyTokens)
}

func (r *ImageRule) area(w, h, _, _ float64) float64 {
	return min(w*h/float64(r.Patch*r.Patch), float64(r.MaxTokens))
}

func (r *ImageRule) fixed(_, _, _, _ float64) float64 { return float64(r.Tokens) }

// squares is what Qwen's processors call smart_resize.
func (r *ImageRule) squares(w, h, low, high float64) float64 {
	side := float64(r.Patch * r.Merge)
	cols, rows := math.RoundToEven(w/side), math.RoundToEven(h/side) // a strip may have none, and grows
	if pixels := cols * rows * side * side; pixels > high {
		by := math.Sqrt(w * h / high)
		cols, rows = max(math.Floor(w/by/side), 1), max(math.Floor(h/by/side), 1)
	} else if pixels < low {
		by := math.Sqrt(low / (w * h))
		cols, rows = math.Ceil(w*by/side), math.Ceil(h*by/side)
	}
	return cols * rows
}

func (r *ImageRule) rows(w, h, _, _ float64) float64 {
	side := float64(r.Patch * r.Merge)
	if by := max(w, h) / float64(r.MaxSide); by > 1 {
		w, h = math.Floor(w/by), math.Floor(h/by)
	}
	cols, rows := max(math.Ceil(w/side), 1), max(math.Ceil(h/side), 1)
	if r.Breaks {
		cols++
	}
	return cols * rows
}

// bestTiles takes of the shapes in which the picture need not shrink the one in which it grows least, or if it must
// shrink in all the one in which it shrinks least; of several the smallest.
func (r *ImageRule) bestTiles(w, h, _, _ float64) float64 {
	tile := float64(r.Tile)
	best, tiles := 0.0, 0
	for cols := 1; cols <= r.MaxTiles; cols++ {
		for rows := 1; cols*rows <= r.MaxTiles; rows++ {
			by := min(float64(cols)*tile/w, float64(rows)*tile/h)
			better := by > best
			if best >= 1 {
				better = by >= 1 && by < best
			}
			if tiles == 0 || better || by == best && cols*rows < tiles {
				best, tiles = by, cols*rows
			}
		}
	}
	if tiles == 1 {
		return float64(r.TileTokens)
	}
	return float64((tiles+1)*r.TileTokens + tiles) // after each tile comes a token of its own
}

// nearestTiles returns the shape whose ratio of sides is nearest to the picture's; of several that are as near, a
// larger one if the picture covers more than half of it.
func nearestTiles(w, h, tile float64, most int) (cols, rows int) {
	ratio, best := w/h, math.Inf(1)
	for n := 1; n <= most; n++ { // the processors sort shapes by their number of tiles
		for c := 1; c <= n; c++ {
			if n%c != 0 {
				continue
			}
			r := n / c
			off := math.Abs(ratio - float64(c)/float64(r))
			if off < best || off == best && w*h > 0.5*tile*tile*float64(n) {
				best, cols, rows = off, c, r
			}
		}
	}
	return cols, rows
}

func (r *ImageRule) nearestTiles(w, h, _, _ float64) float64 {
	cols, rows := nearestTiles(w, h, float64(r.Tile), r.MaxTiles)
	tiles := cols * rows
	if tiles > 1 {
		tiles++
	}
	return float64(tiles * r.TileTokens)
}

// pinpoints are the shapes that LLaVA-NeXT has, in tiles: columns, rows.
var pinpoints = [...][2]float64{{2, 1}, {1, 2}, {2, 2}, {1, 3}, {3, 1}}

// unpadded takes the shape in which most of the picture is kept and least is wasted.
func (r *ImageRule) unpadded(w, h, _, _ float64) float64 {
	tile, patches := float64(r.Tile), float64(r.Tile/r.Patch)
	kept, wasted, shape := 0.0, math.Inf(1), pinpoints[0]
	for _, s := range pinpoints {
		by := min(s[0]*tile/w, s[1]*tile/h)
		pixels := min(math.Floor(w*by)*math.Floor(h*by), w*h)
		waste := s[0]*s[1]*tile*tile - pixels
		if pixels > kept || pixels == kept && waste < wasted {
			kept, wasted, shape = pixels, waste, s
		}
	}
	cols, rows := shape[0]*patches, shape[1]*patches
	if w/h > cols/rows {
		rows -= 2 * math.Floor((rows-math.Floor(h*cols/w))/2)
	} else {
		cols -= 2 * math.Floor((cols-math.Floor(w*rows/h))/2)
	}
	return cols*rows + rows + patches*patches // with a mark after each row
}

// crops counts what of the tiles is not padding, with a mark after each row, and all of the picture in one tile with a mark
// after each of its rows.
func (r *ImageRule) crops(w, h, _, _ float64) float64 {
	tile := float64(r.Tile)
	cols, rows := math.Ceil(w/tile), math.Ceil(h/tile)
	if cols*rows > float64(r.MaxTiles) {
		c, n := nearestTiles(w, h, tile, r.MaxTiles)
		cols, rows = float64(c), float64(n)
	}
	const patch = 14 // pixels, two of which in each direction are a token
	seen := func(tiles, side, by float64) float64 {
		padding := tiles*tile - math.Floor(side*by)
		return math.Ceil((tiles*math.Floor(tile/patch) - math.Floor(padding/patch)) / 2)
	}
	wide, high := cols*tile/w, rows*tile/h
	across, down := math.Ceil(cols*math.Floor(tile/patch)/2), math.Ceil(rows*math.Floor(tile/patch)/2)
	if wide < high {
		down = seen(rows, h, wide)
	} else {
		across = seen(cols, w, high)
	}
	all := math.Floor(tile / patch / 2)
	return all*all + 1 + across*down + down + all
}

func (r *ImageRule) scaledTiles(w, h, _, _ float64) float64 {
	if by := max(w, h) / 2048; by > 1 {
		w, h = w/by, h/by
	}
	if by := min(w, h) / 768; by > 1 {
		w, h = w/by, h/by
	}
	tile := float64(r.Tile)
	return float64(r.Tokens) + float64(r.TileTokens)*math.Ceil(w/tile)*math.Ceil(h/tile)
}

func (r *ImageRule) patches(w, h, _, _ float64) float64 {
	side, most := float64(r.Patch), float64(r.MaxTokens)
	if math.Ceil(w/side)*math.Ceil(h/side) > most {
		by := math.Sqrt(side * side * most / (w * h))
		cols, rows := w*by/side, h*by/side
		by *= min(max(math.Floor(cols), 1)/cols, max(math.Floor(rows), 1)/rows)
		w, h = math.Floor(w*by), math.Floor(h*by) // a whole number of patches in one direction
	}
	return min(math.Ceil(w/side)*math.Ceil(h/side), most) * r.Factor
}
