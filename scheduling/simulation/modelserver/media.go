package modelserver

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	_ "image/gif"
	_ "image/jpeg"
	"image/png"
	"math"
	"strings"
)

const (
	// otherTokens is what a file in a prompt counts, and whatever else is not known.
	otherTokens = 256
	// farTokens is what a picture counts that is elsewhere: those of 1,024 x 1,024.
	farTokens = 1024
	// mostTokens is the most that one part counts.
	mostTokens = 16384
	// mostParts is the most parts of a prompt that are not text.
	mostParts = 256
	// soundTokens is what a second of sound counts.
	soundTokens = 25
)

// imageTokens is what a picture counts: one for each patch of 32 x 32 pixels.
func imageTokens(width, height int) int {
	patches := func(side int) int { return (min(max(side, 1), 1<<20) + 31) / 32 }
	return min(patches(width)*patches(height), mostTokens)
}

// part appends the tokens of a part that is not text.
func (p *prompt) part(kind string, raw json.RawMessage) error {
	if p.parts++; p.parts > mostParts {
		return fmt.Errorf("at most %d parts that are not text may be given", mostParts)
	}
	var fields struct {
		Image json.RawMessage `json:"image_url"` // {"url": …}, or the address itself
		Audio struct {
			Data string `json:"data"`
		} `json:"input_audio"`
		Source struct { // Anthropic's
			Data string `json:"data"`
		} `json:"source"`
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	n := otherTokens
	switch kind {
	case "image_url", "input_image", "image":
		var url string
		var in struct{ URL string }
		if json.Unmarshal(fields.Image, &url) != nil && json.Unmarshal(fields.Image, &in) == nil {
			url = in.URL
		}
		n = farTokens
		if data, ok := strings.CutPrefix(url, "data:"); ok {
			_, fields.Source.Data, _ = strings.Cut(data, ",")
		}
		if fields.Source.Data != "" {
			data := bufio.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(fields.Source.Data)))
			head, _ := data.Peek(12)
			config, _, err := image.DecodeConfig(data)
			switch {
			case err == nil:
				n = imageTokens(config.Width, config.Height)
			case len(head) < 12 || string(head[:4])+string(head[8:]) != "RIFFWEBP": // whose size is not read
				return fmt.Errorf("the picture could not be read: %w", err)
			}
		}
		p.images += n
	case "input_audio":
		data, err := base64.StdEncoding.DecodeString(fields.Audio.Data)
		if err != nil {
			return fmt.Errorf("the sound could not be read: %w", err)
		}
		n = min(int(math.Ceil(soundSeconds(data)*soundTokens)), mostTokens)
		p.sounds += n
	}
	p.opaque(raw, n)
	return nil
}

// soundSeconds returns how long a sound is: what its header says if it is a WAV, and for others what they would be
// at 128 kbit/s.
func soundSeconds(data []byte) float64 {
	guess := float64(len(data)) * 8 / 128e3
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WAVE" {
		return guess
	}
	rate := uint32(0)
	for rest := data[12:]; len(rest) >= 8; {
		name, size := string(rest[:4]), min(int64(binary.LittleEndian.Uint32(rest[4:])), int64(len(rest)-8))
		body := rest[8 : 8+size]
		if name == "fmt " && size >= 16 {
			rate = binary.LittleEndian.Uint32(body[8:])
		}
		if name == "data" && rate > 0 {
			return float64(size) / float64(rate)
		}
		rest = rest[min(8+size+size%2, int64(len(rest))):]
	}
	return guess
}

// picture returns a PNG of one colour.
func picture(width, height int, seed uint64) []byte {
	paint := color.RGBA{byte(seed), byte(seed >> 8), byte(seed >> 16), 255}
	var buf bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	img := image.NewPaletted(image.Rect(0, 0, width, height), color.Palette{paint})
	if err := encoder.Encode(&buf, img); err != nil {
		panic("modelserver: " + err.Error()) // a buffer takes all
	}
	return buf.Bytes()
}

// film returns the start of an MP4, which no player shows: it is that of one server.
func film(id string) []byte {
	const ftyp = "\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42"
	body := bytes.Repeat([]byte(id+"\n"), 64)
	return append(binary.BigEndian.AppendUint32([]byte(ftyp), uint32(len(body)+8)), append([]byte("mdat"), body...)...)
}
