package media

// readBoxes reads the formats that consist of boxes: films and sound of MP4 and QuickTime, pictures of AVIF and HEIC.
func readBoxes(s *source, head []byte) Info {
	format := "mp4"
	switch string(head[8:12]) {
	case "avif", "avis":
		format = "avif"
	case "heic", "heix", "heim", "heis", "mif1", "msf1":
		format = "heic"
	}
	b := box{s: s, end: s.size}
	if format != "mp4" {
		info := picture(format, 0, 0)
		b.inside("meta", 4)
		b.inside("iprp", 0)
		b.inside("ipco", 0)
		for b.next() { // of one made of tiles all sizes are there: its own is the largest
			if p := s.read(b.start, 12); b.kind == "ispe" && p != nil {
				one := picture(format, big.Uint32(p[4:]), big.Uint32(p[8:]))
				if one.Width*one.Height > info.Width*info.Height {
					info = one
				}
			}
		}
		return info
	}
	info := Info{Kind: Audio, Format: format}
	b.inside("moov", 0)
	for b.next() {
		switch b.kind {
		case "mvhd":
			info.Seconds = durationOf(s, b.start)
		case "trak":
			track := box{s: s, at: b.start, end: b.stop}
			for track.next() {
				if track.kind == "tkhd" {
					info.setTrack(s, track.start)
				}
			}
		}
	}
	if info.Seconds == 0 && info.Width == 0 {
		info.Kind = Video // which most are
	}
	return info
}

func durationOf(s *source, at int) float64 {
	p := s.read(at, 32)
	switch {
	case p == nil:
	case p[0] == 0 && big.Uint32(p[16:]) != 1<<32-1:
		return seconds(float64(big.Uint32(p[16:])), float64(big.Uint32(p[12:])))
	case p[0] == 1 && big.Uint64(p[24:]) != 1<<64-1:
		return seconds(float64(big.Uint64(p[24:])), float64(big.Uint32(p[20:])))
	}
	return 0
}

// setTrack sets the size to that of a track, if it is seen.
func (i *Info) setTrack(s *source, at int) {
	version := s.read(at, 1)
	if version == nil {
		return
	}
	if at += 76; version[0] == 1 {
		at += 12
	}
	if p := s.read(at, 8); p != nil && big.Uint64(p) != 0 {
		i.Kind = Video
		i.setSize(big.Uint32(p)>>16, big.Uint32(p[4:])>>16)
	}
}

// box walks over the boxes of one level.
type box struct {
	s           *source
	at, end     int // what is left of the level
	kind        string
	start, stop int // of the contents of the box that next has read
}

// next reads a box. It returns false after the last one, and where none can be.
func (b *box) next() bool {
	p := b.s.read(b.at, 8)
	if p == nil || b.end-b.at < 8 {
		return false
	}
	b.kind = kindOf(p[4:8])
	size, header := uint64(big.Uint32(p)), 8
	switch size {
	case 0: // the last one
		size = uint64(b.end - b.at)
	case 1:
		if p = b.s.read(b.at+8, 8); p == nil {
			return false
		}
		size, header = big.Uint64(p), 16
	}
	if size < uint64(header) || size > uint64(b.end-b.at) {
		return false
	}
	b.start, b.stop = b.at+header, b.at+int(size)
	b.at = b.stop
	return true
}

// inside goes into the first box of a kind, past so many bytes in it. If there is none, nothing is left.
func (b *box) inside(kind string, skip int) {
	for b.next() {
		if b.kind == kind {
			b.at, b.end = b.start+skip, b.stop
			return
		}
	}
	b.at, b.end = 0, 0
}

// kindOf is the name of a kind that is looked for, or nothing, so that none is allocated.
func kindOf(name []byte) string {
	for _, kind := range [...]string{"moov", "mvhd", "trak", "tkhd", "meta", "iprp", "ipco", "ispe"} {
		if string(name) == kind {
			return kind
		}
	}
	return ""
}
