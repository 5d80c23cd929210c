package modelserver

import (
	"bytes"
	"encoding/base64"
	"image"
	"net/http"
	"time"
)

const (
	usualSteps = 4    // of a diffusion model that was distilled
	mostSteps  = 200  //
	mostSide   = 2048 // pixels
)

// passes reads how often the diffusion model runs for one picture or film: twice a step if it is guided.
func (f *form) passes() float64 {
	steps := f.integer("num_inference_steps", usualSteps, 1, mostSteps)
	guided := f.number("true_cfg_scale", 1, 0, 100) > 1 && f.fields["negative_prompt"] != ""
	if guided {
		steps *= 2
	}
	return float64(steps)
}

// pictures is POST /v1/images/generations, /edits and /variations.
type pictures struct {
	p              *process
	edits, prompts bool // wants a picture; wants a prompt
}

func (a pictures) serve(w http.ResponseWriter, r *http.Request) (any, *apiError) {
	f, failure := a.p.readForm(w, r)
	if failure != nil {
		return nil, failure
	}
	text, shown := 0, 0 // tokens of what is given
	if a.prompts {
		text = (len(f.need("prompt")) + tokenBytes - 1) / tokenBytes
	}
	if a.edits && f.fields["images"]+f.fields["url"] == "" { // addresses need no file
		if config, _, err := image.DecodeConfig(bytes.NewReader(f.file("image").data)); err == nil {
			shown = imageTokens(config.Width, config.Height)
		} else {
			f.fail("image", "Invalid image file: %v", err)
		}
	}
	n := f.integer("n", 1, 1, 10)
	width, height := f.size("size", 1024, 1024, mostSide)
	d := denoise{width: width, height: height, passes: float64(n) * f.passes()}
	form := f.choice("response_format", "b64_json", "url")
	format := f.choice("output_format", "png")
	partial := f.integer("partial_images", 0, 0, 3)
	stream := f.choice("stream", "false", "true") == "true"
	model, failure := a.p.modelOf(f)
	if failure != nil {
		return nil, failure
	}
	seed := hashBytes(a.p.opts.Seed, []byte(model+f.fields["prompt"]))
	usage := object{
		"input_tokens": text + shown, "output_tokens": n * int(d.latents()), "total_tokens": text + shown + n*int(d.latents()),
		"input_tokens_details": object{"text_tokens": text, "image_tokens": shown},
	}
	about := func(fields object) object {
		fields["size"], fields["output_format"], fields["background"], fields["quality"] = f.fields["size"], format, "opaque", "auto"
		return fields
	}
	began, at := time.Now(), -1
	event := func(kind string, fields object) {
		kind = map[bool]string{true: "image_edit.", false: "image_generation."}[a.edits] + kind
		fields["type"], fields["created_at"] = kind, began.Unix()
		fields["b64_json"] = base64.StdEncoding.EncodeToString(picture(width, height, seed))
		w.Write(appendEvent(nil, kind, about(fields)))
		http.NewResponseController(w).Flush()
	}
	if stream {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		http.NewResponseController(w).Flush()
	}
	if err := a.p.slot.run(r.Context(), d, func(done float64) {
		if now := int(done * float64(partial+1)); stream && now > at && now > 0 {
			event("partial_image", object{"partial_image_index": now - 1})
			at = now
		}
	}); err != nil {
		panic(http.ErrAbortHandler)
	}
	if stream {
		event("completed", object{"usage": usage})
		return nil, nil
	}
	data := list{}
	for i := range uint64(n) {
		png := picture(width, height, mix(seed+i))
		if form == "b64_json" {
			data = append(data, object{"b64_json": base64.StdEncoding.EncodeToString(png)})
			continue
		}
		id := a.p.newID("img")
		a.p.images.put(id, &stored{object: object{"id": id, "object": "image"}, kind: "image/png", data: png})
		data = append(data, object{"url": "http://" + r.Host + "/v1/images/" + id + "/content"})
	}
	return about(object{
		"created": time.Now().Unix(), "data": data, "usage": usage, "inference_time_s": time.Since(began).Seconds(),
	}), nil
}

// stored is bytes that a client may fetch.
type stored struct {
	object
	kind string
	data []byte
}

func (s *stored) view() object { return s.object }
func (s *stored) size() int    { return len(s.data) + 512 }
func (s *stored) drop()        {}

// serveContent is GET of the bytes of a stored thing.
func serveContent(s *shelf[*stored]) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, *apiError) {
		one, failure := s.get(r.PathValue("id"))
		if failure != nil {
			return nil, failure
		}
		return raw{one.kind, one.data}, nil
	}
}
