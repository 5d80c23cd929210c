// Package media reads from the head of a picture, a sound or a film how large or how long it is, without decoding it.
//
// Formats are told by their first bytes, whatever a name or a type says. What is broken, cut off, empty, or larger than any
// decoder takes, is unknown. However large a file is, and whatever is in it, a few hundred places of it are looked at and
// nothing is allocated.
package media

import "math"

// Kind is what a file is.
type Kind uint8

// Kinds of files. Unknown is everything that is not of a known format.
const (
	Unknown Kind = iota
	Image
	Audio
	Video
)

// Info is what the head of a file says. What is 0 or empty is unknown.
type Info struct {
	Kind          Kind
	Format        string  // png, jpeg, gif, webp, bmp, tiff, avif, heic, wav, mp3, flac, ogg, mp4, …
	Width, Height int     // in pixels, of pictures and films. A picture that is to be turned is as it is stored
	Seconds       float64 // of sound and films
}

// What is beyond these is unknown: Pillow, which servers read pictures with, refuses more pixels, and models refuse longer
// strips. A day of sound is no request.
const (
	maxSide    = 1<<16 - 1
	maxPixels  = 178_956_970
	maxRatio   = 200
	maxSeconds = 24 * 60 * 60
)

// Read reads a file, all of which must be there if a length in seconds is to be found.
func Read(file []byte) Info {
	s := source{data: file, size: len(file), budget: maxWork}
	return s.info()
}

// ReadText reads a file from its base64, in the standard alphabet or that of URLs, or from a data URL, as it stands between the
// quotes of a JSON string: escapes may be in it. Of a text with escapes the first 64 KiB are looked at.
func ReadText(text []byte) Info {
	payload, ok := Payload(text)
	if !ok {
		return Info{}
	}
	s := newText(payload)
	return s.info()
}

// info tells the format.
func (s *source) info() Info {
	var head [headBytes]byte
	n := copy(head[:], s.read(0, min(s.size, headBytes)))
	if n < 12 {
		return Info{}
	}
	for _, f := range formats {
		if match(head[f.at:n], f.magic) {
			return s.readAs(f.format, head[:])
		}
	}
	return Info{}
}

// headBytes is how many bytes all formats are told by. Those that a file has not are 0.
const headBytes = 32

// formats are matched in order. A question mark is any byte.
var formats = [...]struct {
	at     int
	magic  string
	format format
}{
	{0, "\x89PNG\r\n\x1a\n????IHDR", png},
	{0, "\xff\xd8\xff", jpeg},
	{0, "GIF87a", gif},
	{0, "GIF89a", gif},
	{0, "RIFF????WEBPVP8", webp},
	{0, "RIFF????WAVE", wav},
	{0, "RF64????WAVE", wav},
	{0, "RIFF????AVI ", avi},
	{0, "BM", bmp},
	{0, "II*\x00", tiff},
	{0, "MM\x00*", tiff},
	{4, "ftyp", boxes},
	{0, "fLaC", flac},
	{0, "OggS", ogg},
	{0, "\x1a\x45\xdf\xa3", webm},
	{0, "ID3", tagged},
	{0, "\xff", mp3},
}

type format uint8

const (
	png format = iota
	jpeg
	gif
	webp
	bmp
	tiff
	wav
	flac
	ogg
	mp3
	tagged // sound with tags before it
	boxes
	avi
	webm
)

// readAs is a switch, not a table of functions, so that s stays on the stack.
func (s *source) readAs(f format, head []byte) Info {
	switch f {
	case png:
		return readPNG(head)
	case jpeg:
		return readJPEG(s)
	case gif:
		return readGIF(head)
	case webp:
		return readWebP(head)
	case bmp:
		return readBMP(head)
	case tiff:
		return readTIFF(s, head)
	case wav:
		return readWAV(s)
	case flac:
		return readFLAC(s, 0)
	case ogg:
		return readOgg(s, head)
	case mp3:
		return readMP3(s, 0)
	case tagged:
		return readTagged(s, head)
	case boxes:
		return readBoxes(s, head)
	case avi:
		return Info{Kind: Video, Format: "avi"} // of which nothing more is read
	case webm:
		return Info{Kind: Video, Format: "webm"}
	}
	return Info{}
}

func match(head []byte, magic string) bool {
	if len(head) < len(magic) {
		return false
	}
	for i := range len(magic) {
		if magic[i] != '?' && magic[i] != head[i] {
			return false
		}
	}
	return true
}

// picture is the Info of a picture, without its size if no decoder takes it.
func picture(format string, width, height uint32) Info {
	i := Info{Kind: Image, Format: format}
	i.setSize(width, height)
	return i
}

func (i *Info) setSize(width, height uint32) {
	w, h := uint64(width), uint64(height)
	if w == 0 || h == 0 || max(w, h) > maxSide || w*h > maxPixels || max(w, h) > maxRatio*min(w, h) {
		return
	}
	i.Width, i.Height = int(width), int(height)
}

// sound is the Info of so many units at a rate per second.
func sound(format string, units, rate float64) Info {
	return Info{Kind: Audio, Format: format, Seconds: seconds(units, rate)}
}

func seconds(units, rate float64) float64 {
	if s := units / rate; s > 0 && s <= maxSeconds && !math.IsNaN(s) {
		return s
	}
	return 0
}
