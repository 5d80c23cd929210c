package media

import "encoding/binary"

var (
	big    = binary.BigEndian
	little = binary.LittleEndian
)

func readPNG(head []byte) Info {
	return picture("png", big.Uint32(head[16:]), big.Uint32(head[20:]))
}

// readGIF returns the size of the screen, which is that of all its pictures together.
func readGIF(head []byte) Info {
	return picture("gif", uint32(little.Uint16(head[6:])), uint32(little.Uint16(head[8:])))
}

func readWebP(head []byte) Info {
	switch head[15] {
	case ' ': // a key frame of VP8
		if head[20]&1 == 0 && string(head[23:26]) == "\x9d\x01\x2a" {
			return picture("webp", uint32(little.Uint16(head[26:])&0x3fff), uint32(little.Uint16(head[28:])&0x3fff))
		}
	case 'L':
		if bits := little.Uint32(head[21:]); head[20] == 0x2f {
			return picture("webp", 1+bits&0x3fff, 1+bits>>14&0x3fff)
		}
	case 'X':
		return picture("webp", 1+little.Uint32(head[24:])&0xffffff, 1+little.Uint32(head[26:])>>8)
	}
	return picture("webp", 0, 0)
}

func readBMP(head []byte) Info {
	switch little.Uint32(head[14:]) {
	case 12:
		return picture("bmp", uint32(little.Uint16(head[18:])), uint32(little.Uint16(head[20:])))
	case 40, 52, 56, 64, 108, 124:
		width, height := int64(int32(little.Uint32(head[18:]))), int64(int32(little.Uint32(head[22:])))
		if height < 0 { // the first row is at the top
			height = -height
		}
		return picture("bmp", uint32(max(width, 0)), uint32(height))
	}
	return Info{} // two letters are not much to go by
}

// readJPEG walks over what stands before the frame: tables, previews, colour profiles.
func readJPEG(s *source) Info {
	none := picture("jpeg", 0, 0)
	for pos := 2; ; {
		b := s.read(pos, 4)
		if b == nil || b[0] != 0xff {
			return none
		}
		switch m := b[1]; {
		case m == 0xff: // as many as there are
			pos++
		case m == 0x01 || m >= 0xd0 && m <= 0xd7:
			pos += 2
		case m < 0xc0 || m >= 0xd8 && m <= 0xda: // what cannot stand here, the end, or the data
			return none
		case m <= 0xcf && m != 0xc4 && m != 0xc8 && m != 0xcc:
			if b = s.read(pos+5, 4); b == nil {
				return none
			}
			return picture("jpeg", uint32(big.Uint16(b[2:])), uint32(big.Uint16(b)))
		default:
			length := int(big.Uint16(b[2:]))
			if length < 2 {
				return none
			}
			pos += 2 + length
		}
	}
}

// readTIFF reads the first picture's tags.
func readTIFF(s *source, head []byte) Info {
	motorola := head[0] == 'M'
	short := func(b []byte) uint16 {
		if motorola {
			return big.Uint16(b)
		}
		return little.Uint16(b)
	}
	long := func(b []byte) uint32 {
		if motorola {
			return big.Uint32(b)
		}
		return little.Uint32(b)
	}
	info := picture("tiff", 0, 0)
	at := long(head[4:])
	if at > maxOffset {
		return info
	}
	b := s.read(int(at), 2)
	if b == nil {
		return info
	}
	var width, height uint32
	for i := range min(int(short(b)), 64) {
		if b = s.read(int(at)+2+12*i, 12); b == nil {
			return info
		}
		value := uint32(short(b[8:]))
		if short(b[2:]) == 4 {
			value = long(b[8:])
		}
		switch tag := short(b); {
		case tag == 256:
			width = value
		case tag == 257:
			height = value
		case tag > 257: // they are in order
			info.setSize(width, height)
			return info
		}
	}
	return info
}

// maxOffset bounds what a file says of places in it, so that sums of them fit.
const maxOffset = 1 << 30
