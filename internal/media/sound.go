package media

import "bytes"

// readWAV finds how many bytes a second has, and how many there are. A header that was written before the sound was says too
// much or nothing; then all that follows is sound.
func readWAV(s *source) Info {
	rate := uint32(0)
	for pos := 12; ; {
		b := s.read(pos, 8)
		if b == nil {
			return sound("wav", 0, 1)
		}
		id, size := string(b[:4]), big.Uint32([]byte{b[7], b[6], b[5], b[4]})
		if id == "data" {
			rest := s.size - pos - 8
			if size > 0 && int64(size) < int64(rest) {
				rest = int(size)
			}
			return sound("wav", float64(rest), float64(rate))
		}
		if id == "fmt " {
			if b = s.read(pos+16, 4); b == nil {
				return sound("wav", 0, 1)
			}
			rate = little.Uint32(b)
		}
		if size > maxOffset || pos > maxOffset {
			return sound("wav", 0, 1)
		}
		pos += 8 + int(size+size&1)
	}
}

// readFLAC reads what stands first in every stream.
func readFLAC(s *source, at int) Info {
	b := s.read(at+4, 22)
	if b == nil || b[0]&0x7f != 0 {
		return sound("flac", 0, 1)
	}
	rate := big.Uint32(b[14:]) >> 12
	samples := big.Uint64(b[14:]) & (1<<36 - 1)
	return sound("flac", float64(samples), float64(rate))
}

// readOgg takes the time of the last page, which is the length of all of it.
func readOgg(s *source, head []byte) Info {
	none := Info{Kind: Audio, Format: "ogg"}
	serial := little.Uint32(head[14:])
	at := 27 + int(head[26])
	b := s.read(at, 28)
	if b == nil {
		return none
	}
	rate, skip := 0.0, 0.0
	switch {
	case bytes.HasPrefix(b, []byte("OpusHead")):
		rate, skip = 48000, float64(little.Uint16(b[10:]))
	case bytes.HasPrefix(b, []byte("\x01vorbis")):
		rate = float64(little.Uint32(b[12:]))
	case bytes.HasPrefix(b, []byte("\x7fFLAC")):
		if b = s.read(at+9+8+10, 4); b == nil {
			return none
		}
		rate = float64(big.Uint32(b) >> 12)
	case bytes.HasPrefix(b, []byte("\x80theora")):
		return Info{Kind: Video, Format: "ogg"}
	default:
		return none
	}
	if s.escaped {
		return none // its end is not to be found
	}
	s.budget = maxTail / (maxRead - 3) * (maxRead + readCost)
	for end := s.size; end > at; { // from window to window, which overlap by three bytes, so that no mark lies across two
		start := max(end-maxRead, 0)
		b := s.read(start, end-start)
		if b == nil {
			return none
		}
		i := bytes.LastIndex(b, []byte("OggS"))
		if end = start + 3; i >= 0 {
			page := s.read(start+i, 18)
			if page == nil {
				return none
			}
			if granule := little.Uint64(page[6:]); little.Uint32(page[14:]) == serial && granule < 1<<63 {
				return sound("ogg", float64(granule)-skip, rate)
			}
			end += i
		}
	}
	return none
}

// readTagged reads sound that has tags before it, of which pictures may be part.
func readTagged(s *source, head []byte) Info {
	at := 10
	for _, b := range head[6:10] {
		if b >= 0x80 {
			return Info{}
		}
	}
	at += int(head[6])<<21 | int(head[7])<<14 | int(head[8])<<7 | int(head[9])
	b := s.read(at, 4)
	if b == nil {
		return Info{Kind: Audio}
	}
	if string(b) == "fLaC" {
		return readFLAC(s, at)
	}
	if info := readMP3(s, at); info.Kind == Audio {
		return info
	}
	return Info{Kind: Audio}
}

// frame is what the header of a frame of MPEG audio says.
type frame struct {
	bytes, bits, rate, samples int
	info                       int // where a first frame has the number of all
}

// frameAt reads a header. Frames without a bit rate of their own are not read.
func frameAt(b []byte) (f frame, ok bool) {
	if len(b) < 4 || b[0] != 0xff || b[1]&0xe0 != 0xe0 {
		return f, false
	}
	version, layer := b[1]>>3&3, 4-int(b[1]>>1&3) // version 3 is MPEG 1
	rates := [4]int{11025, 0, 22050, 44100}
	index, rate := int(b[2]>>4), int(b[2]>>2&3)
	if version == 1 || layer == 4 || index == 0 || index == 15 || rate == 3 {
		return f, false
	}
	f.rate = [3]int{rates[version], rates[version] * 48000 / 44100, rates[version] * 32000 / 44100}[rate]
	row, mono := layer-1, b[3]>>6 == 3
	f.samples = [3]int{384, 1152, 1152}[row]
	f.info = 36
	if version != 3 {
		row = min(3+row, 4)
		if layer == 3 {
			f.samples = 576
		}
	}
	if (version != 3) != mono {
		f.info = 21
	} else if mono {
		f.info = 13
	}
	f.bits = int(kilobits[row][index]) * 1000
	padding := int(b[2] >> 1 & 1)
	if f.bytes = f.samples/8*f.bits/f.rate + padding; layer == 1 {
		f.bytes = (12*f.bits/f.rate + padding) * 4
	}
	return f, true
}

// kilobits are the rates a second of MPEG 1, layers I to III, then of MPEG 2, layers I, and II and III.
var kilobits = [5][15]uint16{
	{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
	{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
	{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320},
	{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
	{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
}

// readMP3 reads the first frame and, since a few bytes look like one, sees that another follows. Without a number of frames in it
// all are taken to have its bit rate.
func readMP3(s *source, at int) Info {
	f, ok := frameAt(s.read(at, 4))
	if !ok {
		return Info{}
	}
	rest := s.size - at
	if f.bytes < rest {
		if _, ok := frameAt(s.read(at+f.bytes, 4)); !ok {
			return Info{}
		}
	}
	frames := uint32(0)
	if b := s.read(at+f.info, 12); b != nil && (string(b[:4]) == "Xing" || string(b[:4]) == "Info") && b[7]&1 != 0 {
		frames = big.Uint32(b[8:])
	} else if b := s.read(at+36, 18); b != nil && string(b[:4]) == "VBRI" {
		frames = big.Uint32(b[14:])
	}
	if frames > 0 {
		return sound("mp3", float64(frames)*float64(f.samples), float64(f.rate))
	}
	return sound("mp3", float64(rest)*8, float64(f.bits))
}
