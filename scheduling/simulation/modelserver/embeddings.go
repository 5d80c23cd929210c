package modelserver

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"math/rand/v2"
)

const (
	defaultDimensions = 64
	maxDimensions     = 4096
)

// embeddings is POST /v1/embeddings. The inputs pass through the engine as one prompt, of which nothing is kept.
type embeddings struct {
	pool
	dimensions int
	base64     bool
}

func (a *embeddings) query(r *request) (prompt, int, *apiError) {
	var err error
	if a.inputs, err = readInputs(r.Input); err != nil {
		return prompt{}, 0, invalid("input", "'input': %v", err)
	}
	a.dimensions, a.base64 = defaultDimensions, r.Encoding == "base64"
	if r.Dimensions != nil {
		a.dimensions = *r.Dimensions
	}
	if a.dimensions < 1 || a.dimensions > maxDimensions {
		return prompt{}, 0, invalid("dimensions", "dimensions is %d: want 1 to %d", a.dimensions, maxDimensions)
	}
	if r.Encoding != "" && r.Encoding != "float" && !a.base64 {
		return prompt{}, 0, invalid("encoding_format", "encoding_format is %q: want float or base64", r.Encoding)
	}
	return a.all()
}

func (a *embeddings) kind() string { return "embd" }

func (a *embeddings) whole(r *reply) any {
	data := list{}
	for i, input := range a.inputs {
		var value any = embedding(input, a.dimensions)
		if a.base64 {
			raw, _ := binary.Append(nil, binary.LittleEndian, value) // float32 has a fixed size
			value = base64.StdEncoding.EncodeToString(raw)
		}
		data = append(data, object{"object": "embedding", "index": i, "embedding": value})
	}
	return object{
		"object": "list", "model": r.model, "data": data,
		"usage": object{"prompt_tokens": r.prompt, "total_tokens": r.prompt},
	}
}

// embedding returns a unit vector that depends on the text only.
func embedding(text prompt, dimensions int) []float32 {
	rng := rand.New(rand.NewPCG(hashBytes(0, text.data), 0x656d626564))
	v := make([]float64, dimensions)
	square := 0.0
	for i := range v {
		v[i] = rng.NormFloat64()
		square += v[i] * v[i]
	}
	unit := make([]float32, dimensions)
	for i := range v {
		unit[i] = float32(v[i] / math.Sqrt(square))
	}
	return unit
}
