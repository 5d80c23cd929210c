#!/usr/bin/env python3
"""Makes the files of testdata/files: needs Pillow 11 or later and, for sound and films, ffmpeg by the name in $FFMPEG.

The name of a file says what is in it: sizes as 37x23, lengths as 1.5s.
"""

import os
import pathlib
import struct
import subprocess
import wave

from PIL import Image

out = pathlib.Path(__file__).parent / "files"
out.mkdir(exist_ok=True)


def picture(w, h, mode="RGB"):
    return Image.new(mode, (w, h), {"RGB": (200, 30, 60), "RGBA": (200, 30, 60, 99), "L": 77, "P": 3, "1": 1}[mode])


def save(name, im, **options):
    im.save(out / name, **options)


save("png-rgb-37x23.png", picture(37, 23))
save("png-alpha-1x200.png", picture(1, 200, "RGBA"))
save("png-bits-300x7.png", picture(300, 7, "1"))
save("jpeg-320x240.jpg", picture(320, 240, "L"), quality=1)
save("jpeg-progressive-31x33.jpg", picture(31, 33), progressive=True, quality=5)
save("jpeg-grey-65x17.jpg", picture(65, 17, "L"), quality=5)
exif = Image.Exif()
exif[0x010E] = "x" * 900
exif[0x0112] = 6
save("jpeg-exif-64x48.jpg", picture(64, 48), exif=exif, quality=5, icc_profile=b"p" * 300, comment=b"c" * 50)
save("gif-20x30.gif", picture(20, 30, "P"))
save("gif-animated-21x31.gif", picture(21, 31, "P"), save_all=True, append_images=[picture(21, 31, "P").rotate(0)], duration=50)
save("webp-lossy-37x23.webp", picture(37, 23), quality=5)
save("webp-lossless-301x2.webp", picture(301, 2), lossless=True)
save("webp-alpha-38x24.webp", picture(38, 24, "RGBA"), quality=5)
save("webp-animated-39x25.webp", picture(39, 25), save_all=True, append_images=[picture(39, 25, "L").convert("RGB")], duration=50)
save("bmp-v3-17x19.bmp", picture(17, 19, "1"))
save("tiff-45x12.tif", picture(45, 12, "1"), compression="group4")
save("tiff-raw-46x12.tif", picture(46, 12, "1"))
save("avif-41x27.avif", picture(41, 27), quality=5)

bmp = (out / "bmp-v3-17x19.bmp").read_bytes()
down = bytearray(bmp)
down[22:26] = struct.pack("<i", -19)
(out / "bmp-topdown-17x19.bmp").write_bytes(down)
v5 = bytearray(bmp)
v5[14:18] = struct.pack("<I", 124)
(out / "bmp-v5-17x19.bmp").write_bytes(v5[:54] + bytes(84) + v5[54:])
core = bytearray(bmp[:14]) + struct.pack("<IHHHH", 12, 17, 19, 1, 1) + bytes(6) + bmp[-76:]
(out / "bmp-core-17x19.bmp").write_bytes(core)


def adam7(w, h):
    """An interlaced PNG: Pillow does not write them."""
    import zlib

    rows = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        columns = len(range(x0, w, dx))
        rows += b"".join(b"\0" + bytes(columns) for _ in range(y0, h, dy) if columns)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


(out / "png-interlaced-29x13.png").write_bytes(adam7(29, 13))

for name, rate, width, channels, seconds in (("wav-0.25s.wav", 4000, 1, 1, 0.25), ("wav-stereo-0.125s.wav", 2000, 2, 2, 0.125)):
    with wave.open(str(out / name), "wb") as w:
        w.setnchannels(channels), w.setsampwidth(width), w.setframerate(rate)
        w.writeframes(bytes(int(rate * seconds) * width * channels))

ffmpeg = os.environ.get("FFMPEG")
if ffmpeg:
    tone = lambda seconds, rate: ["-f", "lavfi", "-t", str(seconds), "-i", f"anullsrc=r={rate}:cl=mono"]
    plain = ["-bitexact", "-y"]

    def make(name, *args):
        subprocess.run([ffmpeg, "-loglevel", "error", *args, *plain, str(out / name)], check=True)

    make("mp3-xing-1.5s.mp3", *tone(1.5, 8000), "-b:a", "8k")
    make("mp3-plain-1.5s.mp3", *tone(1.5, 8000), "-b:a", "8k", "-write_xing", "0", "-id3v2_version", "0")
    make("mp3-tagged-1.5s.mp3", *tone(1.5, 8000), "-b:a", "8k", "-write_xing", "0", "-metadata", "title=" + "t" * 40)
    make("flac-3s.flac", *tone(3, 8000))
    flac = out / "flac-3s.flac"
    flac.write_bytes(flac.read_bytes()[:150])  # the rest is room for tags
    make("flac-3s.oga", *tone(3, 8000), "-c:a", "flac", "-f", "ogg")
    make("opus-2.5s.opus", *tone(2.5, 48000), "-c:a", "libopus", "-b:a", "6k")
    make("aac-2s.m4a", *tone(2, 8000), "-b:a", "8k")
    make("fast-2s.m4a", *tone(2, 8000), "-b:a", "8k", "-movflags", "+faststart")
    film = ["-f", "lavfi", "-t", "1", "-i", "color=c=red:s=66x34:r=2"]
    make("film-66x34-1s.mp4", *film, "-c:v", "mpeg4")
    make("film-66x34-1s.mov", *film, "-c:v", "mpeg4", "-movflags", "+faststart")
for f in sorted(out.iterdir()):
    print(f.stat().st_size, f.name)
