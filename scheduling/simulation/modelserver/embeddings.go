package modelserver

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
)

const (
	defaultDimensions = 64
	maxDimensions     = 4096
)

// readInputs reads what /v1/completions and /v1/embeddings take: a string, a
// list of strings, a list of tokens, or a list of lists of tokens.
func readInputs(raw json.RawMessage) ([]prompt, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, errors.New("must be given")
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	var texts []string
	if json.Unmarshal(raw, &texts) == nil {
		inputs := make([]prompt, len(texts))
		for i, s := range texts {
			inputs[i].text(s)
		}
		return inputs, nil
	}
	var tokens []uint32
	if json.Unmarshal(raw, &tokens) == nil {
		raw = append(append([]byte{'['}, raw...), ']')
	}
	var lists [][]uint32
	if json.Unmarshal(raw, &lists) != nil {
		return nil, errors.New("want a string, a list of strings, a list of tokens or a list of lists of tokens")
	}
	inputs := make([]prompt, len(lists))
	for i, list := range lists {
		for _, token := range list {
			inputs[i] = binary.LittleEndian.AppendUint32(inputs[i], token)
		}
	}
	return inputs, nil
}

// embedding returns a unit vector that depends on the text only.
func embedding(text prompt, dimensions int) []float32 {
	rng := rand.New(rand.NewPCG(hashBytes(0, text), 0x656d626564))
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

// serveEmbeddings is POST /v1/embeddings. The inputs pass through the engine as
// one prompt.
func (p *process) serveEmbeddings(w http.ResponseWriter, r *http.Request) {
	var body struct {
		fields
		Input      json.RawMessage `json:"input"`
		Encoding   string          `json:"encoding_format"`
		Dimensions *int            `json:"dimensions"`
	}
	if err := p.readJSON(w, r, &body); err != nil {
		err.write(w)
		return
	}
	inputs, err := readInputs(body.Input)
	if err != nil {
		invalid("input", "'input': %v", err).write(w)
		return
	}
	dimensions := defaultDimensions
	if body.Dimensions != nil {
		dimensions = *body.Dimensions
	}
	if dimensions < 1 || dimensions > maxDimensions {
		invalid("dimensions", "dimensions is %d: want 1 to %d", dimensions, maxDimensions).write(w)
		return
	}
	if body.Encoding != "" && body.Encoding != "float" && body.Encoding != "base64" {
		invalid("encoding_format", "encoding_format is %q: want float or base64", body.Encoding).write(w)
		return
	}

	q := query{fields: fields{Model: body.Model, CacheSalt: body.CacheSalt}, limit: 1}
	data := make([]any, len(inputs))
	for i, input := range inputs {
		q.prompt = append(q.prompt, input...)
		var value any = embedding(input, dimensions)
		if body.Encoding == "base64" {
			raw, _ := binary.Append(nil, binary.LittleEndian, value) // float32 has a fixed size
			value = base64.StdEncoding.EncodeToString(raw)
		}
		data[i] = map[string]any{"object": "embedding", "index": i, "embedding": value}
	}
	rep, failure := p.plan(r, &q)
	if failure != nil {
		failure.write(w)
		return
	}
	p.loop.submit(rep.stream)
	defer p.loop.leave(rep.stream)
	if _, _, err := rep.stream.wait(r.Context()); err != nil {
		panic(http.ErrAbortHandler)
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"object": "list", "model": body.Model, "data": data,
		"usage": map[string]any{"prompt_tokens": rep.prompt, "total_tokens": rep.prompt},
	})
}
