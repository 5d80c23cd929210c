package openai

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/inferpick/inferpick/internal/check"
	"github.com/inferpick/inferpick/internal/strictjson"
)

// Families is a table that says which family a model is of. Make it with NewFamilies or ParseFamilies. It does not change. A nil
// table knows what KnownFamilies lists.
type Families struct {
	families []Family
	// patterns are the names of all models, those that begin alike ordered so that the first that matches is the best: exact
	// ones, then the longest.
	patterns []pattern
}

type pattern struct {
	name   string // without the *
	prefix bool
	family int
}

// NewFamilies returns a table of families. A model that none of them names is looked for among the KnownFamilies. The error
// lists all that is wrong.
func NewFamilies(families ...Family) (*Families, error) {
	t := &Families{families: slices.Clone(families)}
	var c check.Checks
	seen := map[string]bool{}
	for i := range t.families {
		f := &t.families[i]
		at := fmt.Sprintf("families[%d]", i)
		c.Add(at, f.setDefaults())
		if len(f.Models) == 0 {
			c.Failf(at+".models", "is required: the names of models, or what they begin with and *")
		}
		for j, name := range f.Models {
			field := fmt.Sprintf("%s.models[%d]", at, j)
			p := pattern{family: i}
			p.name, p.prefix = strings.CutSuffix(strings.ToLower(name), "*")
			switch {
			case name == "":
				c.Failf(field, "is empty")
			case strings.Contains(p.name, "*"):
				c.Want(false, field, name, "a name with a * at its end, or none")
			case seen[strings.ToLower(name)]:
				c.Want(false, field, name, "each name once")
			}
			seen[strings.ToLower(name)] = true
			t.patterns = append(t.patterns, p)
		}
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(t.patterns, func(a, b pattern) int {
		if a.prefix != b.prefix {
			if b.prefix {
				return -1
			}
			return 1
		}
		return len(b.name) - len(a.name)
	})
	return t, nil
}

// ParseFamilies reads a table from JSON:
//
//	{"families": [{"models": ["acme/vision-*"], "image": {"rule": "qwen2-vl", "maxPixels": 1003520}}]}
//
// Unknown fields are errors; all that is wrong is listed, with its position.
func ParseFamilies(data []byte) (*Families, error) {
	doc, err := strictjson.Parse(data, strictjson.Options{Package: "openai"})
	if err != nil {
		return nil, err
	}
	var table struct {
		Families []Family `json:"families"`
	}
	if err := doc.Decode(&table); err != nil {
		return nil, err
	}
	t, err := NewFamilies(table.Families...)
	if err != nil {
		return nil, doc.Locate(err)
	}
	return t, nil
}

// Of returns the family of the first of some names of a model that is in the table, or of the first that is known; of neither
// the default one, which has the rules that Parse has applied. It is never nil, and must not be changed.
func (t *Families) Of(names ...string) *Family {
	for _, table := range []*Families{t, known()} {
		for _, name := range names {
			if f := table.find(name); f != nil {
				return f
			}
		}
	}
	return defaultFamily
}

func (t *Families) find(name string) *Family {
	if t == nil || name == "" {
		return nil
	}
	short := name[strings.LastIndexByte(name, '/')+1:]
	for _, p := range t.patterns {
		if p.matches(name) || short != name && !strings.Contains(p.name, "/") && p.matches(short) {
			return &t.families[p.family]
		}
	}
	return nil
}

func (p pattern) matches(name string) bool {
	if p.prefix && len(name) > len(p.name) {
		name = name[:len(p.name)]
	}
	return strings.EqualFold(p.name, name)
}

// KnownFamilies returns the families of models that are known by the names under which they were published, as their processors
// are configured there. Each call returns new ones.
func KnownFamilies() []Family {
	qwen := VideoRule{FPS: 2, MinFrames: 4, MaxFrames: 768, Temporal: 2, FramePixels: 602_112, MaxPixels: 19_267_584}
	return []Family{
		{Models: []string{"qwen2-vl*", "qvq-*"}, Image: ImageRule{Rule: "qwen2-vl"}, Video: qwen},
		{Models: []string{"qwen2.5-vl*", "qwen2.5-omni*"}, Image: ImageRule{Rule: "qwen2.5-vl"}, Video: qwen},
		{Models: []string{"qwen2-audio*"}, Audio: AudioRule{TokensPerSecond: 25}},
		{
			Models: []string{"qwen3-vl*", "qwen3.5*"}, Image: ImageRule{Rule: "qwen3-vl"},
			Video: VideoRule{FPS: 2, MinFrames: 4, MaxFrames: 768, Temporal: 2, MinPixels: 4096, MaxPixels: 25_165_824},
		},
		{
			Models: []string{"qwen3-omni*"}, Image: ImageRule{Rule: "qwen3-vl"}, Audio: AudioRule{TokensPerSecond: 13},
			Video: VideoRule{FPS: 2, MinFrames: 4, MaxFrames: 768, Temporal: 2, MinPixels: 4096, MaxPixels: 25_165_824},
		},
		{Models: []string{"llama-4*"}, Image: ImageRule{Rule: "llama4"}},
		{Models: []string{"internvl2*", "internvl3*"}, Image: ImageRule{Rule: "internvl"}, Video: VideoRule{FPS: 1, Temporal: 1, FrameTokens: 256, MaxFrames: 32}},
		{Models: []string{"llava-1.5*", "llava-v1.5*"}, Image: ImageRule{Rule: "llava-1.5"}},
		{Models: []string{"llava-v1.6*", "llava-next*"}, Image: ImageRule{Rule: "llava-next"}},
		{Models: []string{"pixtral*"}, Image: ImageRule{Rule: "pixtral", Breaks: true}},
		{Models: []string{"mistral-small-3.1*", "mistral-small-3.2*"}, Image: ImageRule{Rule: "pixtral", Patch: 14, Merge: 2, MaxSide: 1540, Breaks: true}},
		{Models: []string{"phi-4-multimodal*"}, Image: ImageRule{Rule: "phi4-mm"}, Audio: AudioRule{TokensPerSecond: 12.5}},
		{Models: []string{"gemma-3*"}, Image: ImageRule{Rule: "gemma3"}},
		{Models: []string{"gpt-4o*", "gpt-4.1", "gpt-4.1-20*", "gpt-4.5*"}, Image: ImageRule{Rule: "openai-4o"}},
		{Models: []string{"gpt-4.1-mini*"}, Image: ImageRule{Rule: "openai-patches", Factor: 1.62}},
		{Models: []string{"gpt-4.1-nano*"}, Image: ImageRule{Rule: "openai-patches", Factor: 2.46}},
		{Models: []string{"whisper*"}, Audio: AudioRule{TokensPerSecond: 50, WindowSeconds: 30, Seconds: 30}},
		{Models: []string{"qwen-image*"}, Diffusion: DiffusionRule{Steps: 50, Passes: 2}},
		{Models: []string{"flux.1-dev*"}, Diffusion: DiffusionRule{Steps: 28}},
		{Models: []string{"flux.1-schnell*", "sdxl-turbo*", "z-image-turbo*"}, Diffusion: DiffusionRule{Steps: 4}},
		{Models: []string{"wan2*"}, Diffusion: DiffusionRule{Steps: 50, Passes: 2, VideoSize: Size{832, 480}, Frames: 81}},
	}
}

var known = sync.OnceValue(func() *Families {
	t, err := NewFamilies(KnownFamilies()...)
	if err != nil {
		panic(err) // no value of a caller's is in it
	}
	return t
})
