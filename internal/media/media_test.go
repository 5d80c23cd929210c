package media

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// files returns those that testdata/make.py has made.
func files(t testing.TB) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob("testdata/files/*")
	require.NoError(t, err)
	all := map[string][]byte{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Less(t, len(data), 2048, path)
		all[filepath.Base(path)] = data
	}
	require.Greater(t, len(all), 30)
	return all
}

var (
	sizeIn   = regexp.MustCompile(`(\d+)x(\d+)`)
	lengthIn = regexp.MustCompile(`([\d.]+)s\.`)
)

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	require.NoError(t, err)
	return v
}

// escaped writes a text as PHP does, and then as .NET.
func escaped(text string) [2]string {
	return [2]string{strings.ReplaceAll(text, "/", `\/`), strings.NewReplacer("+", `\u002B`, "/", `\u002f`, "=", `\u003D`).Replace(text)}
}

func lines(text string) string {
	var b strings.Builder
	for i, c := range []byte(text) {
		if b.WriteByte(c); i%76 == 75 {
			b.WriteString(`\r\n`)
		}
	}
	return b.String()
}

func TestFiles(t *testing.T) {
	formats := map[string]string{".png": "png", ".jpg": "jpeg", ".gif": "gif", ".webp": "webp", ".bmp": "bmp", ".tif": "tiff", ".avif": "avif",
		".wav": "wav", ".mp3": "mp3", ".flac": "flac", ".oga": "ogg", ".opus": "ogg", ".m4a": "mp4", ".mp4": "mp4", ".mov": "mp4"}
	for name, data := range files(t) {
		t.Run(name, func(t *testing.T) {
			got := Read(data)
			require.Equal(t, formats[filepath.Ext(name)], got.Format)
			want := Info{Kind: Audio, Format: got.Format, Seconds: got.Seconds}
			if m := sizeIn.FindStringSubmatch(name); m != nil {
				want.Kind, want.Width, want.Height = Image, int(number(t, m[1])), int(number(t, m[2]))
			}
			if m := lengthIn.FindStringSubmatch(name); m != nil {
				if want.Width > 0 {
					want.Kind = Video
				}
				require.InEpsilon(t, number(t, m[1]), got.Seconds, 0.11)
			} else {
				require.Zero(t, got.Seconds)
			}
			require.Equal(t, want, got)

			std, url := base64.StdEncoding.EncodeToString(data), base64.RawURLEncoding.EncodeToString(data)
			head := "data:image/x;base64,"
			for _, text := range []string{std, url, strings.TrimRight(std, "="), head + std, head + url, "DATA:;BASE64," + std} {
				require.Equal(t, got, ReadText([]byte(text)))
			}
			if strings.HasSuffix(got.Format, "ogg") {
				return
			}
			for _, text := range append([]string{lines(std)}, append(strs(escaped(std)), strs(escaped(head+std))...)...) {
				info := ReadText([]byte(text))
				if got.Seconds > 0 && info.Seconds > 0 { // of text with escapes the size is known about
					require.InEpsilon(t, got.Seconds, info.Seconds, 0.35)
					info.Seconds = got.Seconds
				}
				require.Equal(t, got, info, text)
			}
		})
	}
}

func strs(a [2]string) []string { return a[:] }

func le32(v uint32) string { return string(binary.LittleEndian.AppendUint32(nil, v)) }
func be32(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }
func be16(v uint16) string { return string(binary.BigEndian.AppendUint16(nil, v)) }

func pngOf(w, h uint32) string {
	return "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + be32(w) + be32(h) + "\x08\x02\x00\x00\x00"
}

func jpegFrame(w, h uint16) string {
	return "\xff\xc0\x00\x11\x08" + be16(h) + be16(w) + "\x03" + strings.Repeat("\x00", 9)
}

func segment(n int) string { return "\xff\xe1" + be16(uint16(n+2)) + strings.Repeat("x", n) }

func TestHeads(t *testing.T) {
	const none = "unknown"
	size := func(w, h int) Info { return Info{Width: w, Height: h} }
	wav := func(rate, data uint32, rest int) string {
		return "RIFF" + le32(99) + "WAVEfmt " + le32(16) + "\x01\x00\x01\x00" + le32(8000) + le32(rate) + "\x01\x00\x08\x00" + "LIST" + le32(3) + "abc\x00" +
			"data" + le32(data) + strings.Repeat("\x00", rest)
	}
	mvhd := func(rate, duration uint32) string {
		return be32(20) + "ftypmp42" + be32(0) + "mp42" + be32(8+8+100) + "moov" + be32(108) + "mvhd" + be32(0) + be32(0) + be32(0) + be32(rate) + be32(duration) + strings.Repeat("\x00", 80)
	}
	tests := []struct {
		name, data string
		want       Info // without kind and format
	}{
		{"png", pngOf(1024, 768), size(1024, 768)},
		{"png of no width", pngOf(0, 768), Info{}},
		{"png of 10^9", pngOf(1e9, 1e9), Info{}},
		{"png of all ones", pngOf(1<<32-1, 1<<32-1), Info{}},
		{"png of too many pixels", pngOf(20000, 20000), Info{}},
		{"png of many pixels", pngOf(10000, 10000), size(10000, 10000)},
		{"png as a strip", pngOf(201, 1), Info{}},
		{"png cut off", pngOf(10, 10)[:20], Info{}},
		{"jpeg", "\xff\xd8" + segment(3) + "\xff\xff\xff" + jpegFrame(640, 480)[1:], size(640, 480)},
		{"jpeg with 40 full segments", "\xff\xd8" + strings.Repeat(segment(65533), 40) + jpegFrame(7, 9), size(7, 9)},
		{"jpeg with too many segments", "\xff\xd8" + strings.Repeat(segment(0), 2000) + jpegFrame(7, 9), Info{}},
		{"jpeg whose height comes later", "\xff\xd8" + jpegFrame(640, 0), Info{}},
		{"jpeg with a table only", "\xff\xd8\xff\xc4\x00\x05abc\xff\xd9", Info{}},
		{"jpeg that goes back", "\xff\xd8\xff\xe1\x00\x00\xff\xe1\x00\x01", Info{}},
		{"jpeg without end", "\xff\xd8" + strings.Repeat("\xff", 100_000), Info{}},
		{"webp, not a key frame", "RIFF\x00\x00\x00\x00WEBPVP8 \x00\x00\x00\x00\x01\x00\x00\x9d\x01\x2a\x10\x00\x10\x00\x00\x00", Info{}},
		{"webp, wide", "RIFF\x00\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\xff\x1f\x00\x7f\x00\x00\x00\x00", size(8192, 128)},
		{"bmp of the least height", "BM" + strings.Repeat("\x00", 12) + le32(40) + le32(5) + le32(1<<31) + strings.Repeat("\x00", 9), Info{}},
		{"bmp of a negative width", "BM" + strings.Repeat("\x00", 12) + le32(40) + le32(1<<31) + le32(5) + strings.Repeat("\x00", 9), Info{}},
		{"a text", "BM is a letter, and the next is an N.", Info{}},
		{"tiff, big endian", "MM\x00*" + be32(8) + "\x00\x03" + "\x01\x00\x00\x03\x00\x00\x00\x01\x00\x40\x00\x00" +
			"\x01\x01\x00\x04\x00\x00\x00\x01\x00\x00\x00\x30" + "\x01\x02\x00\x03\x00\x00\x00\x01\x00\x01\x00\x00", size(64, 48)},
		{"tiff elsewhere", "II*\x00" + le32(1<<32-1) + strings.Repeat("\x00", 99), Info{}},
		{"tiff in a circle", "II*\x00" + le32(0) + strings.Repeat("\xff", 99), Info{}},
		{"wav", wav(8000, 4000, 4000), Info{Seconds: 0.5}},
		{"wav, streamed", wav(8000, 1<<32-1, 2000), Info{Seconds: 0.25}},
		{"wav without a length", wav(8000, 0, 2000), Info{Seconds: 0.25}},
		{"wav that says too much", wav(8000, 1<<30, 2000), Info{Seconds: 0.25}},
		{"wav of no rate", wav(0, 4000, 4000), Info{}},
		{"wav that is full", "RIFF\x00\x00\x00\x00WAVE" + strings.Repeat("LIST"+le32(0), 5000), Info{}},
		{"wav that jumps", "RIFF\x00\x00\x00\x00WAVELIST" + le32(1<<32-1) + "data" + le32(7), Info{}},
		{"flac of 0 Hz", "fLaC\x00\x00\x00\x22" + strings.Repeat("\x00", 30), Info{}},
		{"mp3 without a second frame", "\xff\xfb\x90\x00" + strings.Repeat("\x00", 900), Info{}},
		{"utf-16", "\xff\xfe" + strings.Repeat("a\x00", 900), Info{}},
		{"tags that go on", "ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + strings.Repeat("\x00", 100), Info{}},
		{"ogg without a last page", "OggS" + strings.Repeat("\x00", 22) + "\x01\x1eOpusHead\x01\x01" + strings.Repeat("\x00", 50_000), Info{}},
		{"mp4", mvhd(1000, 5000), Info{Seconds: 5}},
		{"mp4 in which nothing is known", mvhd(1000, 1<<32-1), Info{}},
		{"mp4 of no scale", mvhd(0, 5000), Info{}},
		{"mp4 of a year", mvhd(1, 31e6), Info{}},
		{"mp4 of boxes without end", be32(8) + "ftypmp42" + strings.Repeat(be32(8)+"free", 100_000), Info{}},
		{"mp4 of a box of 2^63", be32(16) + "ftypmp42\x00\x00\x00\x00" + be32(1) + "moov\x80\x00\x00\x00\x00\x00\x00\x00\x00", Info{}},
		{none, strings.Repeat("x", 1000), Info{}},
		{"short", "\xff\xd8\xff", Info{}},
		{"nothing", "", Info{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			std := base64.StdEncoding.EncodeToString([]byte(tt.data))
			for _, got := range []Info{Read([]byte(tt.data)), ReadText([]byte(std)), ReadText([]byte("data:image/png;base64," + std))} {
				require.Equal(t, tt.want, Info{Width: got.Width, Height: got.Height, Seconds: got.Seconds})
			}
		})
	}
}

func TestReadText(t *testing.T) {
	image := base64.StdEncoding.EncodeToString([]byte(pngOf(64, 48) + strings.Repeat("\xff\xfe", 500)))
	known := Info{Kind: Image, Format: "png", Width: 64, Height: 48}
	tests := []struct {
		name, text string
		want       Info
	}{
		{"base64", image, known},
		{"another type", "data:image/webp;base64," + image, known},
		{"parameters", "data:image/png;charset=utf-8;base64," + image, known},
		{"no base64", "data:image/svg+xml,%3Csvg%3E", Info{}},
		{"no comma", "data:image/png;base64" + strings.Repeat("A", 999), Info{}},
		{"percents", "data:image/png;base64,%69" + image, Info{}},
		{"a space", " " + image, Info{}},
		{"an address", "https://example.com/a.png", Info{}},
		{"a bad escape", `\` + image, Info{}},
		{"half an escape", image[:8] + `\u00`, Info{}},
		{"an escape of another letter", `\u1f41` + image, Info{}},
		{"no hexadecimal", `\u00zz` + image, Info{}},
		{"an escaped letter", `\u0069` + image[1:], known},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, ReadText([]byte(tt.text)), tt.name)
	}

	// A preview larger than what is looked at of text with escapes, and one that is not.
	for _, segments := range []int{1, 0} {
		photo := "\xff\xd8" + strings.Repeat(segment(60_000), segments) + segment(10_000) + jpegFrame(640, 480)
		quoted, _ := json.Marshal(base64.StdEncoding.EncodeToString([]byte(photo)))
		text := string(quoted[1 : len(quoted)-1])
		require.Equal(t, 640, ReadText([]byte(text)).Width)
		require.Equal(t, segments == 0, ReadText([]byte(`\u002f`[:0]+strings.Replace(text, "4", `\u0034`, 1))).Width == 640)
	}
}

func TestKey(t *testing.T) {
	data := []byte(strings.Repeat("some text in which no two places are quite alike 1234567 ", 60_000))
	keys := map[uint64]int{}
	for n := 0; n < 3000; n += 7 {
		keys[Key(data[:n])] = n
	}
	require.Len(t, keys, 3000/7+1)
	// What others may have kept.
	require.Equal(t, []uint64{0x1402b3d3fba96e19, 0xf3a8f6f112986f74}, []uint64{Key(nil), Key(data)})

	was := Key(data)
	for _, at := range []int{0, len(data) - 1, (len(data)-32)/31*4 + 8} {
		changed := []byte(string(data))
		changed[at] ^= 1
		require.NotEqual(t, was, Key(changed), at)
	}
	require.NotEqual(t, Key(data[:len(data)-1]), was)
	require.NotEqual(t, Join(1, 2), Join(2, 1))
}

func TestNothingIsAllocated(t *testing.T) {
	for name, data := range files(t) {
		text := []byte(escaped(base64.StdEncoding.EncodeToString(data))[0])
		require.Zero(t, testing.AllocsPerRun(20, func() { Read(data); ReadText(text); Key(data) }), name)
	}
}

func FuzzRead(f *testing.F) {
	for _, data := range files(f) {
		f.Add(data)
	}
	f.Add([]byte("\xff\xd8" + segment(7) + jpegFrame(640, 480)))
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(i Info) Info {
			if w, h := i.Width, i.Height; w < 0 || h < 0 || (w == 0) != (h == 0) || w > maxSide || h > maxSide || w*h > maxPixels ||
				!(i.Seconds >= 0 && i.Seconds <= maxSeconds) {
				t.Fatalf("%+v", i)
			}
			return i
		}
		i := check(Read(data))
		std := base64.StdEncoding.EncodeToString(data)
		if got := check(ReadText([]byte(std))); got != i {
			t.Fatalf("as text %+v, as a file %+v", got, i)
		}
		check(ReadText([]byte(escaped(std)[1])))
		check(ReadText(data))
		Key(data)
	})
}

func BenchmarkReadText(b *testing.B) {
	data := []byte("\xff\xd8" + segment(60_000) + segment(300) + jpegFrame(640, 480) + strings.Repeat("\x8f", 2<<20))
	text := []byte(base64.StdEncoding.EncodeToString(data))
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			ReadText(text)
		}
	})
	b.Run("key", func(b *testing.B) {
		for b.Loop() {
			Key(text)
		}
	})
	worst := []byte(base64.StdEncoding.EncodeToString([]byte("\xff\xd8" + strings.Repeat("\xff", 100_000))))
	b.Run("worst", func(b *testing.B) {
		for b.Loop() {
			ReadText(worst)
		}
	})
	escapes := []byte(`\u002f` + string(worst))
	b.Run("worst, with escapes", func(b *testing.B) {
		for b.Loop() {
			ReadText(escapes)
		}
	})
}
