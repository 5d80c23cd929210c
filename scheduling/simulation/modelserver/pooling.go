package modelserver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pooler is an api whose prompts pass through the engine, and that is all: nothing is generated or stays in the cache.
type pooler interface {
	// longest is the most tokens that the model reads at once.
	longest() int
}

// pool is what the APIs of models that pool have in common: inputs that are read apart from each other.
type pool struct {
	openAI
	inputs []prompt
}

func (a *pool) longest() (most int) {
	for _, input := range a.inputs {
		most = max(most, input.tokens())
	}
	return most
}

// all returns the inputs as one prompt, for the engine.
func (a *pool) all() (p prompt, limit int, failure *apiError) {
	for _, input := range a.inputs {
		p.data = append(p.data, input.data...)
	}
	return p, 1, nil
}

// list is the reply with one entry for each input.
func (a *pool) list(r *reply, data list) object {
	return object{
		"id": r.id, "object": "list", "created": r.created, "model": r.model, "data": data,
		"usage": object{"prompt_tokens": r.prompt, "total_tokens": r.prompt, "completion_tokens": 0},
	}
}

// readDocuments reads what is ranked: a text, or a list of texts, of {"text": …}, or of lists of parts.
func readDocuments(field string, raw json.RawMessage) ([]prompt, *apiError) {
	raw = bytes.TrimSpace(raw)
	if absent(raw) {
		return nil, invalid(field, "Missing required parameter: '%s'.", field)
	}
	if raw[0] != '[' {
		raw = slices.Concat([]byte("["), raw, []byte("]"))
	}
	var all []json.RawMessage
	err := json.Unmarshal(raw, &all)
	var read []prompt
	for _, one := range all {
		var (
			p  prompt
			in struct {
				Text    *string         `json:"text"`
				Content json.RawMessage `json:"content"`
			}
		)
		if one = bytes.TrimSpace(one); one[0] == '{' {
			if err = json.Unmarshal(one, &in); err == nil && in.Text != nil {
				p.text(*in.Text)
			}
			one = in.Content
		}
		if err == nil && p.data == nil {
			err = p.content(one)
		}
		if err == nil && p.tokens() == 0 {
			err = errors.New("there is an empty one")
		}
		if err != nil {
			return nil, invalid(field, "'%s': %v", field, err)
		}
		read = append(read, p)
	}
	if len(read) == 0 {
		return nil, invalid(field, "'%s' must not be empty", field)
	}
	return read, nil
}

// pair is what a cross-encoder reads: a question and a text.
func pair(a, b prompt) prompt { return prompt{data: slices.Concat(a.data, b.data)} }

// fits is how well a text fits a question, 0 to 1: the share of its words that are in the text, most of all.
func fits(question, text prompt) float64 {
	words := strings.Fields(strings.ToLower(strings.ReplaceAll(string(question.data), "\x00", " ")))
	in, found := strings.ToLower(string(text.data)), 0
	for _, word := range words {
		if strings.Contains(in, word) {
			found++
		}
	}
	noise := float64(hashBytes(0, pair(question, text).data)>>11) / (1 << 53)
	return (0.9*float64(found) + 0.1*noise) / float64(max(len(words), 1))
}

// score is POST /score: pairs of the first and the second texts, or of the only first one with each of the second.
type score struct {
	pool
	scores list
}

func (a *score) query(r *request) (p prompt, limit int, failure *apiError) {
	field1, field2 := "text_1", "text_2"
	one, two := r.Text1, r.Text2
	if absent(one) && absent(two) {
		field1, field2, one, two = "queries", "documents", r.Queries, r.Documents
	}
	first, failure := readDocuments(field1, one)
	if failure != nil {
		return p, 0, failure
	}
	second, failure := readDocuments(field2, two)
	if failure != nil {
		return p, 0, failure
	}
	if len(first) != 1 && len(first) != len(second) {
		return p, 0, invalid(field1, "%d of '%s' and %d of '%s': want 1, or as many", len(first), field1, len(second), field2)
	}
	for i, text := range second {
		question := first[i%len(first)]
		a.inputs = append(a.inputs, pair(question, text))
		a.scores = append(a.scores, object{"index": i, "object": "score", "score": fits(question, text)})
	}
	return a.all()
}

func (a *score) kind() string       { return "score" }
func (a *score) whole(r *reply) any { return a.list(r, a.scores) }

// rerank is POST /rerank, /v1/rerank and /v2/rerank, Cohere's.
type rerank struct {
	pool
	results []ranked
}

type ranked struct {
	Index    int     `json:"index"`
	Document object  `json:"document,omitempty"`
	Score    float64 `json:"relevance_score"`
}

func (a *rerank) query(r *request) (p prompt, limit int, failure *apiError) {
	question, failure := readDocuments("query", r.Query)
	if failure != nil {
		return p, 0, failure
	}
	documents, failure := readDocuments("documents", r.Documents)
	if failure != nil {
		return p, 0, failure
	}
	if r.TopN < 0 || len(question) != 1 {
		return p, 0, invalid("top_n", "top_n is %d, and there are %d queries: want none below 0, and 1", r.TopN, len(question))
	}
	for i, text := range documents {
		a.inputs = append(a.inputs, pair(question[0], text))
		one := ranked{Index: i, Score: fits(question[0], text)}
		if r.ReturnDocuments == nil || *r.ReturnDocuments {
			one.Document = object{"text": strings.TrimRight(string(text.data), "\x00")}
		}
		a.results = append(a.results, one)
	}
	slices.SortStableFunc(a.results, func(x, y ranked) int { return cmp.Compare(y.Score, x.Score) })
	if r.TopN > 0 {
		a.results = a.results[:min(r.TopN, len(a.results))]
	}
	return a.all()
}

func (a *rerank) kind() string { return "rerank" }

func (a *rerank) whole(r *reply) any {
	units := (len(a.inputs) + 99) / 100
	return object{
		"id": r.id, "model": r.model, "results": a.results, "usage": object{"prompt_tokens": r.prompt, "total_tokens": r.prompt},
		"meta": object{"api_version": object{"version": "2"}, "billed_units": object{"search_units": units}},
	}
}

// classes is POST /classify and POST /pooling.
type classes struct {
	pool
	vectors bool // of each input, not its class
}

func (a *classes) query(r *request) (p prompt, limit int, failure *apiError) {
	var err error
	if a.inputs, err = readInputs(r.Input); err != nil {
		return p, 0, invalid("input", "'input': %v", err)
	}
	return a.all()
}

func (a *classes) kind() string {
	if a.vectors {
		return "pool"
	}
	return "classify"
}

func (a *classes) whole(r *reply) any {
	data := list{}
	for i, input := range a.inputs {
		if a.vectors {
			data = append(data, object{"index": i, "object": "pooling", "data": embedding(input, defaultDimensions)})
			continue
		}
		odds := float64(hashBytes(1, input.data)>>11) / (1 << 53)
		data = append(data, object{
			"index": i, "label": fmt.Sprintf("LABEL_%.0f", odds), "probs": []float64{1 - odds, odds}, "num_classes": 2,
		})
	}
	return a.list(r, data)
}

// moderations is POST /v1/moderations. Nothing is ever found.
type moderations struct {
	pool
	model string // for requests that name none
}

func (a *moderations) query(r *request) (p prompt, limit int, failure *apiError) {
	r.Model = cmp.Or(r.Model, a.model)
	var err error
	if a.inputs, err = readInputs(r.Input); err != nil { // a list of parts is one input
		var one prompt
		if absent(r.Input) || one.content(r.Input) != nil {
			return p, 0, invalid("input", "'input': %v", err)
		}
		a.inputs = []prompt{one}
	}
	return a.all()
}

func (a *moderations) kind() string { return "modr" }

func (a *moderations) whole(r *reply) any {
	results := list{}
	for _, input := range a.inputs {
		found, scores, applied := object{}, object{}, object{}
		for i, name := range []string{
			"harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
			"self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
		} {
			found[name], applied[name] = false, []string{"text"}
			scores[name] = float64(hashBytes(uint64(i), input.data)>>11) / (1 << 63)
		}
		results = append(results, object{
			"flagged": false, "categories": found, "category_scores": scores, "category_applied_input_types": applied,
		})
	}
	return object{"id": r.id, "model": r.model, "results": results}
}
