package modelserver

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
)

const (
	windowSeconds = 30   // what the model hears at once
	windowTokens  = 1500 // of each window, however much is in it
	saidTokens    = 3    // per second of sound
)

// transcription is POST /v1/audio/transcriptions and /v1/audio/translations.
type transcription struct {
	openAI
	task    string
	format  string
	seconds float64
}

func (a *transcription) query(r *request) (p prompt, limit int, failure *apiError) {
	f := r.form
	sound := f.file("file")
	a.format = f.choice("response_format", "json", "text", "verbose_json")
	a.seconds = soundSeconds(sound.data)
	if len(sound.data) == 0 {
		f.fail("file", "The sound is empty.")
	}
	windows := math.Ceil(a.seconds / windowSeconds)
	if most := 1 << 20 / windowTokens; windows > float64(most) {
		f.fail("file", "The sound has %.0f s: want at most %d", a.seconds, most*windowSeconds)
	}
	if f.err != nil {
		return p, 0, f.err
	}
	p.opaque(sound.data, int(max(windows, 1))*windowTokens)
	if r.SimOutput == "" {
		r.SimOutput = json.Number(strconv.Itoa(max(1, int(a.seconds*saidTokens))))
	}
	return p, 0, nil
}

func (a *transcription) kind() string { return "trsc" }

func (a *transcription) usage() object {
	return object{"type": "duration", "seconds": math.Ceil(a.seconds)}
}

func (a *transcription) whole(r *reply) any {
	text := strings.TrimSpace(string(r.text))
	switch a.format {
	case "text":
		return raw{"text/plain; charset=utf-8", []byte(text + "\n")}
	case "json":
		return object{"text": text, "usage": a.usage()}
	}
	segments, words := list{}, strings.Fields(text)
	for start := 0.; start < a.seconds; start += windowSeconds {
		end := min(start+windowSeconds, a.seconds)
		at := func(seconds float64) int { return int(seconds / a.seconds * float64(len(words))) }
		segments = append(segments, object{
			"id": len(segments), "seek": int(start * 100), "start": start, "end": end, "tokens": list{}, "temperature": 0,
			"text": strings.Join(words[at(start):at(end)], " "), "avg_logprob": -.1, "compression_ratio": 1, "no_speech_prob": 0,
		})
	}
	return object{"task": a.task, "language": "english", "duration": a.seconds, "text": text, "segments": segments, "usage": a.usage()}
}

func (a *transcription) begin(buf []byte, _ *reply) []byte { return buf }

func (a *transcription) delta(buf []byte, r *reply, i int) []byte {
	return appendData(buf, object{"type": "transcript.text.delta", "delta": string(r.token(i))})
}

func (a *transcription) end(buf []byte, r *reply) []byte {
	return appendData(buf, object{"type": "transcript.text.done", "text": strings.TrimSpace(string(r.text)), "usage": a.usage()})
}

// speech is POST /v1/audio/speech. What is said is silence of the right length.
type speech struct {
	openAI
	format string
	events bool // server-sent ones, not the sound as it is
}

const (
	speechRate  = 24000               // samples a second, of 16 bits
	tokenSample = speechRate * 2 / 25 // samples of a token: there are 12.5 a second
	mostSpeech  = 4096                // characters
)

func (a *speech) query(r *request) (p prompt, limit int, failure *apiError) {
	f := r.form
	text := f.need("input")
	if len(text) > mostSpeech {
		f.fail("input", "The input has %d bytes: want at most %d", len(text), mostSpeech)
	}
	f.need("voice")
	a.format = f.choice("response_format", "mp3", "wav", "pcm")
	a.events = f.choice("stream_format", "audio", "sse") == "sse"
	seconds := float64(len(text)) / 15 / f.number("speed", 1, .25, 4)
	if f.err != nil {
		return p, 0, f.err
	}
	p.text(text)
	r.Stream = true // it comes in pieces, whatever the form
	if r.SimOutput == "" {
		r.SimOutput = json.Number(strconv.Itoa(max(1, int(math.Ceil(seconds*12.5)))))
	}
	return p, 0, nil
}

func (a *speech) kind() string { return "spch" }

// whole is not called: the reply is always a stream.
func (a *speech) whole(*reply) any { return nil }

func (a *speech) contentType() string {
	if a.events {
		return eventStream
	}
	return map[string]string{"mp3": "audio/mpeg", "wav": "audio/wav", "pcm": "audio/pcm"}[a.format]
}

func (a *speech) begin(buf []byte, _ *reply) []byte {
	if a.format != "wav" {
		return buf
	}
	// A header whose lengths are not known yet.
	wav := []byte("RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00")
	wav = binary.LittleEndian.AppendUint32(wav, speechRate)
	wav = binary.LittleEndian.AppendUint32(wav, speechRate*2)
	return a.sound(buf, append(wav, "\x02\x00\x10\x00data\xff\xff\xff\xff"...))
}

func (a *speech) sound(buf, data []byte) []byte {
	if a.events {
		return appendData(buf, object{"type": "speech.audio.delta", "audio": base64.StdEncoding.EncodeToString(data)})
	}
	return append(buf, data...)
}

func (a *speech) delta(buf []byte, _ *reply, i int) []byte {
	if a.format != "mp3" {
		return a.sound(buf, make([]byte, tokenSample*2))
	}
	// A frame of MPEG-2 layer III at 64 kbit/s is 192 bytes and 24 ms: ten frames are three tokens.
	var data []byte
	for n := (i+1)*10/3 - i*10/3; n > 0; n-- {
		data = append(data, 0xff, 0xf3, 0x84, 0xc4)
		data = append(data, make([]byte, 188)...)
	}
	return a.sound(buf, data)
}

func (a *speech) end(buf []byte, r *reply) []byte {
	if !a.events {
		return buf
	}
	return appendData(buf, object{"type": "speech.audio.done", "usage": object{
		"input_tokens": r.prompt, "output_tokens": r.tokens(), "total_tokens": r.prompt + r.tokens(),
	}})
}

// raw is a body that is not JSON.
type raw struct {
	kind string
	data []byte
}

// writeAnswer writes what an API answers.
func writeAnswer(w http.ResponseWriter, v any) {
	body, ok := v.(raw)
	if !ok {
		writeJSON(w, http.StatusOK, v)
		return
	}
	w.Header().Set("Content-Type", body.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body.data)))
	w.Write(body.data)
}

func (*transcription) takesForm() {}
func (*speech) takesForm()        {}
